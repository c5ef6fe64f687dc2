# shellcheck shell=bash
# shellcheck disable=SC2154 # checkout and install are those of options.sh
# What the scripts that build something have in common. To be sourced.

# shellcheck source=scripts/lib/packages.sh
source "${BASH_SOURCE[0]%/*}/packages.sh"

output=$checkout/dist # or what --output says
suite=trixie          # whose packages go into bundles and images

# Usage: parse_build_options KNOWN ARGUMENT…
parse_build_options() {
    parse_options "--output= $1" "${@:2}"
    [[ ! -e $output || -d $output ]] || die 2 "--output $output: that is not a directory"
    output=$(realpath -m -- "$output")
}

# Usage: fetch_packages ARCHITECTURE DIR PACKAGES [OPTION…]
# Extracts them, whoever calls this, root or not: none of their scripts is run.
fetch_packages() {
    mmdebstrap --quiet --mode=chrootless --skip=check/chrootless --variant=extract \
        --architectures="$1" --include="$3" "${@:4}" "$suite" "$2" </dev/null >&2 ||
        die 1 "cannot fetch the packages of Debian's $suite: mmdebstrap says why"
}

# Usage: archive DIR
archive() {
    (cd "$1" && tar --create --format=gnu --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=root:0 \
        --group=root:0 --mode=a-st,a+rX,u+w,go-w -- *)
}

# Usage: deliver FILE [WORDS]
deliver() {
    mkdir -p -- "$output"
    mv -- "$1" "$output/"
    echo "built $output/${1##*/}${2-}"
}

# Sets version to one that sorts after those of all earlier commits, as docs/contributing.md describes.
find_version() {
    local described release commits commit dirty=''
    version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' "$checkout/cni_ipvlan/__init__.py")
    [[ $version =~ ^[0-9]+(\.[0-9]+)*$ ]] ||
        die 1 'cni_ipvlan/__init__.py names no version of numbers and dots'
    [[ -e $checkout/.git ]] || return 0
    command -v git >/dev/null ||
        die 1 "there is no git, which tells the version of a clone; first: $install git"

    commit=$(find_commit) || die 1 'git finds no commit here, which the version is made of'
    [[ $commit != *+dirty ]] || dirty=+dirty
    if described=$(run_git describe --tags --long --match 'v[0-9]*' --exclude '*[!v.0-9]*' 2>/dev/null); then
        IFS=- read -r release commits _ <<<"${described#v}"
        [[ $commits != 0 || $dirty || $release == "$version" ]] ||
            die 1 "this commit has the tag v$release, but cni_ipvlan/__init__.py names the version $version"
        version=$release$dirty
        ((commits == 0)) || version=$release+git$commits.$commit # which has +dirty already
    elif [[ $(run_git rev-parse --is-shallow-repository) == true ]]; then
        version+="~git0.$commit"
        echo "${0##*/}: in a shallow clone, commits can't be counted: this package upgrades no other; git fetch --unshallow --tags gets them" >&2
    else
        version+="~git$(run_git rev-list --count HEAD).$commit"
    fi
}

# Prints the commit that is checked out, with +dirty behind it if something was changed since.
find_commit() {
    local hash
    hash=$(run_git rev-parse --quiet --verify --short=12 HEAD 2>/dev/null) || return
    [[ -z $(run_git status --porcelain --untracked-files=normal) ]] || hash+=+dirty
    echo "$hash"
}

# Usage: name_commit DIR, a copy of the package; for ipvlan --version
name_commit() {
    local commit
    ! commit=$(find_commit) || echo "$commit" >"$1/commit"
}

# Asks about the checkout itself, whoever owns it, and not about a repository that it may lie in.
run_git() {
    git --no-optional-locks --git-dir="$checkout/.git" --work-tree="$checkout" "$@"
}

# Prints when, in seconds since 1970: a build's SOURCE_DATE_EPOCH.
last_change() {
    run_git log -1 --format=%ct 2>/dev/null || date -r "$checkout/setup.cfg" +%s
}
