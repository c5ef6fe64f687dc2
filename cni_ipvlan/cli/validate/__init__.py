"""Find every problem in network configurations, with its location."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from cni_ipvlan import log_file
from cni_ipvlan.cli import reading
from cni_ipvlan.cli.configs import NetworkConfig
from cni_ipvlan.cli.validate.conflicts import Begin, Masters
from cni_ipvlan.cli.validate.ipam import in_form, in_ipam
from cni_ipvlan.cni import LATEST_VERSION, VERSION_WHEN_ABSENT
from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.cni.result import parse as parse_result
from cni_ipvlan.config import netconf
from cni_ipvlan.config.netconf import Problem
from cni_ipvlan.plugin.master import LEAST_MTU


def in_all(
    networks: Sequence[NetworkConfig], begin: Begin | None = None
) -> Iterator[tuple[NetworkConfig, Problem]]:
    """Yield the problems of each configuration, and the conflicts between them.

    With ``begin``, which begins a transaction, those with this machine's own addresses, too.
    """
    masters = Masters(begin)
    for network in networks:
        found = in_config(network)
        if not any(problem.path[-1:] in (("mode",), ("flag",)) for problem in found):
            is_sound = all(problem.is_warning for problem in found)
            found += _placed(network, masters.conflicts(network, is_sound=is_sound))
        for problem in found:
            yield network, problem


def in_config(network: NetworkConfig) -> list[Problem]:
    """Return the problems of one configuration."""
    config = network.config
    found = netconf.faults(config)
    known = {problem.path for problem in found}
    found += (problem for problem in in_form(config) if problem.path not in known)
    found += _in_options(config, is_chained=bool(network.before))
    if ("ipam",) not in {path[:1] for path in known}:
        found += in_ipam(config)
    repeated = [
        Problem((*path, key), reading.DUPLICATE)
        for path in sorted(network.root.repeated, key=len)
        if network.path[: len(path)] == path or path[: len(network.root_path)] == network.root_path
        for key in network.root.repeated[path]  # plugins differ in which they take
    ]
    return [*repeated, *_placed(network, found)]


def _placed(network: NetworkConfig, found: Iterable[Problem]) -> Iterator[Problem]:
    """Give problems the path in the document."""
    return (each._replace(path=network.place(each.path)) for each in found)


def _in_options(config: dict[str, Any], *, is_chained: bool) -> Iterator[Problem]:
    """Yield what the schema of the options can't express, except for ipam."""
    if config.get("cniVersion") in (None, ""):
        text = f"cniVersion is not given; that means {VERSION_WHEN_ABSENT}, which has no CHECK"
        yield Problem((), text, is_warning=True)
    if not (is_chained or netconf.ipam_type(config) or config.get("prevResult")):
        yield Problem((), "ipam must be given, with a type, unless the plugin is chained")
    mtu = config.get("mtu")
    if isinstance(mtu, int) and 0 < mtu < LEAST_MTU:
        yield Problem(("mtu",), f"mtu is {mtu}; it must be {LEAST_MTU} or more, or 0")
    for option in ("logFile", "captureDir"):
        if (name := config.get(option)) and isinstance(name, str):
            yield from _log_file(option, name)
    if netconf.value_at(config, "capabilities", "mac"):
        text = "capabilities.mac lets pods ask for a MAC address, which ADD refuses"
        yield Problem(("capabilities", "mac"), f"{text}: {netconf.MAC_RULE}")
    if isinstance(config.get("prevResult"), dict):
        try:
            parse_result(config["prevResult"], str(config.get("cniVersion") or LATEST_VERSION))
        except CniError as error:
            yield Problem(("prevResult",), error.msg)


def _log_file(option: str, name: str) -> Iterator[Problem]:
    if fault := log_file.fault(name):
        yield Problem((option,), f"{option} is {name!r}; {fault}")
    elif option == "captureDir":
        text = f"{option} is {name!r}; in {log_file.DIRECTORY}, that directory must exist"
        yield Problem((option,), text, is_warning=True)
