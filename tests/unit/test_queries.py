"""iproute.queries: what ip printed on a real kernel, and what it never should."""

import json
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from itertools import product
from typing import Any

import pytest

from cni_ipvlan.iproute import queries
from cni_ipvlan.iproute.queries import UnreadableAnswerError

# Recorded with iproute2 6.15 on Linux 6.12; attributes that nothing reads are left out.
IN_CONTAINER = (
    b'[{"ifindex":3,"link_index":2,"ifname":"net1","flags":["UP","LOWER_UP"],"mtu":1400,'
    b'"link_type":"ether","address":"c6:65:e5:89:d1:95","link_netnsid":0,'
    b'"linkinfo":{"info_kind":"ipvlan","info_data":{"mode":"l2","private":true}}}]\n'
)
ON_HOST = (
    b'[{"ifindex":4,"link":"eth1000","ifname":"ivsomething","flags":["BROADCAST","MULTICAST"],'
    b'"mtu":1500,"link_type":"ether","address":"c6:65:e5:89:d1:95",'
    b'"linkinfo":{"info_kind":"ipvlan","info_data":{"mode":"l3s","bridge":true}}}]'
)


def test_name_that_needs_care() -> None:
    for printed, name in (
        *((name.encode(), name) for name in ("it's", "a@b", "é", "a\u2003b")),
        (b'a\\"b', 'a"b'),
        # And what ip prints as no JSON should have it.
        *((raw, raw.decode()) for raw in (b"a\x01b", b"a\x1fb", b"a\x7fb")),
        (b"a\xffb", "a\udcffb"),
    ):
        (link,) = queries.links(ON_HOST.replace(b"ivsomething", printed))
        assert link.name == name


def test_routes_are_the_unicast_ones_with_canonical_destinations() -> None:
    printed = (
        b'[{"type":"2","dst":"10.10.10.2","table":"255"},{"type":"5","dst":"ff00::/8"},'
        b'{"type":"1","dst":"10.30.0.1","metric":7},{"dst":"::ffff:5.6.7.0/120"}]'
    )
    routes = [(each.dst, each.table, each.priority) for each in queries.routes(printed)]
    assert routes == [("10.30.0.1/32", 254, 7), (str(ip_network("::ffff:5.6.7.0/120")), 254, 0)]


def test_a_route_with_several_next_hops_is_as_many_routes() -> None:
    hops = '[{"gateway":"10.1.0.1","dev":"a"},{"gateway":"fd00::1","dev":"b"}]'
    routes = queries.routes(f'[{{"dst":"10.0.0.0/8","metric":5,"nexthops":{hops}}}]'.encode())
    assert [each[:5:2] for each in routes] == [("10.0.0.0/8", "a", 5), ("10.0.0.0/8", "b", 5)]
    assert [each.gateway for each in routes] == ["10.1.0.1", "fd00::1"]


def test_a_default_route_that_leads_nowhere_is_none() -> None:
    for printed in ('"type":"7","dev":"lo","metric":1024', '"type":"blackhole","metric":9'):
        assert queries.routes(f'[{{"dst":"default",{printed}}}]'.encode()) == []


READERS: list[Callable[[bytes], Any]] = [queries.links, queries.routes]


@pytest.mark.parametrize("printed", [b"[]", b"[ ]\n", b"", b"\n", b"[{},{}]"])
def test_nothing_is_an_empty_list(printed: bytes) -> None:
    """An empty object is a link that is filtered out; ip prints none for a route."""
    if b"{" not in printed:
        assert queries.routes(printed) == []
    if printed.strip():
        assert queries.links(printed) == []
    else:
        with pytest.raises(UnreadableAnswerError, match="nothing"):
            queries.links(printed)


@pytest.mark.parametrize(
    "printed", [b"2: eth0: <UP> mtu 1500", b"[", b"{}", b'["eth0"]', b"[" * 100_000]
)
def test_answer_that_is_no_list_of_objects_is_unreadable(printed: bytes) -> None:
    for reader in READERS:
        with pytest.raises(UnreadableAnswerError):
            reader(printed)


@pytest.mark.parametrize("key", ["ifindex", "ifname", "mtu", "flags", "link_type"])
def test_link_without_what_every_link_has_is_unreadable(key: str) -> None:
    (entry,) = json.loads(ON_HOST)
    del entry[key]
    with pytest.raises(UnreadableAnswerError, match=r"ivsomething|ipvlan"):
        queries.links(json.dumps([entry]).encode())


# Entries of which every value is used.
LINK: dict[str, Any] = {
    **json.loads(IN_CONTAINER)[0],
    "link": "eth0",
    "master": "br0",
    "altnames": ["enp3s0"],
}
LINK["linkinfo"]["info_slave_kind"] = "bridge"
VEPA = {"info_kind": "ipvlan", "info_data": {"vepa": True}}
ADDRESSED = {"local": "fd00::2", "prefixlen": 64, "tentative": True, "dadfailed": True}
ADDRESSED |= {"scope": "global", "address": "fd00::3"}
ROUTE = {
    "type": "1", "dst": "10.20.0.0/16", "gateway": "10.10.10.1", "dev": "net1", "table": "100",
    "protocol": "3", "scope": "0", "metric": 5, "metrics": [{"mtu": 1300, "advmss": 1200}],
}  # fmt: skip


def paths(value: Any, *prefix: int | str) -> Iterator[tuple[int | str, ...]]:
    inner: Any = enumerate(value) if isinstance(value, list) else getattr(value, "items", tuple)()
    for key, each in inner:
        yield (*prefix, key)
        yield from paths(each, *prefix, key)


USED: list[tuple[Callable[[bytes], Any], dict[str, Any]]] = [
    (queries.links, LINK),
    (queries.links, {**LINK, "linkinfo": VEPA}),
    (queries.links, {**LINK, "addr_info": [ADDRESSED]}),
    (queries.routes, ROUTE),
    (queries.routes, {**ROUTE, "dst": "default"}),
    (queries.routes, {"dst": "default", "metric": 9, "nexthops": [{"dev": "eth1"}]}),
]
OTHER_VALUES: list[Any] = [None, True, 7, 0.5, "", "x", [], [7], {}, {"x": 7}]


@pytest.mark.parametrize(("reader", "entry"), USED)
def test_value_of_another_type_is_unreadable(
    reader: Callable[[bytes], Any], entry: dict[str, Any]
) -> None:
    reader(json.dumps([entry]).encode())
    for (*keys, last), value in product(paths(entry), OTHER_VALUES):
        document = parent = json.loads(json.dumps(entry))
        for step in keys:
            parent = parent[step]
        is_none = value is None and last == "link"  # ip prints null where there is none
        if type(value) is not type(parent[last]) and not is_none:
            parent[last] = value
            with pytest.raises(UnreadableAnswerError):
                reader(json.dumps([document]).encode())


def test_default_routes() -> None:
    assert queries.local_prefixes(b'[{"dst":"default"},{"dst":"10.1.0.2"}]') == ["10.1.0.2"]
    of_ipv6 = dict.fromkeys(('"gateway":"fd00::1"', '"pref":"medium"'), "::/0")
    for attributes, dst in {**of_ipv6, '"scope":"253"': "0.0.0.0/0"}.items():
        (route,) = queries.routes(f'[{{"dst":"default","dev":"eth0",{attributes}}}]'.encode())
        assert route.dst == dst
