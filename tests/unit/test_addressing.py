"""addressing: where addresses and routes come from, and how a previous result is used."""

from __future__ import annotations

from typing import Any

import pytest

from cni_ipvlan.cni import errors
from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.cni.result import Address, Interface, Result, Route
from cni_ipvlan.config import netconf
from cni_ipvlan.iproute import queries
from cni_ipvlan.plugin import codes
from cni_ipvlan.plugin.addressing import Addressing, addressing_of, is_connected
from cni_ipvlan.plugin.master import Master

SANDBOX = "/run/netns/c"
OURS = Interface("net1", "02:00:00:00:00:01", SANDBOX, 1500)
OUR_LINK = queries.Link(2, "net1", mtu=1500, mac="02:00:00:00:00:01")
ALLOCATED = Result(
    addresses=(Address("10.0.0.2/24", "10.0.0.1", 0), Address("fd00::2/64", "fd00::1")),
    routes=(Route("0.0.0.0/0"), Route("10.9.0.0/16", "10.0.0.9"), Route("::/0")),
    dns={"nameservers": ["10.0.0.1"]},
)


def master(name: str = "eth0") -> Master:
    (link,) = queries.links(
        b'[{"ifindex":2,"ifname":"%s","mtu":1500,"flags":["UP"],"link_type":"ether"}]'
        % name.encode()
    )
    return Master(link)


def addressing(
    allocated: Result | None = ALLOCATED,
    previous: dict[str, Any] | None = None,
    **options: Any,
) -> Addressing:
    config = {"name": "net", "type": "ipvlan", "prevResult": previous, **options}
    if allocated is not None:
        config["ipam"] = {"type": "host-local"}
    return addressing_of(netconf.parse(config, "1.1.0"), master(), allocated)


def present(address: str, *, tentative: bool = False, duplicate: bool = False) -> queries.Address:
    return queries.Address(address, is_tentative=tentative, is_duplicate=duplicate)


def test_allocated_addresses_and_routes_go_onto_the_interface() -> None:
    got = addressing()
    assert got.addresses == (
        Address("10.0.0.2/24", "10.0.0.1"),
        Address("fd00::2/64", "fd00::1"),
    )
    assert got.others == Result()


def test_route_without_a_gateway_gets_that_of_an_address_of_its_family() -> None:
    assert addressing().routes == (
        Route("0.0.0.0/0", "10.0.0.1"),
        Route("10.9.0.0/16", "10.0.0.9"),
        Route("::/0", "fd00::1"),
    )


def test_route_stays_without_a_gateway_where_no_address_has_one() -> None:
    allocated = Result(
        addresses=(Address("10.0.0.2/24"), Address("fd00::2/64", "fd00::1")),
        routes=(Route("10.9.0.0/16"),),
    )
    assert addressing(allocated).routes == (Route("10.9.0.0/16"),)


@pytest.mark.parametrize(
    ("scope", "gateway"), [(0, "10.0.0.1"), (252, "10.0.0.1"), (253, ""), (254, "")]
)
def test_route_within_the_link_or_the_host_gets_no_gateway(scope: int, gateway: str) -> None:
    allocated = ALLOCATED._replace(routes=(Route("10.9.0.0/16", scope=scope),))
    assert addressing(allocated).routes == (Route("10.9.0.0/16", gateway, scope=scope),)


def test_attributes_of_a_route_stay() -> None:
    route = Route("10.9.0.0/16", "10.0.0.1", 1300, 1260, 5, 100, 0)
    assert addressing(ALLOCATED._replace(routes=(route,))).routes == (route,)


def test_what_is_there_twice_is_added_once() -> None:
    allocated = Result(
        addresses=(Address("10.0.0.2/24", interface=0), Address("10.0.0.2/24", interface=1)),
        routes=(Route("10.9.0.0/16"), Route("10.9.0.0/16")),
    )
    got = addressing(allocated)
    assert got.addresses == (Address("10.0.0.2/24"),)
    assert got.routes == (Route("10.9.0.0/16"),)


def test_ipam_plugin_that_returns_no_address_is_an_error() -> None:
    with pytest.raises(CniError, match="'host-local' returned no address") as caught:
        addressing(Result(routes=(Route("0.0.0.0/0"),)))
    assert caught.value.code == errors.DELEGATE_FAILED


def test_addresses_of_the_chain_are_taken_where_there_is_no_ipam() -> None:
    got = addressing(
        None,
        {
            "interfaces": [{"name": "eth0"}],
            "ips": [{"address": "10.0.0.2/24", "gateway": "10.0.0.1", "interface": 0}],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dns": {"domain": "a.org"},
        },
    )
    assert got.addresses == (Address("10.0.0.2/24", "10.0.0.1"),)
    assert got.routes == (Route("0.0.0.0/0", "10.0.0.1"),)
    assert got.dns == {"domain": "a.org"}
    assert got.others == Result()


def test_master_that_the_chain_hands_over_is_not_in_the_result() -> None:
    got = addressing(None, {"interfaces": [{"name": "eth0"}]})
    assert got.result(OUR_LINK, SANDBOX, []).interfaces == (OURS,)


def test_interface_in_the_container_is_not_taken_for_a_master_of_its_name_on_the_host() -> None:
    got = addressing(previous={"interfaces": [{"name": "eth0", "sandbox": SANDBOX}]})
    assert [each.name for each in got.others.interfaces] == ["eth0"]


def test_other_interfaces_of_the_chain_keep_their_addresses_and_routes() -> None:
    got = addressing(
        previous={
            "interfaces": [
                {"name": "eth0"},
                {"name": "lo0", "sandbox": SANDBOX},
                {"name": "veth1"},
                {"name": "first", "sandbox": SANDBOX},
            ],
            "ips": [
                {"address": "192.168.0.2/24", "interface": 3},
                {"address": "192.168.1.2/24", "interface": 1},
            ],
            "routes": [{"dst": "192.168.9.0/24"}],
        }
    )
    result = got.result(OUR_LINK, SANDBOX, ["10.0.0.2/24", "fd00::2/64"])
    assert [each.name for each in result.interfaces] == ["lo0", "veth1", "first", "net1"]
    assert result.addresses == (
        Address("192.168.0.2/24", interface=2),
        Address("192.168.1.2/24", interface=0),
        Address("10.0.0.2/24", "10.0.0.1", 3),
        Address("fd00::2/64", "fd00::1", 3),
    )
    assert result.routes[0] == Route("192.168.9.0/24")
    assert result.routes[1:] == got.routes
    assert Route("192.168.9.0/24") not in got.routes


def test_a_missing_address_is_an_error() -> None:
    with pytest.raises(CniError, match="missing: fd00::2/64") as caught:
        addressing().result(OUR_LINK, SANDBOX, ["10.0.0.2/24", "fe80::1/64"])
    assert caught.value.code == codes.COMMAND_FAILED


@pytest.mark.parametrize("address", ["0.0.0.0/0", "0.0.0.0/32", "::/0", "::/128"])
def test_invalid_address_is_blamed_on_its_source(address: str) -> None:
    given = Result(addresses=(Address("10.0.0.2/24"), Address(address)))
    with pytest.raises(CniError, match=f"'host-local' returned {address},") as caught:
        addressing(given)
    assert caught.value.code == errors.DELEGATE_FAILED
    previous = {"cniVersion": "1.1.0", "ips": [{"address": address}]}
    with pytest.raises(CniError, match=f"prevResult has {address},") as caught:
        addressing(None, previous)
    assert caught.value.code == errors.INVALID_CONFIGURATION


@pytest.mark.parametrize(
    ("configured", "allocated", "previous", "expected"),
    [
        ({"domain": "c"}, {"domain": "a"}, {"domain": "p"}, {"domain": "c"}),
        (None, {"domain": "a"}, {"domain": "p"}, {"domain": "a"}),
        ({}, {}, {"domain": "p"}, {"domain": "p"}),
        ({"search": []}, {"domain": "a"}, None, {"domain": "a"}),
        (None, {}, None, {}),
    ],
)
def test_dns_is_the_configured_or_the_ipam_plugins_or_the_chains(
    configured: dict[str, Any] | None,
    allocated: dict[str, Any],
    previous: dict[str, Any] | None,
    expected: dict[str, Any],
) -> None:
    got = addressing(ALLOCATED._replace(dns=allocated), {"dns": previous}, dns=configured)
    assert got.dns == expected


@pytest.mark.parametrize(
    ("options", "mtu", "refusal"),
    [
        ({"mtu": 1280}, 1500, None),
        ({"mtu": 1279}, 1500, "mtu is 1279; IPv6 addresses need 1280 or more"),
        ({}, 1280, None),
        ({}, 1279, "the MTU of the master 'eth0' is 1279; IPv6 addresses need 1280 or more"),
    ],
)
def test_mtu_too_small_for_ipv6_is_refused(
    options: dict[str, Any], mtu: int, refusal: str | None
) -> None:
    config = {"name": "net", "type": "ipvlan", **options}
    conf = netconf.parse(config, "1.1.0")
    small = master()._replace(link=master().link._replace(mtu=mtu))
    if refusal is None:
        addressing_of(conf, small, ALLOCATED)
    else:
        with pytest.raises(CniError) as caught:
            addressing_of(conf, small, ALLOCATED)
        assert caught.value.code == errors.INVALID_CONFIGURATION
        assert caught.value.msg == refusal
    only_ipv4 = ALLOCATED._replace(addresses=ALLOCATED.addresses[:1])
    addressing_of(conf, small, only_ipv4)


def test_ipv6_is_noticed() -> None:
    assert addressing().has_ipv6
    assert not addressing(Result(addresses=(Address("10.0.0.2/24"),))).has_ipv6


def test_duplicate_detection_is_about_our_addresses_alone() -> None:
    got = addressing()
    on_link = [
        present("10.0.0.2/24"),
        present("fd00::2/64", tentative=True),
        present("fe80::1/64", tentative=True),
    ]
    assert got.tentative(on_link) == ["fd00::2/64"]
    assert got.duplicates(on_link) == []


def test_duplicate_is_no_longer_tentative() -> None:
    got = addressing()
    on_link = [
        present("fd00::2/64", tentative=True, duplicate=True),
        present("fe80::1/64", duplicate=True),
    ]
    assert got.tentative(on_link) == []
    assert got.duplicates(on_link) == ["fd00::2/64"]


@pytest.mark.parametrize(
    ("route", "connected"),
    [
        (Route("10.0.0.0/24"), True),
        (Route("10.0.0.0/24", "10.0.0.1"), False),
        (Route("fd00::/64"), True),
        (Route("10.0.0.0/16"), False),
        (Route("10.0.0.0/24", table=100), False),
        (Route("10.0.0.0/24", priority=5), False),
        (Route("10.0.0.0/24", mtu=1300), False),
    ],
)
def test_route_that_the_kernel_makes_by_itself(
    route: Route,
    connected: bool,  # noqa: FBT001
) -> None:
    assert is_connected(route, addressing().addresses) is connected
