# shellcheck shell=bash
# Installs Debian packages that are missing, and says whether this machine's own kernel will do. To be
# sourced.

# shellcheck source=scripts/lib/options.sh
source "${BASH_SOURCE[0]%/*}/options.sh"

# Usage: install_packages PACKAGE…
install_packages() {
    local missing as_root
    mapfile -t missing < <(missing_packages "$@")
    ((${#missing[@]})) || return 0
    find_root
    local line="apt-get install --yes --no-install-recommends ${missing[*]}"
    command -v apt-get >/dev/null || die 1 "there is no apt-get to install what is missing: ${missing[*]}"
    ((EUID == 0)) || { command -v sudo >/dev/null && "${as_root[@]}" true; } ||
        die 1 "Debian packages are missing, which only root can install: apt-get update && $line"
    echo 'Debian packages that are missing are installed now:'
    echo "    ${as_root[0]:+sudo }$line"
    # An update that fails may still leave lists that are good enough.
    apt_get update || true
    apt_get install --yes --no-install-recommends "${missing[@]}"
}

# Usage: apt_get ARGUMENT…
# A new machine updates itself when it has started. apt can wait for dpkg's lock then, but not for those
# of its lists and archives.
apt_get() {
    local said waits='' end=$((SECONDS + 300))
    until said=$("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 apt-get -q "$@" 2>&1 >/dev/null); do
        if [[ $said != *'Could not get lock'* ]] || ((SECONDS > end)); then
            echo "$said" >&2
            return 1
        fi
        [[ $waits ]] || echo "waiting for the other apt: ${said%%$'\n'*}" >&2
        waits=true
        sleep 1
    done
    [[ ! $said ]] || echo "$said" >&2
}

# Usage: missing_packages PACKAGE…
missing_packages() {
    local package
    for package; do
        is_installed "$package" || echo "$package"
    done
}

# Usage: refuse_files_of_others CLONE
# Of files that sudo has left there. In build/tmp, those of labs may be root's.
refuse_files_of_others() {
    local file
    [[ -w $1 ]] || die 1 "you may not write to $1; clone it to a directory of yours"
    file=$(find "$1"/{build,.venv} -maxdepth 2 -name tmp -prune -o ! -user "$EUID" -print -quit 2>/dev/null) || true
    [[ ! $file || $EUID == 0 ]] || die 1 "$file belongs to $(stat -c %U "$file"); first: sudo chown -R $(id -un): $(printf %q "$1")"
}

# What a node of the lab needs besides the plugin's own Python packages.
# shellcheck disable=SC2034 # for those who source this
node_packages=(iproute2 python3 python3-venv containernetworking-plugins iputils-ping iputils-arping containerd runc)

# What a package brings, if that is not a program of its name.
declare -A program_of=(
    ["containernetworking-plugins"]=/usr/lib/cni/host-local ["dnsmasq-base"]=dnsmasq ["e2fsprogs"]=mke2fs
    ["iproute2"]=ip ["iputils-ping"]=ping ["kmod"]=modprobe ["libvirt-daemon-system"]=libvirtd
    ["openssh-client"]=ssh ["qemu-system-x86"]=qemu-system-x86_64 ["qemu-user"]=qemu-aarch64
    ["qemu-utils"]=qemu-img ["systemd"]=/lib/systemd/systemd ["user-mode-linux"]=linux.uml
    ["util-linux-extra"]=pivot_root ["xz-utils"]=xz
)

# By what a package brings, so that the same program from elsewhere will do.
is_installed() {
    case $1 in
        iputils-arping) arping -V | grep -q iputils ;; # another package has an arping, too
        python3-venv) /usr/bin/python3 -c 'import ensurepip, venv' ;;
        python3-*) /usr/bin/python3 -I -c "import ${1#python3-}" ;;
        vagrant-libvirt) vagrant plugin list | grep '^vagrant-libvirt ' ;;
        *) command -v "${program_of[$1]:-$1}" ;;
    esac &>/dev/null
}

# Whether there is such a package for this machine. Ubuntu has no user-mode-linux, but knows the name.
is_offered() {
    is_installed "$1" || [[ $(apt-cache show "$1" 2>/dev/null) ]] || ! knows_packages
}

knows_packages() {
    [[ $(apt-get indextargets 'Created-By: Packages' 2>/dev/null) ]]
}

# Prints what scripts/lab-kernel needs on this machine. Its own kernel can't be asked without ip, so
# it gets the other kernel, too.
lab_packages() {
    echo iproute2
    find_root
    if ((EUID == 0)) && kernel_has_ipvlan; then
        return
    fi
    # A new machine can't say what is offered.
    is_installed user-mode-linux || knows_packages || apt_get update 2>/dev/null || true
    if is_offered user-mode-linux; then
        user_mode_packages
    elif [[ $(uname -m) == x86_64 ]] && ! kernel_has_ipvlan; then
        virtual_machine_packages
    fi
}

user_mode_packages() {
    printf '%s\n' user-mode-linux kmod util-linux-extra
    ! registers_are_wide || echo tcc
}

virtual_machine_packages() {
    printf '%s\n' qemu-system-x86 kmod util-linux-extra zstd
}

# Prints the packages with which a node needs no virtual environment, unless one is too old.
python_packages() {
    local name least version
    for name in click jsonschema sh yaml; do
        least=$(sed -En "s/^ *(py)?$name>=([0-9.]+).*/\2/Ip" "$checkout/setup.cfg")
        version=$(LC_ALL=C apt-cache policy "python3-$name" 2>/dev/null | sed -n 's/^ *Candidate: \([0-9]\)/\1/p')
        [[ ! $version ]] || dpkg --compare-versions "$version" ge "$least" || return 0
    done
    printf 'python3-%s\n' click jsonschema sh yaml
}

# Sets as_root to what has a command run as root. Only on a terminal may that ask for a password.
find_root() {
    as_root=()
    ((EUID != 0)) || return 0
    as_root=(sudo)
    [[ -t 0 ]] || as_root+=(--non-interactive)
}

kernel_has_ipvlan() {
    # shellcheck disable=SC2016
    "${as_root[@]}" unshare --net sh -c '
        ip link add name lab-master type dummy &&
        ip link add name lab-slave link lab-master type ipvlan' &>/dev/null
}

# Whether user-mode Linux needs uml-amx-fix.c, which says why.
registers_are_wide() {
    grep -q '^flags.* amx_tile' /proc/cpuinfo
}
