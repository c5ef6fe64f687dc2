# shellcheck shell=bash
# shellcheck disable=SC2034 # arguments, sudo and work are for those who source this
# The one way in which the scripts read their options, speak to who called them, and end. To be sourced.

# What is before a command for root in a sentence: nothing for those who are root themselves.
sudo='sudo '
((EUID != 0)) || [[ ${SUDO_USER-} ]] || sudo=''

# Usage: parse_options KNOWN ARGUMENT…
# KNOWN has the names of options, and = behind those that take a value. Calls take_option NAME [VALUE]
# for each that is given, and sets arguments to what follows: the first that is no option, and the rest.
parse_options() {
    local known=" $1 " given
    shift
    while [[ ${1-} == -?* ]]; do
        given=${1%%=*}
        case $1 in
            -h | --help) usage && exit ;;
            --) shift && break ;;
        esac
        if [[ $known == *" $given= "* ]]; then
            if [[ $1 == *=* ]]; then
                set -- "$given" "${1#*=}" "${@:2}"
            fi
            [[ ${2-} ]] || die 2 "$given needs a value"
            take_option "$given" "$2"
            shift
        elif [[ $known == *" $1 "* && $1 != *' '* ]]; then
            take_option "$1"
        else
            die 2 "there is no option $1; --help lists them"
        fi
        shift
    done
    arguments=("$@")
}

# For scripts that take options only.
no_arguments() {
    ((${#arguments[@]} == 0)) || die 2 "there is no argument ${arguments[*]}; --help shows how"
}

# Sets work to a directory that is gone in the end, also after a signal.
make_work() {
    work=$(mktemp -d "${TMPDIR:-/tmp}/${0##*/}.XXXXXX")
    trap 'rm -rf -- "$work"' EXIT
    exit_on_signals
}

# Has what EXIT's trap says done after a signal, too.
exit_on_signals() {
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

# Usage: die STATUS SENTENCE
die() {
    echo "${0##*/}: $2" >&2
    exit "$1"
}
