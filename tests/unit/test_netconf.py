"""netconf: every option, its values, its default, and the message for a mistake."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_ipvlan.cni import errors
from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.cni.result import Interface
from cni_ipvlan.config import netconf
from cni_ipvlan.config.netconf import NetConf, ipam_type, parse, suspicious_keys

OPTIONS: tuple[str, ...] = tuple(
    json.loads(Path(netconf.__file__).with_name("netconf.schema.json").read_text())["properties"]
)

MAC_RULE = "an ipvlan interface always has its master's"


def config(**options: Any) -> dict[str, Any]:
    return {"cniVersion": "1.0.0", "name": "net", "type": "ipvlan", **options}


def refusal(given: dict[str, Any]) -> str:
    with pytest.raises(CniError) as caught:
        parse(given, "1.0.0")
    assert caught.value.code == errors.INVALID_CONFIGURATION
    return caught.value.msg


def test_least_configuration_gets_the_defaults() -> None:
    assert parse(config(), "1.0.0") == NetConf(
        name="net",
        master="",
        mode="l2",
        flag="bridge",
        mtu=0,
        ipam_type="",
        link_in_container=False,
        check_ipv4_conflict=False,
        dns=None,
        prev_result=None,
    )


def test_full_configuration_is_taken_over() -> None:
    given = config(
        master="eth1000",
        mode="l3s",
        flag="private",
        mtu=1400,
        ipam={"type": "static", "addresses": [{"address": "10.10.10.2/24"}]},
        linkInContainer=True,
        checkIPv4Conflict=True,
        dns={"nameservers": ["10.0.0.1"], "domain": "", "search": [], "options": None},
        prevResult={"interfaces": [{"name": "eth0"}]},
        runtimeConfig={"ips": []},
        args={"cni": {}},
        capabilities={"ips": True},
        somebodyElses=[1],
    )
    conf = parse(given, "1.0.0")
    assert conf.prev_result is not None
    assert conf.prev_result.interfaces == (Interface("eth0"),)
    assert conf._replace(prev_result=None) == NetConf(
        name="net",
        master="eth1000",
        mode="l3s",
        flag="private",
        mtu=1400,
        ipam_type="static",
        link_in_container=True,
        check_ipv4_conflict=True,
        dns={"nameservers": ["10.0.0.1"]},
        prev_result=None,
    )


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("mode", value) for value in ("l2", "l3", "l3s")),
        *(("flag", value) for value in ("bridge", "private", "vepa")),
        *(("mtu", value) for value in (0, 68, 1500, 65535)),
        ("master", "a@b"),
        ("master", "x" * 127),
        ("ipam", {}),
        ("ipam", {"type": "host-local"}),
        ("linkInContainer", True),
        ("linkInContainer", False),
        ("dns", {}),
        *((option, 5) for option in ("runtimeConfig", "args", "capabilities", "unknown")),
    ],
)
def test_allowed_value(option: str, value: object) -> None:
    parse(config(**{option: value}), "1.0.0")


@pytest.mark.parametrize(
    "option", ["cniVersion", "master", "mode", "flag", "logFile", "logLevel", "captureDir"]
)
@pytest.mark.parametrize("value", [None, ""])
def test_null_and_the_empty_string_mean_the_default(option: str, value: object) -> None:
    assert parse(config(**{option: value}), "1.0.0") == parse(config(), "1.0.0")


@pytest.mark.parametrize(
    "option",
    ["mtu", "ipam", "linkInContainer", "dns", "prevResult"],
)
def test_null_means_not_given(option: str) -> None:
    assert parse(config(**{option: None}), "1.0.0") == parse(config(), "1.0.0")


@pytest.mark.parametrize(
    "options",
    [
        {"runtimeConfig": {"mac": ""}, "args": {"cni": {"mac": None}}},
        {"runtimeConfig": "mac", "args": {"cni": ["mac"]}},
        {"args": {"mac": "02::1"}},
    ],
    ids=str,
)
def test_what_is_no_request_for_a_mac_address_is_passed_on(options: dict[str, object]) -> None:
    assert parse(config(**options), "1.0.0") == parse(config(), "1.0.0")


def test_number_with_a_zero_fraction_is_whole() -> None:
    mtu = parse(config(mtu=1400.0), "1.0.0").mtu
    assert (mtu, type(mtu)) == (1400, int)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"type": "macvlan"}, 'type is "macvlan"; allowed: ipvlan'),
        ({"master": 5}, "master is 5; it must be a string or a list"),
        ({"master": {}}, "master is {}; it must be a string or a list"),
        ({"master": []}, "master is []; it must have an entry"),
        ({"master": ["e*"] * 33}, "master has 33 entries; 32 are allowed"),
        ({"master": ["eth0", 5]}, "master.1 is 5; it must be a string"),
        ({"master": ["eth0", None]}, "master.1 is null; it must be a string"),
        ({"master": ["eth0", ""]}, 'master.1 is ""; it is empty'),
        ({"master": ["eth0", "a/*"]}, "master.1 is \"a/*\"; the byte b'/' is not allowed in it"),
        ({"master": ["x" * 128]}, f'master.0 is "{"x" * 79} …; it has 128 bytes; 127 are allowed'),
        ({"master": "a/b"}, "master is \"a/b\"; the byte b'/' is not allowed in it"),
        (
            {"master": "x" * 128},
            f'master is "{"x" * 79} …; it has 128 bytes; 127 are allowed',
        ),
        ({"master": "eth%d"}, 'master is "eth%d"; the kernel treats % as a pattern'),
        ({"mode": "L2"}, 'mode is "L2"; allowed: l2, l3, l3s'),
        ({"mode": 2}, "mode is 2; allowed: l2, l3, l3s"),
        ({"mode": ["l2"]}, 'mode is ["l2"]; allowed: l2, l3, l3s'),
        ({"flag": "isolated"}, 'flag is "isolated"; allowed: bridge, private, vepa'),
        ({"flag": False}, "flag is false; allowed: bridge, private, vepa"),
        ({"mtu": -1}, "mtu is -1; it must be 0 or more"),
        ({"mtu": 65536}, "mtu is 65536; it must be 65535 or less"),
        ({"mtu": "1500"}, 'mtu is "1500"; it must be a whole number'),
        ({"mtu": 1500.5}, "mtu is 1500.5; it must be a whole number"),
        ({"mtu": True}, "mtu is true; it must be a whole number"),
        ({"mtu": float("inf")}, "mtu is Infinity; it must be a whole number"),
        (
            {"runtimeConfig": {"mac": "02::1"}},
            f'runtimeConfig.mac asks for the MAC address "02::1"; {MAC_RULE}',
        ),
        (
            {"args": {"cni": {"mac": "02::1"}}},
            f'args.cni.mac asks for the MAC address "02::1"; {MAC_RULE}',
        ),
        ({"ipam": []}, "ipam is []; it must be a JSON object"),
        ({"ipam": "static"}, 'ipam is "static"; it must be a JSON object'),
        ({"ipam": {"type": 5}}, "ipam.type is 5; it must be a string"),
        ({"linkInContainer": "true"}, 'linkInContainer is "true"; it must be true or false'),
        ({"linkInContainer": 1}, "linkInContainer is 1; it must be true or false"),
        ({"dns": []}, "dns is []; it must be a JSON object"),
        ({"dns": {"domain": 1}}, "dns.domain is 1; it must be a string"),
        ({"dns": {"search": "a.org"}}, 'dns.search is "a.org"; it must be a list'),
        ({"dns": {"nameservers": [1]}}, "dns.nameservers.0 is 1; it must be a string"),
        ({"prevResult": []}, "prevResult is []; it must be a JSON object"),
        ({"name": "a b"}, 'name is "a b"; it must match ^[a-zA-Z0-9][a-zA-Z0-9_.-]*$'),
    ],
)
def test_wrong_value_is_refused_naming_option_value_and_what_is_allowed(
    options: dict[str, Any], message: str
) -> None:
    assert refusal(config(**options)) == message


@pytest.mark.parametrize(
    ("master", "one", "several"),
    [
        ("eth0", "eth0", ()),
        (["eth0"], "eth0", ()),
        ("ens*", "", ("ens*",)),
        ("eth?", "", ("eth?",)),
        (["eth[0-3]"], "", ("eth[0-3]",)),
        (["eth0", "ens*"], "", ("eth0", "ens*")),
        ("", "", ()),
        (None, "", ()),
    ],
)
def test_master_is_one_or_several(master: object, one: str, several: tuple[str, ...]) -> None:
    conf = parse(config(master=master), "1.0.0")
    assert (conf.master, conf.masters) == (one, several)


def test_ipam_type_with_a_slash_is_refused() -> None:
    assert refusal(config(ipam={"type": "../sh"})).startswith('ipam.type is "../sh"; ')


def test_every_fault_is_named() -> None:
    message = refusal(config(mode="l4", mtu=-1, flag="x", master="a b"))
    assert message.split("; ") == [
        'flag is "x"',
        "allowed: bridge, private, vepa",
        'mode is "l4"',
        "allowed: l2, l3, l3s",
        "mtu is -1",
        "it must be 0 or more",
        'master is "a b"',
        "the byte b' ' is not allowed in it",
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "name and type must be given"),
        ({"name": "net"}, "type must be given"),
        ({"type": "ipvlan"}, "name must be given"),
    ],
)
def test_required_option_that_is_missing_is_named_once(given: dict[str, Any], message: str) -> None:
    assert refusal(given) == message


def test_long_value_is_shown_by_its_beginning() -> None:
    message = refusal(config(mode="x" * 10_000))
    assert len(message) < 150
    assert "xxx …" in message


@pytest.mark.parametrize("depth", [50, 300, 500, 700, 800])
def test_value_nested_as_deeply_as_can_be_decoded_is_refused_like_any_other(depth: int) -> None:
    value = "[" * depth + "]" * depth
    given = json.loads(f'{{"name": "net", "type": "ipvlan", "mtu": {value}}}')
    message = refusal(given)
    assert message.startswith("mtu is ")
    assert len(message) < 200


def test_prev_result_is_read_in_the_configurations_version_unless_it_names_its_own() -> None:
    by_family = {"ip4": {"ip": "10.0.0.1/8"}}
    conf = parse({**config(), "prevResult": by_family}, "0.2.0")
    assert conf.prev_result is not None
    assert conf.prev_result.addresses[0].address == "10.0.0.1/8"
    named = {"cniVersion": "0.2.0", **by_family}
    assert parse(config(prevResult=named), "1.0.0").prev_result == conf.prev_result


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ({"ips": 5}, errors.DECODING_FAILURE),
        ({"cniVersion": "8.0.0"}, errors.INCOMPATIBLE_VERSION),
    ],
)
def test_unreadable_prev_result_is_named_as_such(document: dict[str, Any], code: int) -> None:
    with pytest.raises(CniError, match=r"^prevResult: ") as caught:
        parse(config(prevResult=document), "1.0.0")
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"ipam": {"type": "static"}}, "static"),
        ({"ipam": {"type": 5}}, ""),
        ({"ipam": {}}, ""),
        ({"ipam": None}, ""),
        ({"ipam": "static"}, ""),
        ({}, ""),
        ({"ipam": {"type": "static"}, "mode": "l9", "mtu": []}, "static"),
    ],
)
def test_ipam_type_is_found_in_invalid_configurations_too(given: dict[str, Any], name: str) -> None:
    assert ipam_type(given) == name


@pytest.mark.parametrize(
    ("key", "option"),
    [
        ("mtuu", "mtu"), ("mt", "mtu"), ("mut", "mtu"), ("MTU", "mtu"), ("mtv", "mtu"),
        ("Mode", "mode"), ("modes", "mode"), ("mde", "mode"), ("mdoe", "mode"), ("node", "mode"),
        ("masters", "master"), ("maaster", "master"), ("amster", "master"), ("mastr", "master"),
        ("Master", "master"), ("flags", "flag"), ("lfag", "flag"), ("IPAM", "ipam"),
        ("ipma", "ipam"), ("linkincontainer", "linkInContainer"),
        ("linkInContainers", "linkInContainer"), ("DNS", "dns"), ("prevresult", "prevResult"),
    ],
)  # fmt: skip
def test_misspelt_option_is_suspicious(key: str, option: str) -> None:
    assert suspicious_keys(config(**{key: 1})) == [(key, option)]


@pytest.mark.parametrize(
    "key",
    ["", "m", "mutt", "masters2", "retsam", "bridge", "vlan", "logFile", "kubeconfig", "delegates",
     "cni.dev/valid-attachments", "disableCheck", "plugins", "isGateway", "ipMasq", "x" * 1000],
)  # fmt: skip
def test_other_key_is_not_suspicious(key: str) -> None:
    assert suspicious_keys(config(**{key: 1})) == []


def test_options_themselves_are_not_suspicious() -> None:
    assert suspicious_keys(dict.fromkeys(OPTIONS, 1)) == []


@given(st.sampled_from(["mtu", "mode", "flag", "ipam", "master"]), st.text(max_size=7))
def test_what_a_typo_is(option: str, key: str) -> None:
    assert bool(_edits(key.lower(), option) <= 1) == netconf._is_one_slip(key, option)


@given(st.sampled_from(["mtu", "mode", "flag", "ipam", "master"]), st.data())
def test_every_single_slip_is_found(option: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(option) - 1))
    letter = data.draw(st.sampled_from("abcdefghijklmnopqrstuvwxyz"))
    head, tail = option[:place], option[place:]
    swapped = head + tail[1:2] + tail[:1] + tail[2:]
    for key in (head + letter + tail, head + tail[1:], head + letter + tail[1:], swapped):
        assert netconf._is_one_slip(key, option)


def _edits(one: str, other: str) -> int:
    """Damerau's distance with adjacent swaps, by its textbook definition."""
    rows = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i in range(len(one) + 1):
        for j in range(len(other) + 1):
            if not i or not j:
                rows[i][j] = i + j
                continue
            rows[i][j] = min(
                rows[i - 1][j] + 1,
                rows[i][j - 1] + 1,
                rows[i - 1][j - 1] + (one[i - 1] != other[j - 1]),
            )
            if i > 1 and j > 1 and one[i - 1] == other[j - 2] and one[i - 2] == other[j - 1]:
                rows[i][j] = min(rows[i][j], rows[i - 2][j - 2] + 1)
    return rows[-1][-1]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(OPTIONS, JSON)))
def test_every_configuration_is_accepted_or_refused_with_a_message(given: dict[str, Any]) -> None:
    try:
        parse({**config(), **given}, "1.0.0")
    except CniError as error:
        assert error.code in {1, 6, 7}  # noqa: PT017 - either will do
        assert any(option in error.msg for option in given)  # noqa: PT017
