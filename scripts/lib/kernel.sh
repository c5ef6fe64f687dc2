# shellcheck shell=bash
# Tells whether this machine's own kernel will do. To be sourced.

kernel_has_ipvlan() {
    # shellcheck disable=SC2016
    ((EUID == 0)) && unshare --net sh -c '
        ip link add name lab-master type dummy &&
        ip link add name lab-slave link lab-master type ipvlan' &>/dev/null
}
