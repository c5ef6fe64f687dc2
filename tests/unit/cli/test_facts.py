"""What is reported of a path, from the answers of kernels other than the lab's."""

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest

from cni_ipvlan.cli.connectivity import facts, path, routing
from cni_ipvlan.cli.connectivity.topology import Port, Side
from cni_ipvlan.iproute.namespace import Namespace
from cni_ipvlan.iproute.queries import Address, Link

ENDS: Any = {"source": "10.1.0.2", "target": "10.9.0.1"}
PATH: Any = SimpleNamespace(sides=[None], is_from_vepa=lambda _side: False, **ENDS)


def make_port(strict: int, device: str) -> Port:
    """Return eth0, with that rp_filter, of a host that answers by another interface."""
    side: Any = SimpleNamespace(netns=None, addresses=[], ports={}, entries=lambda *_: [])
    side.get_route = lambda *_, **__: SimpleNamespace(device=device, is_local=False)
    side.read_sysctl = lambda key: strict if "eth0/rp_filter" in key else 1 - ("rp_" in key)
    side.command = lambda *argv: " ".join(argv)
    side.sysctl_command = lambda key, value: f"{key} {value}"
    side.find_sides = lambda _number: []
    side.topology = SimpleNamespace(find_holders=lambda *_: [], children=defaultdict(list))
    return Port(side, Link(2, "eth0"), None, None)


@pytest.mark.parametrize(
    ("strict", "device", "is_blamed"), [(1, "far0", True), (1, "eth0", False), (2, "far0", False)]
)
def test_rp_filter_explains_invalid_argument(strict: int, device: str, *, is_blamed: bool) -> None:
    answer = "RTNETLINK answers: Invalid argument"  # Linux 6.13 and newer
    entry = make_port(strict, device)
    findings = path._explain_failure(entry.side, entry, PATH, answer)
    assert ("rp_filter" in [each.subject for each in findings]) == is_blamed


@pytest.mark.parametrize(
    ("rule", "target", "is_blamed"),
    [
        ({"not": None, "dst": "10.9.0.0", "dstlen": 16}, "10.1.0.3", True),
        ({"not": None, "dst": "10.9.0.0", "dstlen": 16}, "10.9.0.1", False),
        ({"not": None, "fwmark": "0xca6c"}, "10.1.0.3", True),  # as WireGuard has it
        ({"fwmark": "0xca6c"}, "10.1.0.3", False),
        ({"ipproto": "tcp"}, "10.1.0.3", False),
        ({"oif": "lo"}, "10.1.0.3", False),
        ({"iif": "lo"}, "10.1.0.3", True),
        ({"uid_start": 1000, "uid_end": 2000}, "10.1.0.3", False),
        ({"uid_start": 0, "uid_end": 2000}, "10.1.0.3", True),
    ],
)
def test_a_rule_is_blamed_if_it_fits(rule: dict[str, Any], target: str, *, is_blamed: bool) -> None:
    rules = [{"priority": 7, "src": "all", "action": "prohibit", **rule}]
    side: Any = SimpleNamespace(entries=lambda *argv: rules if "rule" in argv else [])
    side.command = lambda *argv: " ".join(argv)
    findings = [*routing.find_blackhole(side, "10.1.0.2", target)]
    assert bool(findings) == is_blamed
    assert all(("not from all" in each.text) == ("not" in rule) for each in findings)


def test_a_route_by_several_gateways_leads_by_each_interface() -> None:
    hops = [{"gateway": f"10.{n}.0.1", "dev": f"eth{n}"} for n in (0, 1)]
    entry = {"dst": "default", "table": "7", "nexthops": hops, "priority": 7, "src": "10.1.0.2"}
    side: Any = SimpleNamespace(entries=lambda *_: [entry], has_address=lambda _address: False)
    found = routing.find_route_by_source(side, "10.1.0.2", "10.9.0.1", "eth1")
    assert found["gateway"] == "10.1.0.1"


def test_an_address_that_another_host_has_is_not_taken_for_none() -> None:
    address = Address("fd00:1::2/64", is_duplicate=True)
    interface = make_port(0, "eth0")
    interface.link = interface.link._replace(addresses=(address,))
    assert [each.subject for each in facts._check_addresses(interface)] == ["duplicate"]


def test_two_tunnels_that_lead_through_each_other_end_nothing() -> None:
    topology: Any = SimpleNamespace(host=SimpleNamespace(ports={}, netns=None))
    side = Side(topology, Namespace("/run/netns/c", "c", (1, 2)))
    for name, parent in (("gre1", "gre2"), ("gre2", "gre1")):
        side.ports[name] = Port(side, Link(0, name, "gre", parent=parent), None, None)
    assert [each.link.name for each in side.ports["gre1"].chain] == ["gre1", "gre2"]
