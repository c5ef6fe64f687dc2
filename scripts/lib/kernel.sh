# shellcheck shell=bash
# shellcheck disable=SC2034 # as_root is for those who source this
# Tells whether this machine's own kernel will do, and what user-mode Linux needs here. To be sourced.

# Sets as_root to what has a command run as root. Only on a terminal may that ask for a password.
find_root() {
    as_root=()
    ((EUID != 0)) || return 0
    as_root=(sudo)
    [[ -t 0 ]] || as_root+=(--non-interactive)
}

# Usage: kernel_has_ipvlan [COMMAND…]
# Asks as root, which the caller is, or which the command makes it.
kernel_has_ipvlan() {
    # shellcheck disable=SC2016
    "$@" unshare --net sh -c '
        ip link add name lab-master type dummy &&
        ip link add name lab-slave link lab-master type ipvlan' &>/dev/null
}

# Whether the processor has registers that user-mode Linux 6.12 has no room for (uml-amx-fix.c).
registers_are_wide() {
    grep -q '^flags.* amx_tile' /proc/cpuinfo
}
