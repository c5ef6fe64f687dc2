"""Roots: directories with another system, from where this machine gets its own packages."""

import platform
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# The suite of this machine.
SUITE = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
USER = "newcomer"
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
APT_SETTING = re.compile(r"Acquire::(https?::Proxy(::\S+)?|Check-\S+|Retries) .*")
PIP_SETTING = re.compile(
    r"^(?:global|:env:)\.((?:extra-)?index-url|trusted-host|proxy|(?:default-)?timeout)='(.*)'$",
    re.MULTILINE,
)
# $1 is the directory, $2 the user, the rest a command.
ENTER_SCRIPT = """
    mount --bind "$1" "$1"
    cd "$1"
    mount -t proc proc proc
    mount -t sysfs sysfs sys
    mount -t tmpfs -o mode=755 tmpfs run
    mkdir -m 1777 run/lock
    mount -t tmpfs -o mode=1777 tmpfs dev/shm
    mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
    user=$2
    shift 2
    pivot_root . mnt # since there are no user namespaces in a chroot
    umount --lazy mnt
    # No exec: this first process ends with the test, and all others with it.
    setpriv --reuid "$user" --regid "$user" --init-groups --reset-env -- "$@"
    exit
"""


class RootError(Exception):
    """A root can't be made here; the message says why."""


@contextmanager
def make_root(directory: Path, suite: str, *options: str) -> Iterator[Path]:
    """Have a root of a suite, with apt and not much more; it is removed in the end."""
    # The root need not outlive a power failure.
    common = ["--variant=minbase", "--dpkgopt=force-unsafe-io"]
    common += [f"--aptopt={setting}" for setting in apt_settings()]
    argv = ["mmdebstrap", *common, *options, suite, str(directory), *sources(suite)]
    try:
        done = subprocess.run(argv, check=False, capture_output=True, text=True)
        if done.returncode:
            reason = re.search("^E: (.*)", done.stderr, re.MULTILINE)
            raise RootError(f"no root of {suite}: {reason[1] if reason else done.stderr}")
        yield directory
    finally:
        if directory.exists():
            shutil.rmtree(directory)


def sources(suite: str) -> list[str]:
    """Return this machine's apt sources of a suite, or of the machine's suite, renamed."""
    form = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
    argv = ("apt-get", "indextargets", "--format", form, "Created-By: Packages")
    indexes = [line.split() for line in subprocess.check_output(argv, text=True).splitlines()]
    releases = {release for _, release, _ in indexes}
    name = suite if suite in releases else SUITE
    return [
        f"deb {uri} {release.replace(name, suite, 1)} {component}"
        for uri, release, component in indexes
        if release == name or (release.startswith(f"{name}-") and suite != "sid")
    ]


def apt_settings() -> list[str]:
    dump = subprocess.check_output(("apt-config", "dump"), text=True).splitlines()
    proxies = urllib.request.getproxies()
    return [f'Acquire::{kind}::Proxy "{proxies[kind]}";' for kind in proxies if "http" in kind] + [
        line for line in dump if APT_SETTING.fullmatch(line)
    ]


def pip_settings() -> list[str]:
    argv = (sys.executable, "-m", "pip", "config", "list")
    settings = dict(PIP_SETTING.findall(subprocess.check_output(argv, text=True)))
    proxies = urllib.request.getproxies()
    if "https" in proxies:
        settings.setdefault("proxy", proxies["https"])
    return [f"{name} = {value}" for name, value in settings.items()]


def add_newcomer(root: Path) -> None:
    """Add a user with sudo and a private home, who reaches the package index as it is done here."""
    subprocess.run(("chroot", root, "useradd", "--create-home", USER), check=True)
    (root / "home" / USER).chmod(0o700)
    rule = root / "etc/sudoers.d" / USER
    rule.write_text(f"{USER} ALL=(ALL) NOPASSWD: ALL\n")
    rule.chmod(0o440)
    shutil.copy("/etc/hosts", root / "etc")
    if Path("/", CERTIFICATES).exists():
        shutil.copy(Path("/", CERTIFICATES), root / CERTIFICATES)
    settings = [f"cert = /{CERTIFICATES}", *pip_settings()]
    (root / "etc/pip.conf").write_text("\n".join(["[global]", *settings, ""]))


def make_newcomer_argv(root: Path, *argv: str) -> list[str]:
    namespaces = ("unshare", "--mount", "--pid", "--ipc", "--fork", "--kill-child")
    return [*namespaces, "sh", "-ec", ENTER_SCRIPT, "sh", str(root), USER, *argv]
