# shellcheck shell=bash
# shellcheck disable=SC2154 # checkout and sudo are set by those who source this
# The version of what is built from this checkout. To be sourced after options.sh.

# Sets version to one that sorts after those of all earlier commits, as docs/contributing.md describes.
find_version() {
    ! is_clone || command -v git >/dev/null ||
        die 1 "there is no git, which tells the version of a clone; first: ${sudo}apt-get install git"
    local release commits hash dirty='' tags=(--tags --match 'v[0-9]*' --exclude '*[!v.0-9]*')
    version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' "$checkout/cni_ipvlan/__init__.py")
    [[ $version =~ ^[0-9]+(\.[0-9]+)*$ ]] ||
        die 1 'cni_ipvlan/__init__.py names no version of numbers and dots'
    is_clone || return 0

    hash=$(run_git rev-parse --quiet --verify --short=12 HEAD) ||
        die 1 'git finds no commit here, which the version is made of'
    [[ -z $(run_git status --porcelain --untracked-files=normal) ]] || dirty=+dirty
    if release=$(run_git describe --exact-match "${tags[@]}" 2>/dev/null); then
        [[ $release == "v$version" || $dirty ]] ||
            die 1 "this commit has the tag $release, but cni_ipvlan/__init__.py names the version $version"
        version=${release#v}$dirty
        return 0
    fi
    if [[ $(run_git rev-parse --is-shallow-repository) == true ]]; then
        version=$version~git0.$hash$dirty
        echo "${0##*/}: in a shallow clone, commits can't be counted: this package upgrades no other; git fetch --unshallow --tags gets them" >&2
        return 0
    fi
    if release=$(run_git describe --abbrev=0 "${tags[@]}" 2>/dev/null); then
        commits=$(run_git rev-list --count "refs/tags/$release..HEAD")
        version=${release#v}+git$commits.$hash$dirty
    else
        commits=$(run_git rev-list --count HEAD)
        version=$version~git$commits.$hash$dirty
    fi
}

is_clone() {
    [[ -e $checkout/.git ]]
}

# Asks about the checkout itself, whoever owns it, and not about a repository that it may lie in.
run_git() {
    git --no-optional-locks --git-dir="$checkout/.git" --work-tree="$checkout" "$@"
}

# Prints when, in seconds since 1970: a build's SOURCE_DATE_EPOCH.
last_change() {
    if is_clone; then
        run_git log -1 --format=%ct
    else
        date -r "$checkout/setup.cfg" +%s
    fi
}
