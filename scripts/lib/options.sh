# shellcheck shell=bash
# shellcheck disable=SC2034 # the variables are for the scripts that source this file
# This is what all scripts have in common; they source it.

PATH=${PATH-}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
checkout=$(realpath -- "${BASH_SOURCE[0]%/*}/../..")
# Messages put these words before a command for root. A user who is root already needs none.
sudo_prefix='sudo '
((EUID != 0)) || [[ ${SUDO_USER-} ]] || sudo_prefix=''
# A fresh machine has no lists of packages yet.
apt_install="${sudo_prefix}apt-get update && ${sudo_prefix}apt-get install"
# pip installs into the scripts' own environments, whatever the caller's configuration says.
export PIP_USER=0 PIP_PREFIX='' PIP_TARGET=''

# Usage: parse_options OPTIONS ARGUMENT…
# OPTIONS has the names of options, with = behind those that take a value, + behind those that may be
# repeated, and … if arguments may follow. For each option this sets the variable of its name to the value
# or to true, or adds the value to that array. The array arguments gets what follows the options.
parse_options() {
    local options=" $1 " option variable
    shift
    while [[ ${1-} == -?* ]]; do
        case $1 in
            -h | --help) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" && exit ;; # the script's first comment
            --) shift && break ;;
        esac
        option=${1%%=*}
        variable=${option#--}
        variable=${variable//-/_}
        if [[ $options == *" $option"[=+]" "* ]]; then
            [[ $1 != *=* ]] || set -- "$option" "${1#*=}" "${@:2}"
            [[ ${2-} ]] || die 2 "$option needs a value"
            if [[ $options == *" $option= "* ]]; then
                printf -v "$variable" %s "$2"
            else
                local -n values=$variable
                values+=("$2")
            fi
            shift
        elif [[ $options == *" $1 "* && $1 != *' '* ]]; then
            printf -v "$variable" true
        else
            die 2 "there is no option $1; --help lists them"
        fi
        shift
    done
    arguments=("$@")
    [[ $options == *' … '* || $# == 0 ]] || die 2 "there is no argument $*; --help shows how"
}

# Makes the directory $work, which is removed when the script ends, also by a signal.
make_work_directory() {
    work=$(mktemp -d "${TMPDIR:-/tmp}/${0##*/}.XXXXXX")
    trap 'rm -rf -- "$work"' EXIT
    exit_on_signals
}

# Makes a signal run the trap of EXIT, too.
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
