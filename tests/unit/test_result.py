"""cni.result: results of every version, read and written."""

from typing import Any

import pytest

from cni_ipvlan.cni import SUPPORTED_VERSIONS, errors
from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.cni.result import Address, Interface, Result, Route, parse, render

BY_FAMILY = ("0.1.0", "0.2.0")
WITH_FAMILY = ("0.3.0", "0.3.1", "0.4.0")
LATEST = "1.1.0"

FULL = Result(
    interfaces=(
        Interface("host0", "02:00:00:00:00:01"),
        Interface("net1", "02:00:00:00:00:02", "/run/netns/blue", 1400, "/run/sock", "0000:1f.6"),
    ),
    addresses=(Address("10.10.10.2/24", "10.10.10.1", 1), Address("fd00::2/64", "fd00::1", 1)),
    routes=(
        Route("0.0.0.0/0", "10.10.10.1", 1300, 1260, 5, 100, 0),
        Route("10.20.0.0/16"),
        Route("::/0", "fd00::1"),
    ),
    dns={"nameservers": ["10.10.10.1"], "domain": "example.org"},
)

# What SPEC.md's examples of each version look like.
IPV4_ROUTES = [{"dst": "0.0.0.0/0", "gw": "10.10.10.1"}, {"dst": "10.20.0.0/16"}]
IPV6_ROUTES = [{"dst": "::/0", "gw": "fd00::1"}]
DOCUMENTS: dict[str, dict[str, Any]] = {
    version: {
        "ip4": {"ip": "10.10.10.2/24", "gateway": "10.10.10.1", "routes": IPV4_ROUTES},
        "ip6": {"ip": "fd00::2/64", "gateway": "fd00::1", "routes": IPV6_ROUTES},
    }
    for version in BY_FAMILY
}
for _version in (*WITH_FAMILY, "1.0.0", LATEST):
    DOCUMENTS[_version] = {
        "interfaces": [
            {"name": "host0", "mac": "02:00:00:00:00:01"},
            {"name": "net1", "mac": "02:00:00:00:00:02", "sandbox": "/run/netns/blue"},
        ],
        "ips": [
            {"interface": 1, "address": "10.10.10.2/24", "gateway": "10.10.10.1"},
            {"interface": 1, "address": "fd00::2/64", "gateway": "fd00::1"},
        ],
        "routes": [*IPV4_ROUTES, *IPV6_ROUTES],
    }
for _version in WITH_FAMILY:
    for _number, _entry in enumerate(DOCUMENTS[_version]["ips"]):
        _entry["version"] = "46"[_number]
NEW_KEYS = {"mtu": 1400, "socketPath": "/run/sock", "pciID": "0000:1f.6"}
DOCUMENTS[LATEST]["interfaces"][1] |= NEW_KEYS
ATTRIBUTES = {"mtu": 1300, "advmss": 1260, "priority": 5, "table": 100, "scope": 0}
DOCUMENTS[LATEST]["routes"][0] = {**IPV4_ROUTES[0], **ATTRIBUTES}
for _version, _document in DOCUMENTS.items():
    _document["cniVersion"] = _version
    _document["dns"] = {"nameservers": ["10.10.10.1"], "domain": "example.org"}


@pytest.mark.parametrize("version", SUPPORTED_VERSIONS)
def test_result_is_written_and_read_as_its_version_prescribes(version: str) -> None:
    document = dict(DOCUMENTS[version])
    assert render(FULL, version) == document
    result = parse(document, "1.0.0")
    assert render(result, version) == document
    assert result == FULL or version != LATEST
    del document["cniVersion"]
    assert parse(document, version) == parse({**document, "cniVersion": ""}, version) == result
    empty = render(Result(), version)
    assert not {"dns", "routes"} & empty.keys()
    assert parse(empty, version) == Result()


def test_null_stands_for_absent() -> None:
    document = {
        "interfaces": [{"name": "a", "mac": None, "sandbox": None, "mtu": None}],
        "ips": [{"address": "10.0.0.1/8", "gateway": None, "interface": None}],
        "routes": None,
    }
    nulls: dict[str, Any] = {"nameservers": None, "search": [], "domain": ""}
    for dns in (None, nulls):
        result = parse({**document, "dns": dns}, LATEST)
        assert result == Result((Interface("a"),), (Address("10.0.0.1/8"),))


def test_first_address_of_each_family_is_taken_where_there_is_room_for_one() -> None:
    result = Result(
        addresses=(Address("fd00::1/64"), Address("10.0.0.1/8"), Address("10.0.0.2/8")),
        routes=(Route("::/0"), Route("10.9.0.0/16")),
    )
    assert render(result, "0.2.0") == {
        "cniVersion": "0.2.0",
        "ip4": {"ip": "10.0.0.1/8", "routes": [{"dst": "10.9.0.0/16"}]},
        "ip6": {"ip": "fd00::1/64", "routes": [{"dst": "::/0"}]},
    }


def test_addresses_come_out_in_canonical_form() -> None:
    addresses = [{"address": "FD00:0:0::0002/64", "gateway": "fd00::0:1"}]
    routes = [{"dst": "10.1.2.3/8", "gw": ""}, {"dst": "FD01::1/48"}]
    result = parse({"ips": addresses, "routes": routes}, "1.0.0")
    assert result.addresses == (Address("fd00::2/64", "fd00::1"),)
    assert result.routes == (Route("10.0.0.0/8"), Route("fd01::/48"))


@pytest.mark.parametrize("version", ["9.9.9", 5, {"1.0.0": 1}])
def test_result_of_an_unknown_version_is_refused(version: object) -> None:
    with pytest.raises(CniError, match="cniVersion") as excinfo:
        parse({"cniVersion": version}, "1.0.0")
    assert excinfo.value.code == errors.INCOMPATIBLE_VERSION
    assert "1.1.0" in excinfo.value.details


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (None, "it is not a JSON object"),
        ([], "it is not a JSON object"),
        ({"interfaces": {}}, "interfaces is {}; a list is needed"),
        ({"interfaces": ["net1"]}, 'interfaces holds "net1"; JSON objects are needed'),
        ({"interfaces": [{"name": 1}]}, "name is 1; a string is needed"),
        ({"interfaces": [{"mtu": 2**32}]}, "a whole number from 0 to 4294967295"),
        ({"routes": [{"dst": "10.6.0.0/16", "scope": 256}]}, "a whole number from 0 to 255"),
        ({"ips": "10.0.0.1/8"}, 'ips is "10.0.0.1/8"; a list is needed'),
        ({"ips": [{}]}, "ips[].address is null; an address with a prefix length is needed"),
        ({"ips": [{"address": "fe80::1%eth0/64"}]}, "length without a zone is needed"),
        ({"ips": [{"address": "10.0.0.1/8", "gateway": "gw"}]}, 'gateway is "gw"; an address is'),
        ({"ips": [{"address": "10.0.0.1/8", "gateway": 1}]}, "gateway is 1; an address"),
        ({"ips": [{"address": "10.0.0.1/8", "gateway": "fd00::1"}]}, "two address families"),
        ({"ips": [{"address": "10.0.0.1/8", "interface": "0"}]}, 'interface is "0"; a whole'),
        ({"routes": [{}]}, "routes[].dst is null; a prefix is needed"),
        ({"routes": [{"dst": "default"}]}, 'routes[].dst is "default"; a prefix is needed'),
        ({"routes": [{"dst": "::/0", "gw": "10.0.0.1"}]}, "two address families"),
        ({"routes": [{"dst": "::/0", "priority": "5"}]}, 'priority is "5"; a whole number'),
        ({"dns": []}, "dns is []; a JSON object is needed"),
        ({"dns": {"nameservers": "10.0.0.53"}}, 'nameservers is "10.0.0.53"; a list is needed'),
        ({"dns": {"search": ["a", 5]}}, "search of dns holds 5; strings are needed"),
        ({"dns": {"domain": ["a"]}}, 'domain is ["a"]; a string is needed'),
        ({"cniVersion": "0.2.0", "ip4": []}, "ip4 is []; a JSON object is needed"),
        ({"cniVersion": "0.2.0", "ip6": {"gateway": "::1"}}, "ip6.ip is null; an address"),
        ({"cniVersion": "0.2.0", "ip6": {"ip": "::2/8", "routes": 1}}, "routes is 1; a list"),
    ],
)
def test_malformed_result_is_refused_with_what_is_wrong(document: object, message: str) -> None:
    with pytest.raises(CniError) as excinfo:
        parse(document, "1.0.0")
    assert excinfo.value.code == errors.DECODING_FAILURE
    assert excinfo.value.msg.startswith("cannot decode the result: ")
    assert message in excinfo.value.msg
