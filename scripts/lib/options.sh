# shellcheck shell=bash
# shellcheck disable=SC2034 # arguments, checkout, install, sudo and work are for those who source this
# What all scripts have in common. To be sourced.

PATH=${PATH-}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
checkout=$(realpath -- "${BASH_SOURCE[0]%/*}/../..")
# What is before a command for root in a sentence: nothing for those who are root themselves.
sudo='sudo '
((EUID != 0)) || [[ ${SUDO_USER-} ]] || sudo=''
# A fresh machine knows no package yet.
install="${sudo}apt-get update && ${sudo}apt-get install"

# Usage: parse_options KNOWN ARGUMENT…
# KNOWN has the names of options, with = behind those that take a value, + behind those that may be
# repeated, and … if arguments may follow. Sets the variable of an option's name to its value, or true,
# or adds it to an array; and arguments to the first that is no option, and the rest.
parse_options() {
    local known=" $1 " option variable
    shift
    while [[ ${1-} == -?* ]]; do
        case $1 in
            -h | --help) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" && exit ;; # the script's first comment
            --) shift && break ;;
        esac
        option=${1%%=*}
        variable=${option#--}
        variable=${variable//-/_}
        if [[ $known == *" $option"[=+]" "* ]]; then
            [[ $1 != *=* ]] || set -- "$option" "${1#*=}" "${@:2}"
            [[ ${2-} ]] || die 2 "$option needs a value"
            if [[ $known == *" $option= "* ]]; then
                printf -v "$variable" %s "$2"
            else
                local -n values=$variable
                values+=("$2")
            fi
            shift
        elif [[ $known == *" $1 "* && $1 != *' '* ]]; then
            printf -v "$variable" true
        else
            die 2 "there is no option $1; --help lists them"
        fi
        shift
    done
    arguments=("$@")
    [[ $known == *' … '* || $# == 0 ]] || die 2 "there is no argument $*; --help shows how"
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
