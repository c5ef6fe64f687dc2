# shellcheck shell=sh
# What the scenarios have in common, which install, use, upgrade and remove the plugin in a root of
# their own, and say what came of each step. To be sourced. What they say goes to descriptor 3.

unset TMPDIR # the caller's, which is not in this root

say() {
    echo "$*" >&3
}

# Usage: tree PATTERN…
# Prints what is in the root: kind, mode, owner and name, size of files, target of links. Left out are
# paths that match a PATTERN.
tree() {
    each "$@" -type f -printf '%y %m %U:%G %p %s\n' -o -printf '%y %m %U:%G %p %l\n' | LC_ALL=C sort
}

# Usage: each PATTERN… EXPRESSION
# Runs find with the EXPRESSION, which starts with the first word that has a dash.
each() (
    set -f
    pruned=-false
    while [ "${1#-}" = "$1" ]; do
        pruned="$pruned -o -path $1"
        shift
    done
    # shellcheck disable=SC2086
    find / -xdev '(' $pruned ')' -prune -o '(' "$@" ')'
)

# Usage: call COMMAND EXECUTABLE [RESULT]
# Calls for eth0 of the namespace c1, with the result of the ADD if CHECK needs it. Takes the IPAM
# plugin from CNI_PATH.
call() {
    CNI_COMMAND=$1 CNI_CONTAINERID=c1 CNI_NETNS=/run/netns/c1 CNI_IFNAME=eth0 "$2" <<TEXT
{"cniVersion": "1.0.0", "name": "net", "type": "ipvlan", "master": "up",
 "ipam": {"type": "host-local", "subnet": "10.1.1.0/24", "dataDir": "/run/leases"},
 "prevResult": ${3:-null}}
TEXT
}
