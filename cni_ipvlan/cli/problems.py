"""Find every problem in network configurations, with its location."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cni_ipvlan import log_file
from cni_ipvlan.cli.ipam_problems import in_ipam
from cni_ipvlan.cli.problem import slips
from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.cni.result import parse as parse_result
from cni_ipvlan.cni.version import LATEST_VERSION, SUPPORTED_VERSIONS, VERSION_WHEN_ABSENT
from cni_ipvlan.config import netconf
from cni_ipvlan.config.netconf import Fault
from cni_ipvlan.plugin.preflight import LEAST_MTU

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cni_ipvlan.cli.configs import NetworkConfig


def in_all(networks: Sequence[NetworkConfig]) -> Iterator[tuple[NetworkConfig, Fault]]:
    """Yield the problems of each configuration, and the conflicts between them."""
    sound: list[NetworkConfig] = []
    for network in networks:
        found = in_config(network)
        if not any(problem.path[:1] in (("mode",), ("flag",)) for problem in found):
            found += _other_mode(network, sound)
            sound.append(network)
        for problem in found:
            yield network, problem


def in_config(network: NetworkConfig) -> list[Fault]:
    """Return the problems of one configuration."""
    config = network.config
    found = netconf.faults(config)
    broken = {problem.path[:1] for problem in found}
    found += slips(config, netconf.options(), ())
    for check in (_version, _mtu, _log_files, _hardware_address, _previous_result):
        found += check(config)
    if not network.is_chained:
        found += _ipam_is_there(config)
    if ("ipam",) not in broken:
        found += in_ipam(config)
    return found


def _other_mode(network: NetworkConfig, others: Sequence[NetworkConfig]) -> Iterator[Fault]:
    """Yield a conflict with the first configuration that names the same master in another mode."""
    master = _host_master(network)
    other = next((each for each in others if master and _host_master(each) == master), None)
    if other is not None and _mode(other.config) != _mode(network.config):
        yield Fault(
            ("mode",) if "mode" in network.config else (),
            f"the master {master} is used in mode {_mode(network.config)} here and in mode "
            f"{_mode(other.config)} by {other.label} in {other.source}; a master has one mode "
            "and flag",
        )


def _host_master(network: NetworkConfig) -> str:
    master = network.config.get("master")
    in_container = network.config.get("linkInContainer")
    return master if isinstance(master, str) and not in_container else ""


def _mode(config: dict[str, Any]) -> str:
    return f"{config.get('mode') or 'l2'} {config.get('flag') or 'bridge'}"


def _version(config: dict[str, Any]) -> Iterator[Fault]:
    version = config.get("cniVersion")
    if version in (None, ""):
        text = f"cniVersion is not given; that means {VERSION_WHEN_ABSENT}, which has no CHECK"
        yield Fault((), text)
    elif isinstance(version, str) and version not in SUPPORTED_VERSIONS:
        supported = ", ".join(SUPPORTED_VERSIONS)
        yield Fault(("cniVersion",), f"cniVersion is {version!r}; supported: {supported}")


def _mtu(config: dict[str, Any]) -> Iterator[Fault]:
    mtu = config.get("mtu")
    if isinstance(mtu, int) and 0 < mtu < LEAST_MTU:
        yield Fault(("mtu",), f"mtu is {mtu}; it must be {LEAST_MTU} or more, or 0")


def _log_files(config: dict[str, Any]) -> Iterator[Fault]:
    for option in ("logFile", "captureDir"):
        name = config.get(option)
        fault = log_file.fault(name) if name and isinstance(name, str) else ""
        if fault:
            yield Fault((option,), f"{option} is {name!r}; {fault}")


def _hardware_address(config: dict[str, Any]) -> Iterator[Fault]:
    for key in ("runtimeConfig", "capabilities"):
        part = config.get(key)
        if isinstance(part, dict) and part.get("mac"):
            yield Fault(
                (key, "mac"),
                f"{key}.mac asks for a MAC address; an ipvlan interface always has its master's",
            )


def _previous_result(config: dict[str, Any]) -> Iterator[Fault]:
    document = config.get("prevResult")
    if isinstance(document, dict):
        try:
            parse_result(document, str(config.get("cniVersion") or LATEST_VERSION))
        except CniError as error:
            yield Fault(("prevResult",), error.msg)


def _ipam_is_there(config: dict[str, Any]) -> Iterator[Fault]:
    if not netconf.ipam_type(config) and not config.get("prevResult"):
        yield Fault((), "ipam must be given, with a type, unless the plugin is chained")
