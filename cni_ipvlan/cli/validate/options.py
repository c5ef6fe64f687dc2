"""Problems in the options of a configuration that the schema can't express, except for ipam."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from cni_ipvlan import log_file
from cni_ipvlan.cli.reading.part import Path
from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.cni.result import parse as parse_result
from cni_ipvlan.cni.versions import LATEST_VERSION, SUPPORTED_VERSIONS, VERSION_WHEN_ABSENT
from cni_ipvlan.config import netconf
from cni_ipvlan.plugin.master import LEAST_MTU
from cni_ipvlan.suggest import nearest_first


class Problem(NamedTuple):
    """What is wrong in a configuration, and the path of its place.

    It is an error if something is refused, is ignored, or does harm; it is a warning
    if the network works all the same, or works for some.
    """

    path: Path
    text: str
    is_warning: bool = False


def misspelt(entry: Mapping[str, Any], options: Collection[str], path: Path) -> Iterator[Problem]:
    """Yield the keys that are not options but look like one."""
    for key in entry:
        (name, *_), is_near = nearest_first(key, options)
        if key not in options and is_near:
            yield Problem((*path, key), f"{key} is unknown; did you mean {name}?")


def in_options(config: dict[str, Any], *, is_chained: bool) -> Iterator[Problem]:
    """Yield the problems in options that have the right types."""
    yield from misspelt(config, netconf.options(), ())
    yield from _version(config.get("cniVersion"))
    if not (is_chained or netconf.ipam_type(config) or config.get("prevResult")):
        yield Problem((), "ipam must be given, with a type, unless the plugin is chained")
    mtu = config.get("mtu")
    if isinstance(mtu, int) and 0 < mtu < LEAST_MTU:
        yield Problem(("mtu",), f"mtu is {mtu}; it must be {LEAST_MTU} or more, or 0")
    dns = config.get("dns")
    if isinstance(dns, dict):
        yield from misspelt(dns, netconf.schema()["properties"]["dns"]["properties"], ("dns",))
    for option in ("logFile", "captureDir"):
        yield from _log_file(option, config.get(option))
    capabilities = config.get("capabilities")
    if isinstance(capabilities, dict) and capabilities.get("mac"):
        text = "capabilities.mac lets pods ask for a MAC address, which ADD refuses"
        yield Problem(("capabilities", "mac"), f"{text}: {netconf.MAC_RULE}")
    if isinstance(config.get("prevResult"), dict):
        try:
            parse_result(config["prevResult"], str(config.get("cniVersion") or LATEST_VERSION))
        except CniError as error:
            yield Problem(("prevResult",), error.msg)


def _version(version: object) -> Iterator[Problem]:
    if version in (None, ""):
        text = f"cniVersion is not given; that means {VERSION_WHEN_ABSENT}, which has no CHECK"
        yield Problem((), text, is_warning=True)
    elif isinstance(version, str) and version not in SUPPORTED_VERSIONS:
        supported = ", ".join(SUPPORTED_VERSIONS)
        yield Problem(("cniVersion",), f"cniVersion is {version!r}; supported: {supported}")


def _log_file(option: str, name: object) -> Iterator[Problem]:
    if not name or not isinstance(name, str):
        return
    fault = log_file.fault(name, is_log=option == "logFile")
    inside = name.removeprefix(f"{log_file.DIRECTORY}/")
    needed = inside if option == "captureDir" else inside.rpartition("/")[0]
    if fault:
        yield Problem((option,), f"{option} is {name!r}; {fault}")
    elif needed:
        text = f"{option} is {name!r}; the directory {log_file.DIRECTORY}/{needed} must exist"
        yield Problem((option,), text, is_warning=True)
