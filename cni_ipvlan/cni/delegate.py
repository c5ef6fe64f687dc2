"""Delegation: find an IPAM plugin in CNI_PATH, if it is permitted, and parse its output."""

from __future__ import annotations

import os
from contextlib import suppress

from cni_ipvlan.cni import strict_json
from cni_ipvlan.cni.errors import (
    DELEGATE_FAILED,
    DELEGATE_NOT_FOUND,
    INVALID_CONFIGURATION,
    CniError,
    shortened,
)
from cni_ipvlan.cni.request import Request
from cni_ipvlan.start import signal
from cni_ipvlan.start.namedtuple import TYPE_CHECKING

if TYPE_CHECKING:
    from cni_ipvlan.cni.result import Result

# Set in the environment of a delegate: a plugin that finds it there was called by itself.
DELEGATING = "_CNI_IPVLAN_DELEGATES"
# The IPAM types that root permits, one in a line. Without it: all but INTERFACE_PLUGINS.
PERMITTED = "/etc/cni-ipvlan/ipam-types"
# They attach a container, or change an attached one: the directories plugins/main and plugins/meta
# of github.com/containernetworking/plugins, and two that call others of any name. Asked for
# addresses, they make interfaces, or call the plugin that ipam.type names, themselves, without end.
INTERFACE_PLUGINS = (
    *("bridge", "dummy", "host-device", "ipvlan", "loopback", "macvlan", "ptp", "tap", "vlan"),
    *("bandwidth", "firewall", "portmap", "sbr", "tuning", "vrf"),
    *("flannel", "multus", "multus-shim"),
)
# Known by their names, since k3s has one executable for all plugins.
_IPAM_PLUGINS = ("dhcp", "host-local", "static")
_WRITE_BY_OTHERS = 0o022
_HIGHEST_CODE = 2**32 - 1
BY_HAND = "run it by hand, with the network configuration on its standard input"  # what to try next
_MOST_QUOTED = 200  # characters of a delegate's output that an error quotes


class NotPermittedError(CniError):
    """A plugin is not permitted as an IPAM plugin."""


def environment(request: Request, verb: str) -> dict[str, str]:
    """Return the environment of a delegate: the request's own (SPEC.md, "Delegated plugins")."""
    return {**request.environment, "CNI_COMMAND": verb, DELEGATING: "1"}


def find(plugin: str, path: tuple[str, ...]) -> str:
    """Return the path of the permitted IPAM plugin ``plugin`` in the directories ``path``."""
    check_permitted(plugin, path)
    if executable := _find_executable(plugin, path):
        return executable
    raise _describe_missing(plugin, path)


def check_permitted(plugin: str, path: tuple[str, ...]) -> None:
    """Raise NotPermittedError if a plugin may not be called as an IPAM plugin.

    It is another CniError if that can't be known.
    """
    if not plugin or "/" in plugin or "\0" in plugin or plugin in (".", ".."):
        text = f"{plugin!r} is not the name of a CNI plugin"
        raise NotPermittedError(INVALID_CONFIGURATION, text)
    types, reason = _read_permitted_types(), ""
    if types is not None:
        reason = "" if plugin in types else "which is not an IPAM plugin that root has listed"
    elif plugin not in _IPAM_PLUGINS and (interface_plugin := _find_interface_plugin(plugin, path)):
        prefix = "" if interface_plugin == plugin else f"the plugin {interface_plugin!r} and "
        reason = f"which is {prefix}not an IPAM plugin"
    if reason:
        text = f"ipam.type is {plugin!r}, {reason}; root may permit it in {PERMITTED}"
        raise NotPermittedError(INVALID_CONFIGURATION, text)


def _read_permitted_types() -> list[str] | None:
    """Return the types in root's list; None if there is none. Raises CniError."""
    try:
        # O_NONBLOCK: opening a pipe that has no writer would block.
        descriptor = os.open(PERMITTED, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, encoding="utf-8", errors="surrogateescape") as file:
            status = os.fstat(descriptor)
            if status.st_uid not in (0, os.geteuid()) or status.st_mode & _WRITE_BY_OTHERS:
                text = f"{PERMITTED} must belong to root, and nobody else may write to it"
                raise CniError(INVALID_CONFIGURATION, text)
            lines = [line.partition("#")[0].strip() for line in file]
    except FileNotFoundError:
        return None
    except OSError as error:
        text = f"cannot read {PERMITTED}: {error.strerror}"
        raise CniError(INVALID_CONFIGURATION, text) from None
    return list(filter(None, lines))


def _find_interface_plugin(plugin: str, path: tuple[str, ...]) -> str:
    """Return the name of the interface plugin that a plugin is, or a copy of; empty for none."""
    if plugin in INTERFACE_PLUGINS:
        return plugin
    executable = _find_executable(plugin, path)
    if not executable:
        return ""
    name = os.path.basename(os.path.realpath(executable))
    if name in INTERFACE_PLUGINS:
        return name
    from filecmp import cmp

    for directory in path:
        for name in INTERFACE_PLUGINS:
            with suppress(OSError):
                if cmp(executable, os.path.join(directory, name), shallow=False):
                    return name
    return ""


def _find_executable(plugin: str, path: tuple[str, ...]) -> str:
    """Return the path of an executable; empty if there is none."""
    candidates = (os.path.join(directory, plugin) for directory in path)
    executables = (each for each in candidates if os.path.isfile(each) and os.access(each, os.X_OK))
    return next(executables, "")


def _describe_missing(plugin: str, path: tuple[str, ...]) -> CniError:
    from cni_ipvlan.suggest import nearest_first

    directories, files = [], []
    for directory in path:
        try:
            files += os.listdir(directory)
            directories.append(directory)
        except (OSError, ValueError) as error:
            directories.append(f"{directory} ({getattr(error, 'strerror', error)})")
    names, is_near = nearest_first(plugin, files)
    details = [f"searched: {', '.join(directories)}"]
    if plugin in files:
        details.append(f"found: {plugin} is there, but can't be executed")
    elif is_near:
        details.append(f"did you mean {names[0]!r}?")
    details.append(f"try: install {plugin} into one of these directories, or correct ipam.type")
    what = f"cannot find the plugin {plugin!r} in CNI_PATH"
    return CniError(DELEGATE_NOT_FOUND, what, "\n".join(details), subject="CNI_PATH")


def not_executed(why: str, path: str) -> CniError:
    """Return the error about a plugin that could not be executed; ``why`` is a sentence."""
    what = "install it as built for this machine (uname -m), and the interpreter or loader"
    return CniError(DELEGATE_FAILED, why, f"try: {what} that it needs; file {path} names them")


def check(plugin: str, status: int, stdout: bytes, stderr: bytes) -> None:
    """Raise the CniError that ``plugin`` printed, if it failed; a negative status is a signal."""
    if status:
        what = f"the plugin {plugin!r} {_describe_ending(status)} and printed no CNI error"
        details = _quote_output(stdout, stderr, is_killed=status == -signal.SIGKILL)
        raise _parse_error(stdout) or CniError(DELEGATE_FAILED, what, details)


def result(plugin: str, version: str, status: int, stdout: bytes, stderr: bytes) -> Result:
    """Return the Result that ``plugin`` printed for ADD; raises CniError if it failed."""
    from cni_ipvlan.cni import result as results

    check(plugin, status, stdout, stderr)
    try:
        return results.parse(strict_json.decode(stdout), version)
    except CniError as error:
        what, details = f"an invalid result: {error.msg}", error.details
    except ValueError:
        what, details = "no JSON result", _quote_output(stdout, stderr)
    raise CniError(DELEGATE_FAILED, f"the plugin {plugin!r} printed {what}", details)


def _parse_error(stdout: bytes) -> CniError | None:
    try:
        document = strict_json.decode(stdout)
    except ValueError:
        return None
    is_error = isinstance(document, dict) and document.get("msg")
    if not is_error or type(document.get("code")) is not int:
        return None
    # The plugin failed, but 0 means no error and libcni can't decode a code beyond uint32.
    code = document["code"] if 0 < document["code"] <= _HIGHEST_CODE else DELEGATE_FAILED
    return CniError(code, str(document["msg"]), str(document.get("details", "") or ""))


def _describe_ending(status: int) -> str:
    if status >= 0:
        return f"exited with status {status}"
    from signal import Signals

    try:
        return f"was killed by {Signals(-status).name}"
    except ValueError:  # a real-time signal
        return f"was killed by signal {-status}"


def _quote_output(stdout: bytes, stderr: bytes, *, is_killed: bool = False) -> str:
    lines = ["the kernel may have run out of memory: see dmesg"] if is_killed else []
    for name, output in (("stdout", stdout), ("stderr", stderr)):
        text = shortened(output.decode("utf-8", "replace").strip(), _MOST_QUOTED)
        lines.append(f"its {name}: {text}" if text else f"its {name} was empty")
    return "\n".join(lines)
