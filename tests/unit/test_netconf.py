"""netconf: every option, its values, its default, and the message for a mistake; similar names."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_ipvlan.cni import errors
from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.cni.result import Interface
from cni_ipvlan.config import netconf
from cni_ipvlan.config.netconf import NetConf, find_suspicious_keys, ipam_type, parse
from cni_ipvlan.suggest import nearest_first

DEFAULTS = NetConf(
    "net", "", "l2", "bridge", 0, "", link_in_container=False, check_ipv4_conflict=False, dns=None,
    prev_result=None,
)  # fmt: skip
LONG = "{0} … 50 characters left out … {0}".format("x" * 39)
MAC = 'args.cni.mac asks for the MAC address "::"; an ipvlan interface always has its master\'s'
VIA = {"hostAccess": True}
IN_CONTAINER = {"linkInContainer": True}
ON_HOST = "needs a master on the host"


def config(**options: Any) -> dict[str, Any]:
    return {"cniVersion": "1.0.0", "name": "net", "type": "ipvlan", **options}


def find_message(options: dict[str, Any]) -> str:
    with pytest.raises(CniError) as excinfo:
        parse(options, "1.0.0")
    assert excinfo.value.code == errors.INVALID_CONFIGURATION
    return excinfo.value.msg


def test_least_configuration_gets_the_defaults() -> None:
    assert parse(config(), "1.0.0") == DEFAULTS


def test_full_configuration_is_taken_over() -> None:
    changes: dict[str, Any] = {"master": "eth1000", "mode": "l3s", "flag": "private", "mtu": 1400}
    ignored = {"runtimeConfig": {"ips": []}, "args": {"cni": {}}, "somebodyElses": [1]}
    document = config(
        **changes,
        **ignored,
        ipam={"type": "static", "addresses": [{"address": "10.10.10.2/24"}]},
        linkInContainer=True,
        checkIPv4Conflict=True,
        dns={"nameservers": ["10.0.0.1"], "domain": "", "search": [], "options": None},
        prevResult={"interfaces": [{"name": "eth0"}]},
        capabilities={"ips": True},
    )
    conf = parse(document, "1.0.0")
    assert conf.prev_result is not None
    assert conf.prev_result.interfaces == (Interface("eth0"),)
    changes |= {"ipam_type": "static", "link_in_container": True, "check_ipv4_conflict": True}
    changes |= {"dns": {"nameservers": ["10.0.0.1"]}, "prev_result": conf.prev_result}
    assert conf == DEFAULTS._replace(**changes)


def test_allowed_values() -> None:
    for option, values in {
        "mode": ("l2", "l3", "l3s"),
        "flag": ("bridge", "private", "vepa"),
        "mtu": (0, 68, 1500, 65535),
        "master": ("a@b", "x" * 127),
        "ipam": ({}, {"type": "host-local"}),
        **dict.fromkeys(("dns", "runtimeConfig", "args", "capabilities", "unknown"), ({},)),
    }.items():
        for value in values:
            parse(config(**{option: value}), "1.0.0")
    mtu = parse(config(mtu=1400.0), "1.0.0").mtu
    assert (mtu, type(mtu)) == (1400, int)


TEXTS = ("cniVersion", "master", "mode", "flag", "logFile", "logLevel", "captureDir")


@pytest.mark.parametrize(
    "options",
    [
        *({option: value} for option in TEXTS for value in (None, "")),
        *({option: None} for option in ("mtu", "ipam", "linkInContainer", "dns", "prevResult")),
        # These are no requests for a MAC address.
        {"runtimeConfig": {"mac": ""}, "args": {"cni": {"mac": None}, "mac": "02::1"}},
        {"runtimeConfig": "mac", "args": {"cni": ["mac"]}},
    ],
    ids=str,
)
def test_null_the_empty_string_and_others_options_mean_the_default(options: dict[str, Any]) -> None:
    assert parse(config(**options), "1.0.0") == parse(config(), "1.0.0")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"type": "macvlan"}, 'type is "macvlan"; allowed: ipvlan'),
        ({"master": 5}, "master is 5; it must be a string or a list"),
        ({"master": []}, "master is []; it must have an entry"),
        ({"master": ["e*"] * 33}, "master has 33 entries; 32 are allowed"),
        ({"master": ["eth0", 5]}, "master.1 is 5; it must be a string"),
        ({"master": ["eth0", ""]}, 'master.1 is ""; it is empty'),
        ({"master": ["eth0", "a/*"]}, "master.1 is \"a/*\"; '/' is not allowed in it"),
        ({"master": ["x" * 128]}, f'master.0 is "{LONG}"; it has 128 bytes; 127 are allowed'),
        ({"master": "eth%d"}, 'master is "eth%d"; the kernel treats % as a pattern'),
        ({"mode": ["l2"]}, 'mode is ["l2"]; allowed: l2, l3, l3s'),
        ({"flag": "isolated"}, 'flag is "isolated"; allowed: bridge, private, vepa'),
        ({"mtu": 65536}, "mtu is 65536; it must be 65535 or less"),
        ({"mtu": "1500"}, 'mtu is "1500"; it must be a whole number'),
        ({"mtu": float("inf")}, "mtu is Infinity; it must be a whole number"),
        ({"args": {"cni": {"mac": "::"}}}, MAC),
        ({"ipam": []}, "ipam is []; it must be a JSON object"),
        ({"ipam": {"type": 5}}, "ipam.type is 5; it must be a string"),
        ({"linkInContainer": "true"}, 'linkInContainer is "true"; it must be true or false'),
        ({"dns": {"domain": 1}}, "dns.domain is 1; it must be a string"),
        ({"dns": {"nameservers": [1]}}, "dns.nameservers.0 is 1; it must be a string"),
        ({"prevResult": []}, "prevResult is []; it must be a JSON object"),
        (
            {"hostAccess": True, "flag": "vepa"},
            'hostAccess needs the flag bridge; "vepa" keeps interfaces apart',
        ),
        (
            {"hostAccess": True, **IN_CONTAINER},
            f"hostAccess {ON_HOST}; with linkInContainer it is in the container",
        ),
        ({"vlan": 5, **IN_CONTAINER}, f"vlan {ON_HOST}; linkInContainer is set"),
        ({"routesViaHost": ["10.96.0.0/12"]}, "routesViaHost needs hostAccess"),
        ({**VIA, "routesViaHost": "x"}, 'routesViaHost is "x"; it must be a list'),
        (
            {**VIA, "routesViaHost": ["fd00::/112", "10.96.0.1/12"]},
            'routesViaHost.1 is "10.96.0.1/12"; did you mean 10.96.0.0/12?',
        ),
        ({**VIA, "routesViaHost": ["::/0"]}, 'routesViaHost.0 is "::/0"; a default route is for'),
        ({**VIA, "routesViaHost": ["fd00::%1/64"]}, 'routesViaHost.0 is "fd00::%1/64"; it must'),
        ({**VIA, "routesViaHost": ["x"]}, 'routesViaHost.0 is "x"; it must be a subnet such as'),
        ({"name": "a b"}, 'name is "a b"; it must start with a letter or digit, followed by '),
        ({"ipam": {"type": "a/b"}}, 'ipam.type is "a/b"; it must be the name of a plugin, which '),
    ],
)
def test_wrong_value_is_refused_with_what_is_allowed(options: dict[str, Any], message: str) -> None:
    assert find_message(config(**options)).startswith(message)


def test_master_is_one_or_several() -> None:
    for master, one, several in (
        *((one, "eth0", ()) for one in ("eth0", ["eth0"])),
        *((none, "", ()) for none in ("", None)),
        *((pattern, "", (pattern,)) for pattern in ("ens*", "eth?", "eth[0-3]")),
        (["eth0", "ens*"], "", ("eth0", "ens*")),
    ):
        conf = parse(config(master=master), "1.0.0")
        assert (conf.master, conf.masters) == (one, several)


def test_every_fault_is_named() -> None:
    message = find_message(config(mode="l4", mtu=-1, flag="x", master="a b"))
    assert message.split("; ") == [
        *('flag is "x"', "allowed: bridge, private, vepa", 'mode is "l4"', "allowed: l2, l3, l3s"),
        *("mtu is -1", "it must be 0 or more"),
        *('master is "a b"', "' ' is not allowed in it"),
    ]


def test_required_option_that_is_missing_is_named_once() -> None:
    assert find_message({}) == "name and type must be given"
    assert find_message({"name": "net"}) == "type must be given"
    assert find_message(config(ipam={"type": "../sh"})).startswith('ipam.type is "../sh"; ')


def test_prev_result_is_read_in_the_configurations_version_unless_it_names_its_own() -> None:
    by_family = {"ip4": {"ip": "10.0.0.1/8"}}
    conf = parse({**config(), "prevResult": by_family}, "0.2.0")
    assert conf.prev_result is not None
    assert conf.prev_result.addresses[0].address == "10.0.0.1/8"
    with_version = {"cniVersion": "0.2.0", **by_family}
    assert parse(config(prevResult=with_version), "1.0.0").prev_result == conf.prev_result
    for document, code in (
        ({"ips": 5}, errors.DECODING_FAILURE),
        ({"cniVersion": "8.0.0"}, errors.INCOMPATIBLE_VERSION),
    ):
        with pytest.raises(CniError, match=r"^prevResult: ") as excinfo:
            parse(config(prevResult=document), "1.0.0")
        assert excinfo.value.code == code


def test_ipam_type_is_found_in_invalid_configurations_too() -> None:
    assert {ipam_type({"ipam": ipam}) for ipam in ({"type": 5}, {}, None, "static")} == {""}
    assert ipam_type({}) == ""
    assert ipam_type({"ipam": {"type": "static"}, "mode": "l9", "mtu": []}) == "static"


def test_misspelt_options_are_suspicious_and_other_keys_are_not() -> None:
    slips = {"node": "mode", "linkincontainer": "linkInContainer"}
    slips |= dict.fromkeys(("mtuu", "mt", "mut", "MTU"), "mtu")
    slips |= dict.fromkeys(("masters", "amster"), "master")
    for key, option in slips.items():
        assert find_suspicious_keys(config(**{key: 1})) == [(key, option)]
    other_keys = [
        "", "m", "mutt", "masters2", "retsam", "bridge", "vlan", "logFile", "kubeconfig", "plugins",
        "delegates", "cni.dev/valid-attachments", "disableCheck", "isGateway", "x" * 1000,
    ]  # fmt: skip
    keys = [*netconf.load_schema()["properties"], *other_keys]
    assert find_suspicious_keys(dict.fromkeys(keys, 1)) == []


def test_words_of_other_programs_are_understood() -> None:
    routes = [{"dst": "10.7.0.0/16", "via": "10.1.0.1"}, 1, {"gateway": "10.1.0.1"}]
    conf = config(vlanId=5, parent="eth0", ipvlan_mode="l3", ipMasq=True, ipam={"routes": routes})
    assert dict(find_suspicious_keys(conf)) == {
        "vlanId": "vlan",
        "parent": "master",
        "ipvlan_mode": "mode",
        "ipMasq": "",
        "via": "gw",
        "gateway": "gw",
    }
    assert find_suspicious_keys(config(ipam={"routes": {"via": 1}})) == []
    assert find_suspicious_keys(config(ipam={"routes": [{"via": 1}] * 1000})) == [("via", "gw")]


@given(st.sampled_from(["mtu", "mode", "flag", "ipam", "master"]), st.data())
def test_every_single_slip_is_found(option: str, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(option) - 1))
    letter = data.draw(st.sampled_from("abcdefghijklmnopqrstuvwxyz"))
    head, tail = option[:index], option[index:]
    swapped = head + tail[1:2] + tail[:1] + tail[2:]
    for key in (head + letter + tail, head + tail[1:], head + letter + tail[1:], swapped):
        assert netconf.is_typo(key, option)


def test_of_existing_names_the_most_similar_comes_first() -> None:
    names = ["br-lan", "eth10", "lo", "wlan0"]
    for name, first in (("eth0", "eth10"), ("ETH10", "eth10"), ("wlan", "wlan0"), ("w", None)):
        ordered, is_near = nearest_first(name, names)
        assert (sorted(ordered), is_near) == (names, first is not None)
        assert first in (None, ordered[0])
        assert nearest_first(name, []) == ([], False)
