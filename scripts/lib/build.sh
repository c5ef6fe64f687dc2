# shellcheck shell=bash
# shellcheck disable=SC2154 # options.sh sets checkout and apt_install
# This is what the scripts that build something have in common; they source it.

# shellcheck source=scripts/lib/packages.sh
source "${BASH_SOURCE[0]%/*}/packages.sh"

output=$checkout/dist # the default of --output
suite=trixie          # the release of Debian whose packages go into bundles and images

# Usage: parse_build_options OPTIONS ARGUMENT…
parse_build_options() {
    parse_options "--output= $1" "${@:2}"
    [[ ! -e $output || -d $output ]] || die 2 "--output $output: that is not a directory"
    output=$(realpath -m -- "$output")
}

# Usage: fetch_packages ARCHITECTURE DIR PACKAGES [OPTION…]
# Extracts the packages without running their scripts, so that this needs no root.
fetch_packages() {
    mmdebstrap --quiet --mode=chrootless --skip=check/chrootless --variant=extract \
        --architectures="$1" --include="$3" "${@:4}" "$suite" "$2" </dev/null >&2 ||
        die 1 "cannot fetch the packages of Debian's $suite: mmdebstrap says why"
}

# Usage: archive_directory DIR
archive_directory() {
    (cd "$1" && tar --create --format=gnu --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=root:0 \
        --group=root:0 --mode=a-st,a+rX,u+w,go-w -- *)
}

# Usage: deliver_file FILE [WORDS]
# Moves it to the directory of --output, and prints that, with WORDS at the end.
deliver_file() {
    mkdir -p -- "$output"
    mv -- "$1" "$output/"
    echo "built $output/${1##*/}${2-}"
}

# Sets version to one that sorts after those of all earlier commits, as docs/contributing.md describes.
find_version() {
    local description release commits commit dirty=''
    version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' "$checkout/cni_ipvlan/__init__.py")
    [[ $version =~ ^[0-9]+(\.[0-9]+)*$ ]] ||
        die 1 'cni_ipvlan/__init__.py names no version of numbers and dots'
    [[ -e $checkout/.git ]] || return 0
    command -v git >/dev/null ||
        die 1 "there is no git, which tells the version of a clone; first: $apt_install git"

    commit=$(find_commit) || die 1 'git finds no commit here, which the version is made of'
    [[ $commit != *+dirty ]] || dirty=+dirty
    if description=$(run_git describe --tags --long --match 'v[0-9]*' --exclude '*[!v.0-9]*' 2>/dev/null); then
        IFS=- read -r release commits _ <<<"${description#v}"
        [[ $commits != 0 || $dirty || $release == "$version" ]] ||
            die 1 "this commit has the tag v$release, but cni_ipvlan/__init__.py names the version $version"
        version=$release$dirty
        ((commits == 0)) || version=$release+git$commits.$commit # $commit ends with +dirty already
    elif [[ $(run_git rev-parse --is-shallow-repository) == true ]]; then
        version+="~git0.$commit"
        echo "${0##*/}: in a shallow clone, commits can't be counted: this package upgrades no other; git fetch --unshallow --tags gets them" >&2
    else
        version+="~git$(run_git rev-list --count HEAD).$commit"
    fi
}

# Prints the hash of the commit that is checked out, with +dirty behind it if the files differ from it.
find_commit() {
    local hash
    hash=$(run_git rev-parse --quiet --verify --short=12 HEAD 2>/dev/null) || return
    [[ -z $(run_git status --porcelain --untracked-files=normal) ]] || hash+=+dirty
    echo "$hash"
}

# Usage: write_commit DIR
# In DIR, a copy of the package, this writes the file that ipvlan --version reads the commit from.
write_commit() {
    local commit
    ! commit=$(find_commit) || echo "$commit" >"$1/commit"
}

# Usage: run_git ARGUMENT…
# Makes git use the checkout itself, whoever owns it, and no repository that has the checkout in it.
run_git() {
    git --no-optional-locks --git-dir="$checkout/.git" --work-tree="$checkout" "$@"
}

# Prints the time of the last commit in seconds since 1970, for a build's SOURCE_DATE_EPOCH.
print_commit_time() {
    run_git log -1 --format=%ct 2>/dev/null || date -r "$checkout/setup.cfg" +%s
}
