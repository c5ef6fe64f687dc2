"""Problems in the options of a configuration that the schema can't express, except for ipam."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cni_ipvlan import log_file
from cni_ipvlan.cli.validate.problem import Problem, misspelt
from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.cni.result import parse as parse_result
from cni_ipvlan.cni.versions import LATEST_VERSION, SUPPORTED_VERSIONS, VERSION_WHEN_ABSENT
from cni_ipvlan.config import netconf
from cni_ipvlan.plugin.master import LEAST_MTU

if TYPE_CHECKING:
    from collections.abc import Iterator

DNS = ("nameservers", "domain", "search", "options")


def in_options(config: dict[str, Any]) -> Iterator[Problem]:
    """Yield the problems in options that have the right types."""
    yield from misspelt(config, netconf.options(), ())
    for check in (_version, _mtu, _dns, _log_files, _hardware_address, _previous_result):
        yield from check(config)


def ipam_is_there(config: dict[str, Any]) -> Iterator[Problem]:
    """Yield that ipam is missing where no other plugin gives addresses."""
    if not netconf.ipam_type(config) and not config.get("prevResult"):
        yield Problem((), "ipam must be given, with a type, unless the plugin is chained")


def _dns(config: dict[str, Any]) -> Iterator[Problem]:
    dns = config.get("dns")
    if isinstance(dns, dict):
        yield from misspelt(dns, DNS, ("dns",))


def _version(config: dict[str, Any]) -> Iterator[Problem]:
    version = config.get("cniVersion")
    if version in (None, ""):
        text = f"cniVersion is not given; that means {VERSION_WHEN_ABSENT}, which has no CHECK"
        yield Problem((), text, is_warning=True)
    elif isinstance(version, str) and version not in SUPPORTED_VERSIONS:
        supported = ", ".join(SUPPORTED_VERSIONS)
        yield Problem(("cniVersion",), f"cniVersion is {version!r}; supported: {supported}")


def _mtu(config: dict[str, Any]) -> Iterator[Problem]:
    mtu = config.get("mtu")
    if isinstance(mtu, int) and 0 < mtu < LEAST_MTU:
        yield Problem(("mtu",), f"mtu is {mtu}; it must be {LEAST_MTU} or more, or 0")


def _log_files(config: dict[str, Any]) -> Iterator[Problem]:
    for option in ("logFile", "captureDir"):
        name = config.get(option)
        if not name or not isinstance(name, str):
            continue
        fault = log_file.fault(name)
        if fault:
            yield Problem((option,), f"{option} is {name!r}; {fault}")
        elif option == "captureDir":
            path = f"{log_file.DIRECTORY}/{name.removeprefix(f'{log_file.DIRECTORY}/')}"
            text = f"{option} is {name!r}; the directory {path} must exist"
            yield Problem((option,), text, is_warning=True)


def _hardware_address(config: dict[str, Any]) -> Iterator[Problem]:
    capabilities = config.get("capabilities")
    if isinstance(capabilities, dict) and capabilities.get("mac"):
        text = "capabilities.mac lets pods ask for a MAC address, which ADD refuses"
        text += f": {netconf.MAC_RULE}"
        yield Problem(("capabilities", "mac"), text)


def _previous_result(config: dict[str, Any]) -> Iterator[Problem]:
    document = config.get("prevResult")
    if isinstance(document, dict):
        try:
            parse_result(document, str(config.get("cniVersion") or LATEST_VERSION))
        except CniError as error:
            yield Problem(("prevResult",), error.msg)
