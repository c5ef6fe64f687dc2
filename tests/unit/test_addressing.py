"""addressing: where addresses and routes come from, and how a previous result is used."""

import time
from typing import Any

from cni_ipvlan.cni.result import Address, Result, Route
from cni_ipvlan.config import netconf
from cni_ipvlan.iproute import queries
from cni_ipvlan.plugin.addressing import Addressing, connected_routes, make_addressing
from cni_ipvlan.plugin.master import Master

ALLOCATED = Result(
    addresses=(Address("10.0.0.2/24", "10.0.0.1", 0), Address("fd00::2/64", "fd00::1")),
    routes=(Route("0.0.0.0/0"), Route("10.9.0.0/16", "10.0.0.9"), Route("::/0")),
    dns={"nameservers": ["10.0.0.1"]},
)


MASTER = Master(queries.Link(2, "eth0", mtu=1500, is_up=True, is_ethernet=True))


def addressing(
    allocated: Result | None = ALLOCATED, previous: dict[str, Any] | None = None, **options: Any
) -> Addressing:
    config = {"name": "net", "type": "ipvlan", "prevResult": previous, **options}
    if allocated is not None:
        config["ipam"] = {"type": "host-local"}
    return make_addressing(netconf.parse(config, "1.1.0"), MASTER, allocated)


def test_attributes_of_a_route_stay_and_a_narrow_scope_means_no_gateway() -> None:
    for route, gateway in (
        *((Route("10.9.0.0/16", scope=scope), "10.0.0.1") for scope in (0, 252)),
        *((Route("10.9.0.0/16", scope=scope), "") for scope in (253, 254)),  # link, host
        (Route("10.9.0.0/16", "10.0.0.7", 1300, 1260, 5, 100, 0), "10.0.0.7"),
    ):
        result = addressing(ALLOCATED._replace(routes=(route,)))
        assert result.routes == (route._replace(gateway=gateway),)


def test_what_is_there_twice_is_added_once_and_a_route_may_have_no_gateway() -> None:
    allocated = Result(
        addresses=(Address("10.0.0.2/24", interface=0), Address("10.0.0.2/24", interface=1)),
        routes=(Route("10.9.0.0/16"), Route("10.9.0.0/16")),
    )
    result = addressing(allocated)
    assert result.addresses == (Address("10.0.0.2/24"),)
    assert result.routes == (Route("10.9.0.0/16"),)
    assert not result.has_ipv6


def test_dns_is_the_configured_or_the_ipam_plugins_or_the_chains() -> None:
    first, second, third = ({"domain": name} for name in "abc")
    for configured, allocated, previous, expected in (
        (first, second, third, first),
        (None, second, third, second),
        ({"search": []}, {}, third, third),
        (None, {}, None, {}),
    ):
        result = addressing(ALLOCATED._replace(dns=allocated), {"dns": previous}, dns=configured)
        assert result.dns == expected


def test_thousands_of_other_interfaces_and_addresses_are_sorted_in_a_moment() -> None:
    count = 16_000  # as many as a configuration of 1 MiB has room for
    interfaces = [{"name": "other", "sandbox": "/"}] * count
    ips = [{"address": "10.0.0.2/24", "interface": count - 1}] * count
    start = time.process_time()
    result = addressing(previous={"interfaces": [{"name": "eth0"}, *interfaces], "ips": ips})
    assert result.others.addresses == (Address("10.0.0.2/24", interface=count - 2),) * count
    subnets = [f"10.{each >> 8}.{each & 255}" for each in range(count)]
    addresses = tuple(Address(f"{each}.2/24") for each in subnets)
    routes = tuple(Route(f"{each}.128/25") for each in subnets)
    assert addressing(Result(addresses=addresses, routes=routes)).routes == routes
    assert time.process_time() - start < 4  # of the processor, however busy the machine is


def test_route_that_the_kernel_makes_by_itself() -> None:
    addresses, subnet = addressing().addresses, Route("10.0.0.0/24")
    assert len(connected_routes([subnet, Route("fd00::/64")], addresses)) == 2
    for dst, address in (("0.0.0.0/0", "10.0.0.2/0"), ("10.0.0.2/32", "10.0.0.2/32")):
        assert not connected_routes([Route(dst)], [Address(address)])
    cases: list[dict[str, Any]] = [{"gateway": "10.0.0.1"}, {"dst": "10.0.0.0/16"}, {"table": 100}]
    for change in (*cases, {"priority": 5}, {"mtu": 1300}):
        assert not connected_routes([subnet._replace(**change)], addresses)
