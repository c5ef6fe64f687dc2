"""addressing: where addresses and routes come from, and how a previous result is used."""

from typing import Any

from cni_ipvlan.cni.result import Address, Interface, Result, Route
from cni_ipvlan.config import netconf
from cni_ipvlan.iproute import queries
from cni_ipvlan.plugin.addressing import Addressing, addressing_of, is_connected
from cni_ipvlan.plugin.master import Master

SANDBOX = "/run/netns/c"
OUR_LINK = queries.Link(2, "net1", mtu=1500, mac="02:00:00:00:00:01")
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
    return addressing_of(netconf.parse(config, "1.1.0"), MASTER, allocated)


def test_attributes_of_a_route_stay_and_a_narrow_scope_means_no_gateway() -> None:
    for route, gateway in (
        *((Route("10.9.0.0/16", scope=scope), "10.0.0.1") for scope in (0, 252)),
        *((Route("10.9.0.0/16", scope=scope), "") for scope in (253, 254)),  # link, host
        (Route("10.9.0.0/16", "10.0.0.7", 1300, 1260, 5, 100, 0), "10.0.0.7"),
    ):
        got = addressing(ALLOCATED._replace(routes=(route,)))
        assert got.routes == (route._replace(gateway=gateway),)


def test_what_is_there_twice_is_added_once_and_a_route_may_have_no_gateway() -> None:
    allocated = Result(
        addresses=(Address("10.0.0.2/24", interface=0), Address("10.0.0.2/24", interface=1)),
        routes=(Route("10.9.0.0/16"), Route("10.9.0.0/16")),
    )
    got = addressing(allocated)
    assert got.addresses == (Address("10.0.0.2/24"),)
    assert got.routes == (Route("10.9.0.0/16"),)
    assert not got.has_ipv6


def test_other_interfaces_of_the_chain_keep_their_addresses_and_routes() -> None:
    """The master that the chain hands over is none of them; one of its name in a container is."""
    inside = [{"name": name, "sandbox": SANDBOX} for name in ("lo0", "eth0")]
    ips = [
        {"address": "192.168.0.2/24", "interface": 3},
        {"address": "192.168.1.2/24", "interface": 1},
    ]
    interfaces = [{"name": "eth0"}, inside[0], {"name": "veth1"}, inside[1]]
    routes = [{"dst": "192.168.9.0/24"}]
    got = addressing(previous={"interfaces": interfaces, "ips": ips, "routes": routes})
    result = got.result(OUR_LINK, SANDBOX, ["10.0.0.2/24", "fd00::2/64"])
    assert [each.name for each in result.interfaces] == ["lo0", "veth1", "eth0", "net1"]
    assert result.interfaces[3] == Interface("net1", "02:00:00:00:00:01", SANDBOX, 1500)
    assert result.addresses == (
        Address("192.168.0.2/24", interface=2),
        Address("192.168.1.2/24", interface=0),
        Address("10.0.0.2/24", "10.0.0.1", 3),
        Address("fd00::2/64", "fd00::1", 3),
    )
    assert result.routes == (Route("192.168.9.0/24"), *got.routes)
    assert Route("192.168.9.0/24") not in got.routes


def test_dns_is_the_configured_or_the_ipam_plugins_or_the_chains() -> None:
    one, two, three = ({"domain": name} for name in "abc")
    for configured, allocated, previous, expected in (
        (one, two, three, one),
        (None, two, three, two),
        ({"search": []}, {}, three, three),
        (None, {}, None, {}),
    ):
        got = addressing(ALLOCATED._replace(dns=allocated), {"dns": previous}, dns=configured)
        assert got.dns == expected


def test_route_that_the_kernel_makes_by_itself() -> None:
    addresses = addressing().addresses
    subnet = Route("10.0.0.0/24")
    assert all(is_connected(route, addresses) for route in (subnet, Route("fd00::/64")))
    others: list[dict[str, Any]] = [{"gateway": "10.0.0.1"}, {"dst": "10.0.0.0/16"}, {"table": 100}]
    for change in (*others, {"priority": 5}, {"mtu": 1300}):
        assert not is_connected(subnet._replace(**change), addresses)
