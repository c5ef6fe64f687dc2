# shellcheck shell=bash
# Installs missing Debian packages, and tells whether this machine's kernel has ipvlan. Scripts source this.

# shellcheck source=scripts/lib/options.sh
source "${BASH_SOURCE[0]%/*}/options.sh"

# Usage: install_packages PACKAGE…
install_packages() {
    local missing_packages as_root command
    mapfile -t missing_packages < <(find_missing_packages "$@")
    ((${#missing_packages[@]})) || return 0
    find_sudo
    command="apt-get install --yes --no-install-recommends ${missing_packages[*]}"
    command -v apt-get >/dev/null || die 1 "there is no apt-get to install what is missing: ${missing_packages[*]}"
    echo "Debian packages are missing: ${as_root[0]:+sudo }$command" >&2
    ((EUID == 0)) || { command -v sudo >/dev/null && "${as_root[@]}" true; } ||
        die 1 "only root can install them: apt-get update && $command"
    # If the update fails, the lists of the last one may still suffice.
    apt_get update || true
    apt_get install --yes --no-install-recommends "${missing_packages[@]}"
}

# Usage: apt_get ARGUMENT…
# A new machine updates itself first. apt-get can wait for dpkg's lock, but not for those of lists and archives.
apt_get() {
    local errors is_waiting=false deadline=$((SECONDS + 300))
    until errors=$("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 apt-get -q "$@" 2>&1 >/dev/null); do
        if [[ $errors != *'Could not get lock'* ]] || ((SECONDS > deadline)); then
            echo "$errors" >&2
            return 1
        fi
        $is_waiting || echo "waiting for the other apt: ${errors%%$'\n'*}" >&2
        is_waiting=true
        sleep 1
    done
    [[ ! $errors ]] || echo "$errors" >&2
}

# Usage: find_missing_packages PACKAGE…
find_missing_packages() {
    local package
    for package; do
        is_installed "$package" || echo "$package"
    done
}

# Usage: check_file_owners CLONE
# Refuses a clone in which sudo has left files of root's. Those of labs in build/tmp do no harm.
check_file_owners() {
    local file
    [[ -w $1 ]] || die 1 "you may not write to $1; clone it to a directory of yours"
    file=$(find "$1"/{build,.venv} -maxdepth 2 -name tmp -prune -o ! -user "$EUID" -print -quit 2>/dev/null) || true
    [[ ! $file || $EUID == 0 ]] || die 1 "$file belongs to $(stat -c %U "$file"); first: sudo chown -R $(id -un): $(printf %q "$1")"
}

# The packages that a node of the lab needs, and those of the Python packages that the plugin needs.
# shellcheck disable=SC2034 # the scripts that source this file use it
node_packages=(iproute2 python3 python3-venv containernetworking-plugins iputils-ping iputils-arping containerd runc)
python_packages=(python3-click python3-jsonschema python3-sh python3-yaml)

# The program or file of each package that has no program of its own name.
declare -A package_programs=(
    ["containernetworking-plugins"]=/usr/lib/cni/host-local ["dnsmasq-base"]=dnsmasq ["e2fsprogs"]=mke2fs
    ["iproute2"]=ip ["iputils-ping"]=ping ["kmod"]=modprobe ["libvirt-daemon-system"]=libvirtd
    ["openssh-client"]=ssh ["qemu-system-x86"]=qemu-system-x86_64 ["qemu-user"]=qemu-aarch64
    ["qemu-utils"]=qemu-img ["systemd"]=/lib/systemd/systemd ["user-mode-linux"]=linux.uml
    ["util-linux-extra"]=pivot_root ["xz-utils"]=xz
)

# Usage: is_installed PACKAGE
# Looks for what the package contains, since the same program from another source suffices.
is_installed() {
    case $1 in
        iputils-arping) arping -V | grep -q iputils ;; # another package has an arping, too
        python3-venv) /usr/bin/python3 -c 'import ensurepip, venv' ;;
        python3-*) /usr/bin/python3 -I -c "import ${1#python3-}" ;;
        vagrant-libvirt) vagrant plugin list | grep '^vagrant-libvirt ' ;;
        *) command -v "${package_programs[$1]:-$1}" ;;
    esac &>/dev/null
}

# Usage: is_offered PACKAGE
# Whether apt can install it on this machine. Ubuntu's apt knows the name user-mode-linux, without a package.
is_offered() {
    is_installed "$1" || [[ $(apt-cache show "$1" 2>/dev/null) ]] || ! apt_has_lists
}

apt_has_lists() {
    [[ $(apt-get indextargets 'Created-By: Packages' 2>/dev/null) ]]
}

# Prints the packages that scripts/lab-kernel needs on this machine. While ip is missing, kernel_has_ipvlan
# fails, so that the packages of another kernel are among them.
list_lab_packages() {
    echo iproute2
    find_sudo
    ((EUID != 0)) || ! kernel_has_ipvlan || return 0
    # On a new machine, apt has no lists of what it can install.
    is_installed user-mode-linux || apt_has_lists ||
        { echo 'fetching the lists of Debian packages' >&2 && apt_get update 2>/dev/null; } || true
    if is_offered user-mode-linux; then
        printf '%s\n' "${user_mode_packages[@]}"
    elif [[ $(uname -m) == x86_64 ]] && ! kernel_has_ipvlan; then
        printf '%s\n' "${virtual_machine_packages[@]}"
    fi
}

# Prints python_packages, or nothing if apt has one of them only in a version that is too old.
list_python_packages() {
    local package minimum version
    for package in "${python_packages[@]}"; do
        minimum=$(sed -En "s/^ *(py)?${package#python3-}>=([0-9.]+).*/\2/Ip" "$checkout/setup.cfg")
        version=$(LC_ALL=C apt-cache policy "$package" 2>/dev/null | sed -n 's/^ *Candidate: \([0-9]\)/\1/p')
        [[ ! $version ]] || dpkg --compare-versions "$version" ge "$minimum" || return 0
    done
    printf '%s\n' "${python_packages[@]}"
}

# Sets as_root to the words before a command for root. On a terminal, sudo may ask for a password.
find_sudo() {
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

# On such a processor, user-mode Linux needs uml-amx-fix.c, which says why.
cpu_has_amx() {
    grep -q '^flags.* amx_tile' /proc/cpuinfo
}

# The packages that scripts/lab-kernel needs for user-mode Linux, and for a virtual machine.
user_mode_packages=(user-mode-linux kmod util-linux-extra)
! cpu_has_amx || user_mode_packages+=(tcc)
virtual_machine_packages=(qemu-system-x86 kmod util-linux-extra zstd)
