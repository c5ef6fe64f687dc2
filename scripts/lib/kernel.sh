# shellcheck shell=bash
# Tells whether this machine's own kernel will do, and what user-mode Linux needs here. To be sourced.

kernel_has_ipvlan() {
    # shellcheck disable=SC2016
    ((EUID == 0)) && unshare --net sh -c '
        ip link add name lab-master type dummy &&
        ip link add name lab-slave link lab-master type ipvlan' &>/dev/null
}

# Whether the processor has registers that user-mode Linux 6.12 has no room for (whole-registers.c).
registers_are_wide() {
    grep -q '^flags.* amx_tile' /proc/cpuinfo
}
