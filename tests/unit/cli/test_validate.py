"""ipvlan validate: every problem at once, each with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from cni_ipvlan.cli import configs, program
from cni_ipvlan.cli import validate as problems
from cni_ipvlan.cli.reading.part import json_path
from cni_ipvlan.cni.version import SUPPORTED_VERSIONS

STATIC: dict[str, Any] = {
    "type": "static",
    "addresses": [{"address": "10.1.0.2/24", "gateway": "10.1.0.1"}],
    "routes": [{"dst": "0.0.0.0/0"}],
}
CONF: dict[str, Any] = {
    "cniVersion": "1.0.0",
    "name": "net",
    "type": "ipvlan",
    "master": "eth0",
    "ipam": STATIC,
}
POOL: dict[str, Any] = {"type": "host-local", "subnet": "10.1.0.0/24"}
ADDRESS = {"address": "10.1.0.2/24"}
UNDER_NO_GATEWAY = {"type": "static", "addresses": [ADDRESS]}
DEFAULT = {"dst": "0.0.0.0/0"}

# What is changed in a valid configuration; the path of the problem; words of its text.
WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"mode": "l4"}, "$.mode", 'mode is "l4"; allowed: l2, l3, l3s'),
    ({"mode": 2}, "$.mode", "mode is 2; allowed: l2, l3, l3s"),
    ({"flag": "secret"}, "$.flag", "allowed: bridge, private, vepa"),
    ({"mtu": "1500"}, "$.mtu", "it must be a whole number"),
    ({"mtu": 70000}, "$.mtu", "it must be 65535 or less"),
    ({"mtu": 40}, "$.mtu", "mtu is 40; it must be 68 or more, or 0"),
    ({"master": "a/b"}, "$.master", "the byte b'/' is not allowed"),
    ({"master": ["a", "b c"]}, "$.master[1]", "the byte b' ' is not allowed"),
    ({"master": []}, "$.master", "it must have an entry"),
    ({"name": None}, "$.name", "name is null"),
    (
        {"logFile": "/etc/x"},
        "$.logFile",
        "'/etc/x'; a network may only name a file or directory below",
    ),
    ({"captureDir": "/etc"}, "$.captureDir", "'/etc'; a network may only name a file or directory"),
    ({"logFile": "../x"}, "$.logFile", "with letters, digits, . _ - in its path"),
    ({"cniVersion": "3.0"}, "$.cniVersion", "supported: 0.1.0, 0.2.0"),
    ({"msater": "eth1"}, "$.msater", "msater is unknown; did you mean master?"),
    ({"link_in_container": True}, "$.link_in_container", "did you mean linkInContainer?"),
    ({"ipam": None}, "$", "ipam must be given, with a type"),
    ({"ipam": {"subnet": "10.0.0.0/8"}}, "$", "ipam must be given, with a type"),
    ({"ipam": "static"}, "$.ipam", "it must be a JSON object"),
    ({"dns": {"search": "a"}}, "$.dns.search", "it must be a list"),
    ({"runtimeConfig": {"mac": "02::1"}}, "$.runtimeConfig.mac", "always has its master's"),
    ({"capabilities": {"mac": True}}, "$.capabilities.mac", "always has its master's"),
    ({"prevResult": {"ips": 5}}, "$.prevResult", "ips is 5; a list is needed"),
    (
        {"ipam": {"type": "static", "addresses": [{"address": "10.1.0.2"}]}},
        "$.ipam.addresses[0].address",
        "an address with a prefix length is needed",
    ),
    (
        {"ipam": {"type": "static", "adresses": []}},
        "$.ipam.adresses",
        "adresses is unknown; did you mean addresses?",
    ),
    (
        {"ipam": {"type": "static", "addresses": [ADDRESS | {"gatway": ""}]}},
        "$.ipam.addresses[0].gatway",
        "did you mean gateway?",
    ),
    (
        {
            "ipam": {
                "type": "static",
                "addresses": [ADDRESS | {"gateway": "10.2.0.1"}],
                "routes": [DEFAULT],
            }
        },
        "$.ipam.addresses[0].gateway",
        "gateway is 10.2.0.1, outside the subnet 10.1.0.0/24",
    ),
    (
        {"ipam": {**UNDER_NO_GATEWAY, "routes": [DEFAULT]}},
        "$.ipam.routes[0]",
        "the default route 0.0.0.0/0 has no gateway; mode l2 needs one",
    ),
    (
        {"ipam": {**STATIC, "routes": [{"dst": "::/0"}]}},
        "$.ipam.routes[0]",
        "the default route ::/0 has no gateway",
    ),
    (
        {"ipam": {**STATIC, "routes": [{"dst": "10.9.0.0/16", "gw": "10.3.0.1"}]}},
        "$.ipam.routes[0].gw",
        "gw is 10.3.0.1, outside the subnet 10.1.0.0/24",
    ),
    (
        {"ipam": {**STATIC, "routes": [{"dst": "all"}]}},
        "$.ipam.routes[0].dst",
        "a prefix is needed",
    ),
    (
        {"ipam": {**STATIC, "routes": [{"dest": "::/0"}]}},
        "$.ipam.routes[0].dest",
        "did you mean dst?",
    ),
    ({"ipam": {"type": "host-local"}}, "$.ipam", "host-local needs a subnet or ranges"),
    ({"ipam": {**POOL, "subnet": "10.1"}}, "$.ipam.subnet", "a prefix is needed"),
    (
        {"ipam": {**POOL, "gateway": "10.2.0.1", "routes": [DEFAULT]}},
        "$.ipam.gateway",
        "outside the subnet",
    ),
    ({"ipam": {**POOL, "rangeStart": "10.1.1.5"}}, "$.ipam.rangeStart", "outside the subnet"),
    ({"ipam": {**POOL, "rangeEnd": 5}}, "$.ipam.rangeEnd", "an address is needed"),
    (
        {"ipam": {**POOL, "rangeStart": "10.1.0.9", "rangeEnd": "10.1.0.3"}},
        "$.ipam.rangeEnd",
        "rangeEnd is 10.1.0.3, before rangeStart 10.1.0.9",
    ),
    (
        {"ipam": {"type": "host-local", "ranges": [[{"subnet": "x"}]]}},
        "$.ipam.ranges[0][0].subnet",
        "subnet is 'x'",
    ),
    ({"dns": {"nameserver": ["1.1.1.1"]}}, "$.dns.nameserver", "did you mean nameservers?"),
    (
        {"ipam": {**STATIC, "dns": {"nameserver": ["1.1.1.1"]}}},
        "$.ipam.dns.nameserver",
        "did you mean nameservers?",
    ),
    ({"ipam": {**STATIC, "type": "Static"}}, "$.ipam.type", "'Static'; did you mean static?"),
    (
        {"ipam": {**POOL, "type": "hostlocal"}},
        "$.ipam.type",
        "'hostlocal'; did you mean host-local?",
    ),
    (
        {"mode": "l3", "ipam": {"type": "dhcp"}},
        "$.mode",
        "mode is l3, which carries no broadcasts, so dhcp gets no answer; use l2",
    ),
    ({"mode": "l3s", "ipam": {"type": "dhcp"}}, "$.mode", "mode is l3s"),
    (
        {"ipam": {**POOL, "subnet": "10.1.0.5/24"}},
        "$.ipam.subnet",
        "subnet is 10.1.0.5/24, which has host bits; the subnet is 10.1.0.0/24",
    ),
    ({"ipam": {**POOL, "subnet": "10.1.0.0/31"}}, "$.ipam.subnet", "needs a /30 or larger"),
    ({"ipam": {**POOL, "subnet": "fd00::/128"}}, "$.ipam.subnet", "needs a /126 or larger"),
    (
        {"ipam": {**POOL, "ranges": [[{"subnet": "10.1.0.128/25"}]]}},
        "$.ipam.ranges[0][0]",
        "the range 10.1.0.129 to 10.1.0.254 overlaps with 10.1.0.1 to 10.1.0.254",
    ),
    (
        {"ipam": {**POOL, "rangeStart": "10.1.0.1", "rangeEnd": "10.1.0.1"}},
        "$.ipam",
        "the range has no address but the gateway's, 10.1.0.1",
    ),
    (
        {"ipam": {"type": "host-local", "gateway": "10.1.0.9", "ranges": [[POOL]]}},
        "$.ipam.gateway",
        "gateway is ignored, since it is not in one of the ranges",
    ),
    (
        {"ipam": {"type": "host-local", "ranges": [{"subnet": "10.1.0.0/24"}]}},
        "$.ipam.ranges[0]",
        "each of the ranges must be a list",
    ),
    ({"ipam": {**STATIC, "routes": {}}}, "$.ipam.routes", "routes must be a list"),
    ({"ipam": {**STATIC, "addresses": [5]}}, "$.ipam.addresses[0]", "must hold objects"),
    (
        {"ipam": {**STATIC, "routes": [{"dst": "10.9.0.0"}]}},
        "$.ipam.routes[0].dst",
        "dst is '10.9.0.0'; a prefix is needed",
    ),
    (
        {"ipam": {"type": "static", "addresses": [ADDRESS, {"address": "10.1.0.2/16"}]}},
        "$.ipam.addresses[1].address",
        "address is 10.1.0.2/16; 10.1.0.2 was given before",
    ),
    (
        {"ipam": {**STATIC, "addresses": [ADDRESS | {"gateway": "10.1.0.2"}]}},
        "$.ipam.addresses[0].gateway",
        "gateway is 10.1.0.2, the container's own address",
    ),
    (
        {"ipam": {**STATIC, "addresses": [ADDRESS | {"gateway": "10.1.0.255"}]}},
        "$.ipam.addresses[0].gateway",
        "gateway is 10.1.0.255, the broadcast address of 10.1.0.0/24",
    ),
    (
        {"ipam": {"type": "static", "addresses": [{"address": "10.1.0.255/24"}]}},
        "$.ipam.addresses[0].address",
        "address is 10.1.0.255/24, the broadcast address of 10.1.0.0/24",
    ),
    (
        {"mtu": 1000, "ipam": {"type": "host-local", "subnet": "fd00::/64"}},
        "$.mtu",
        "IPv6 addresses need 1280 or more",
    ),
]

# The same for what works, but perhaps not as meant.
ODD: list[tuple[dict[str, Any], str, str]] = [
    ({"ipam": {**POOL, "gateway": "10.2.0.1"}}, "$.ipam.gateway", "outside the subnet"),
    ({"cniVersion": None}, "$", "that means 0.1.0, which has no CHECK"),
    ({"logFile": "var/log/net.log"}, "$.logFile", "/var/log/cni-ipvlan/var/log must exist"),
    ({"ipam": {"type": "static"}}, "$.ipam", "static has no addresses, so ADD needs some in"),
    ({"ipam": {"type": "static", "addresses": []}}, "$.ipam.addresses", "static has no addresses"),
    ({"ipam": {**STATIC, "type": "statc"}}, "$.ipam.type", "did you mean static?"),
    ({"ipam": {"type": "vlan"}}, "$.ipam.type", "which is not an IPAM plugin; root may permit it"),
    (
        {"ipam": {**STATIC, "addresses": [ADDRESS | {"gateway": "10.1.0.0"}]}},
        "$.ipam.addresses[0].gateway",
        "gateway is 10.1.0.0, the address of the subnet 10.1.0.0/24, which Linux before 5.14",
    ),
    (
        {"ipam": {"type": "host-local", "Subnet": "10.1.0.0/24"}},
        "$.ipam.Subnet",
        "Subnet works only because the plugin ignores case; write subnet",
    ),
]

FINE: list[dict[str, Any]] = [
    {},
    {"mode": "", "flag": None, "mtu": 0},
    {"mode": "l3", "ipam": {**UNDER_NO_GATEWAY, "routes": [DEFAULT]}},
    {"ipam": POOL},
    {"ipam": {**POOL, "routes": [DEFAULT], "dataDir": "/x", "rangeStart": "10.1.0.9"}},
    {"ipam": {"type": "host-local", "ranges": [[{"subnet": "fd00::/64"}]]}},
    {"ipam": {"type": "dhcp", "anything": {"else": 5}}},
    {"ipam": {**STATIC, "routes": [{"dst": "fd00::/8", "gw": "fe80::1"}]}},
    {"ipam": None, "prevResult": {"ips": []}},
    {"vendor": {"option": 1}, "runtimeConfig": {"ips": []}, "capabilities": {"ips": True}},
    {"logFile": "net.log"},
    {"logFile": "/var/log/cni-ipvlan/net.log"},
    {"ipam": {"type": "calico-ipam"}},
    {"linkInContainer": True, "dns": {"nameservers": ["10.0.0.1"]}},
]


def changed(change: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in {**CONF, **change}.items() if value is not None}


def problems_of(config: dict[str, Any], *, warnings: bool = False) -> list[tuple[str, str]]:
    (network,) = configs.load("file", json.dumps(config))
    return [
        (json_path(problem.path), problem.text)
        for problem in problems.in_config(network)
        if problem.is_warning == warnings
    ]


@pytest.mark.parametrize(("change", "place", "words"), WRONG)
def test_a_problem_is_named_with_its_place(change: dict[str, Any], place: str, words: str) -> None:
    config = {**CONF, **change}
    if change.get("ipam", 0) is None:
        config = changed(change)
    found = problems_of(config)
    assert (place, True) in [(where, words in text) for where, text in found]


@pytest.mark.parametrize(("change", "place", "words"), ODD)
def test_what_works_all_the_same_is_a_warning(
    change: dict[str, Any], place: str, words: str
) -> None:
    config = changed(change)
    assert problems_of(config) == []
    ((where, text),) = problems_of(config, warnings=True)
    assert where == place
    assert words in text


@pytest.mark.parametrize("change", FINE)
def test_what_works_has_no_problem(change: dict[str, Any]) -> None:
    assert problems_of(changed(change)) == problems_of(changed(change), warnings=True) == []


def test_only_the_first_plugin_of_a_list_needs_ipam() -> None:
    chained = {"type": "ipvlan"}
    document = {"cniVersion": "1.0.0", "name": "net", "plugins": [{"type": "bridge"}, chained]}
    assert problems_of(document) == []
    document["plugins"] = [chained]
    assert problems_of(document) == [
        ("$.plugins[0]", "ipam must be given, with a type, unless the plugin is chained")
    ]


def validate(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    status = program.main(["validate", *map(str, arguments)])
    return status, capsys.readouterr().out


def test_every_problem_of_every_file_is_reported_at_once_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    conf, manifest = tmp_path / "net.conf", tmp_path / "nad.yaml"
    conf.write_text(json.dumps({**CONF, "mode": "l4", "msater": "eth0"}, indent=4))
    document = {
        "kind": "NetworkAttachmentDefinition",
        "metadata": {"name": "n"},
        "spec": {"config": json.dumps({**CONF, "mtu": -1}, indent=4)},
    }
    manifest.write_text(yaml.safe_dump(document, default_style="|"))
    good = tmp_path / "good.conf"
    good.write_text(json.dumps(CONF))

    status, out = validate(capsys, conf, manifest, good, tmp_path / "gone")

    assert status == 1
    mode, msater, mtu = line(conf, "mode"), line(conf, "msater"), line(manifest, "mtu")
    assert out.splitlines() == [
        f"{tmp_path}/gone: $: cannot read {tmp_path}/gone: No such file or directory",
        f'{conf}:{mode}: $.mode: mode is "l4"; allowed: l2, l3, l3s',
        f"{conf}:{msater}: $.msater: msater is unknown; did you mean master?",
        f"{manifest}:{mtu}: $.spec.config.mtu: mtu is -1; it must be 0 or more",
    ]


def line(file: Path, word: str) -> int:
    lines = file.read_text().splitlines()
    (found,) = (number for number, text in enumerate(lines, 1) if word in text)
    return found


def test_one_master_in_two_modes_is_a_problem_between_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, change in (
        ("a", {"mode": "l3"}),
        ("b", {"mode": "l3", "flag": ""}),
        ("c", {"mode": "l2", "flag": "private"}),
        ("d", {"master": "eth1"}),
        ("e", {"linkInContainer": True}),
    ):
        ipam = {"type": "static", "addresses": [{"address": f"10.1.0.{ord(name)}/24"}]}
        (tmp_path / name).write_text(json.dumps({**CONF, **change, "name": name, "ipam": ipam}))

    status, out = validate(capsys, *sorted(tmp_path.iterdir()))

    assert status == 1
    assert out == (
        f"{tmp_path}/c:1: $.mode: the master eth0 is used in mode l2 private here and in mode "
        f"l3 bridge by a in {tmp_path}/a; a master has one mode and flag\n"
    )


def test_without_problems_it_reports_that(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "net.conf"
    file.write_text(json.dumps(CONF))
    assert validate(capsys, file) == (0, "1 network: no problems\n")
    assert validate(capsys, file, file) == (0, "1 network: no problems\n")


def test_a_file_about_something_else_is_a_problem_only_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pod, conf = tmp_path / "pod.yaml", tmp_path / "net.conf"
    pod.write_text("apiVersion: v1\nkind: Pod\n")
    conf.write_text(json.dumps(CONF))

    assert program.main(["validate", str(pod), str(conf)]) == 0
    printed = capsys.readouterr()
    assert printed.out == "1 network: no problems\n"
    assert printed.err == f"{pod}: it has no configuration of type ipvlan\n"
    assert validate(capsys, pod) == (1, f"{pod}: $: it has no configuration of type ipvlan\n")


def test_json_is_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "net.conf"
    file.write_text(json.dumps({**CONF, "mtu": "x"}))
    status, out = validate(capsys, "--json", file)
    assert status == 1
    assert json.loads(out) == {
        "networks": 1,
        "problems": [
            {
                "file": str(file),
                "line": 1,
                "document": 1,
                "path": "$.mtu",
                "problem": 'mtu is "x"; it must be a whole number',
                "state": "problem",
            }
        ],
        "withoutNetwork": [],
        "notChecked": [],
    }


def test_networks_of_one_master_without_a_name_are_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, change in (("a", {}), ("b", {"mode": "l3"}), ("c", {"master": "eth1"})):
        config = {**CONF, "master": "", "name": name, **change}
        (tmp_path / name).write_text(json.dumps(config))
    status, out = validate(capsys, *sorted(tmp_path.iterdir()))
    assert status == 1
    assert out == (
        f"{tmp_path}/b:1: $.mode: the master, that of the default route, is used in mode l3 bridge "
        f"here and in mode l2 bridge by a in {tmp_path}/a; a master has one mode and flag\n"
    )


def test_ranges_that_overlap_on_one_master_are_a_problem_between_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, change in (
        ("a", {}),
        ("b", {"ipam": {**POOL, "rangeStart": "10.1.0.100"}}),
        ("c", {"ipam": {**POOL, "rangeStart": "10.1.0.9", "rangeEnd": "10.1.0.50"}, "name": "a"}),
        ("d", {"master": "eth1"}),
        ("e", {"ipam": {"type": "static", "addresses": [{"address": "10.1.0.200/16"}]}}),
        ("f", {"linkInContainer": True}),
    ):
        config = {**CONF, "ipam": POOL, "name": name, **change}
        (tmp_path / name).write_text(json.dumps(config, indent=4))

    status, out = validate(capsys, *sorted(tmp_path.iterdir()))

    assert status == 1
    lines = [each.replace(str(tmp_path), "DIR") for each in out.splitlines()]
    same = "on the same master; an address in use there is refused here"
    place = next(
        number
        for number, text in enumerate((tmp_path / "b").read_text().splitlines(), 1)
        if "ipam" in text
    )
    assert lines[0] == (
        f"DIR/b:{place}: $.ipam: 10.1.0.100 to 10.1.0.254 overlaps with 10.1.0.1 to 10.1.0.254 of "
        f"a in DIR/a, {same}"
    )
    assert [line.split(":")[0] for line in lines] == ["DIR/b", "DIR/e"]
    assert f"10.1.0.200 overlaps with 10.1.0.1 to 10.1.0.254 of a in DIR/a, {same}" in lines[1]


@pytest.mark.parametrize(
    ("one", "other", "used"),
    [
        ("eth0", ["eth0"], "is"),
        (["eth1", "ens*"], ["eth1", "ens*"], "is"),
        ("ens*", "ens*", "is"),
        (["eth1", "ens*"], "eth1", "may be"),
        (["eth1", "ens*"], "ens3", "may be"),
        ("en*", ["eth1", "ens*"], "may be"),
        ("eth?", "eth[0-3]", ""),  # of two patterns, little is known
        (["eth1", "ens*"], "eth2", ""),
        (["eth1", "ens*"], None, ""),
        ("e*", {"linkInContainer": True, "master": "e*"}, ""),
    ],
)
def test_networks_that_may_have_the_same_master_are_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], one: Any, other: Any, used: str
) -> None:
    given = other if isinstance(other, dict) else {"master": other}
    mode, overlap = tmp_path / "mode", tmp_path / "overlap"
    for directory, change in ((mode, {"mode": "l3"}), (overlap, {})):
        directory.mkdir()
        first = {**CONF, "ipam": POOL, "name": "a", "master": one}
        second = {**first, "name": "b", **given, **change}
        (directory / "a").write_text(json.dumps(first))
        (directory / "b").write_text(json.dumps(second))

    modes = validate(capsys, mode / "a", mode / "b")
    overlaps = validate(capsys, overlap / "a", overlap / "b")

    if not used:
        assert modes == overlaps == (0, "2 networks: no problems\n")
        return
    assert modes[0] == overlaps[0] == (used == "is")
    names = " or ".join(given["master"] if isinstance(given["master"], list) else [given["master"]])
    assert f"the master {names} {used} used in mode l3 bridge here and in mode l2 " in modes[1]
    assert f", on {'' if used == 'is' else 'perhaps '}the same master; an" in overlaps[1]


def test_warnings_alone_are_no_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "net.conf"
    file.write_text(json.dumps({**CONF, "cniVersion": ""}))
    said = "cniVersion is not given; that means 0.1.0, which has no CHECK"
    assert validate(capsys, file) == (0, f"{file}: warning: $: {said}\n".replace(": w", ":1: w", 1))
    status, out = validate(capsys, "--json", file)
    assert (status, json.loads(out)["problems"][0]["state"]) == (0, "warning")


def test_directory_means_all_networks_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = json.dumps({**CONF, "mode": "l4"})
    for name in ("a.conf", "b.json", "c.conflist", "d.yaml", "e.yml", "deep/er/f.conf"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(wrong)
    for name in ("README.md", "conf", "a.conf~", ".hidden.conf", ".git/x.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{")
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "given").write_text(wrong)

    status, out = validate(capsys, tmp_path, tmp_path / "given", tmp_path / "a.conf")

    assert status == 1
    found = [line.split(":")[0] for line in out.splitlines()]
    names = ("a.conf", "b.json", "c.conflist", "d.yaml", "e.yml", "deep/er/f.conf", "given")
    assert found == [f"{tmp_path}/{name}" for name in names]


def test_directory_without_networks_is_a_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "README.md").touch()
    said = "the directory has no file called *.conf, *.conflist, *.json, *.yaml, *.yml"
    assert validate(capsys, tmp_path) == (1, f"{tmp_path}: $: {said}\n")


def test_keys_that_are_there_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conf, manifest, plain = tmp_path / "a.conf", tmp_path / "b.yaml", tmp_path / "c.yaml"
    text = json.dumps(CONF, indent=4).replace('"type": "static"', '"type": "x", "type": "static"')
    conf.write_text(
        text.replace('"name"', '"mode": "l3",\n"name"').replace("}\n}", '},"mode":"l2"}')
    )
    document = {
        "kind": "NetworkAttachmentDefinition",
        "metadata": {"name": "n"},
        "spec": {"config": '{"name": "one", "name": "two", "plugins": []}'},
    }
    text = yaml.safe_dump(document)
    manifest.write_text(f"{text}  config: '{json.dumps({**CONF, 'master': 'eth1'})}'\n")
    plain.write_text(yaml.safe_dump({**CONF, "master": "eth2"}) + "master: eth3\n")

    status, out = validate(capsys, tmp_path)

    assert status == 1
    twice = "is there more than once; only the last counts"
    assert out.splitlines() == [
        f"{manifest}:{len(text.splitlines()) + 1}: $.spec.config: config {twice}",
        f"{conf}:{len(conf.read_text().splitlines())}: $.mode: mode {twice}",
        f"{conf}:{line(conf, 'static')}: $.ipam.type: type {twice}",
        f"{plain}:{line(plain, 'eth3')}: $.master: master {twice}",
    ]


def test_keys_of_a_list_are_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.conflist"
    plugins = json.dumps([CONF, {**CONF, "ipam": {"type": "dhcp"}}])
    file.write_text(f'{{"cniVersion": "3.0",\n"name": "a", "name": "b",\n"plugins": {plugins}}}')
    status, out = validate(capsys, file)
    assert status == 1
    assert out.splitlines() == [
        f"{file}:2: $.name: name is there more than once; only the last counts",
        f"{file}:1: $.cniVersion: cniVersion is '3.0'; supported: {', '.join(SUPPORTED_VERSIONS)}",
    ]


def test_document_is_named_if_it_is_not_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "two.yaml"
    file.write_text(yaml.safe_dump_all([{**CONF, "mode": "l4"}, {**CONF, "mode": "l5"}]))
    status, out = validate(capsys, file)
    assert status == 1
    allowed = "allowed: l2, l3, l3s"
    first, second = (line(file, mode) for mode in ("l4", "l5"))
    assert out.splitlines() == [
        f'{file}:{first}: $.mode: mode is "l4"; {allowed}',
        f'{file}:{second}: document 2: $.mode: mode is "l5"; {allowed}',
    ]
    _, out = validate(capsys, "--json", file)
    assert [row["document"] for row in json.loads(out)["problems"]] == [1, 2]


def test_other_plugins_of_a_list_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.conflist"
    plugins = [{"type": "bridge"}, {"type": "ipvlan"}, {"type": "tuning"}]
    file.write_text(json.dumps({"cniVersion": "1.0.0", "name": "chain", "plugins": plugins}))

    assert program.main(["validate", str(file)]) == 0

    printed = capsys.readouterr()
    assert printed.out == "1 network: no problems\n"
    said = "of the list chain, only ipvlan was checked, not bridge, tuning"
    assert printed.err == f"{file}: {said}\n"
    _, out = validate(capsys, "--json", file)
    assert json.loads(out)["notChecked"] == [
        {"file": str(file), "network": "chain", "plugins": ["bridge", "tuning"]}
    ]


def test_escape_sequences_of_a_file_are_quoted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.yaml"
    template = r'"{{ .x \e[31m }}"'
    for text in (
        f"type: ipvlan\nmaster: {template}\n",
        r'{"type": "ipvlan", "linkInContainer\u001b[31m": 5}',
    ):
        file.write_text(text)
        status, out = validate(capsys, file)
        assert (status, "\x1b" in out, r"\x1b[31m" in out) == (1, False, True)
    file.write_text(f"type: ipvlan\nmaster: {template}\n")
    assert program.main(["status", "-c", str(file)]) == 2
    assert r"{{ .x \x1b[31m }}" in capsys.readouterr().err
