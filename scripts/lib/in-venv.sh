# shellcheck shell=bash
# Runs a command with the project of this checkout installed, also in a fresh clone. Scripts source this.

# shellcheck source=scripts/lib/packages.sh
source "${BASH_SOURCE[0]%/*}/packages.sh"

build=$checkout/build
sources=(cni_ipvlan packaging scripts/ipvlan setup.cfg pyproject.toml MANIFEST.in README.md LICENSE)

# Usage: exec_in_venv [--lab] PACKAGE… -- COMMAND…
# First installs the Debian packages that are missing, with --lab also those that scripts/lab-kernel needs,
# and the project into build/venv, whose commands come first in the command's PATH.
exec_in_venv() {
    local packages=(python3 python3-venv) lock
    if [[ $1 == --lab ]]; then
        mapfile -t -O "${#packages[@]}" packages < <(list_lab_packages)
        shift
    fi
    while [[ $1 != -- ]]; do
        packages+=("$1") && shift
    done
    check_file_owners "$checkout"
    install_packages "${packages[@]}" >&2
    mkdir -p "$build"
    # The command shares the lock while it runs, so that no other script replaces build/venv meanwhile.
    exec {lock}>"$build/venv.lock"
    flock --shared "$lock"
    if ! venv_is_current; then
        flock "$lock"
        venv_is_current || install_project >&2
        flock --shared "$lock"
    fi
    PATH=$build/venv/bin:$PATH exec "${@:2}"
}

venv_is_current() {
    [[ $(print_fingerprint) == "$(cat "$build/venv/fingerprint" 2>/dev/null)" ]]
}

# When this changes, the project has to be installed again.
print_fingerprint() (
    cd "$checkout" || exit
    echo "$(/usr/bin/python3 -V) $PWD $(find "${sources[@]}" -type f -not -path '*/__pycache__/*' \
        -exec sha256sum {} + | sort | sha256sum)"
)

# pip builds from a copy, since a build leaves files beside the sources.
install_project() {
    echo 'installing the project into build/venv'
    rm -rf "$build"/{venv,venv-source}
    mkdir "$build/venv-source"
    (cd "$checkout" && cp -r --parents -- "${sources[@]}" "$build/venv-source")
    { /usr/bin/python3 -m venv "$build/venv" &&
        "$build/venv/bin/python" -m pip --quiet --disable-pip-version-check install "$build/venv-source"; } ||
        die 1 'the project could not be installed: see above. It takes a package index for pip, and room on the disk'
    rm -rf "$build/venv-source"
    print_fingerprint >"$build/venv/fingerprint"
}
