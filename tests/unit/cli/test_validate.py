"""ipvlan validate: every problem at once, each with its place."""

import json
from pathlib import Path
from typing import Any

import pytest
import wrong_ipam
import yaml
from command_line import ipvlan
from runtime import network, static
from wrong_ipam import DEFAULT, pool, ranges, route

from cni_ipvlan.cli import configs
from cni_ipvlan.cli import validate as problems
from cni_ipvlan.cli.reading import json_path
from cni_ipvlan.cni import SUPPORTED_VERSIONS

STATIC = static("10.1.0.2/24", gateway="10.1.0.1", routes=DEFAULT)
CONF = network(ipam=STATIC)
POOL = pool()

# What is changed in a valid configuration; the path of the problem; words of its text. What
# test_netconf.py has of values is here only for the path; wrong_ipam.py has the same for IPAM.
ERRORS: list[tuple[dict[str, Any], str, str]] = [
    ({"mtu": 40.0}, "$.mtu", "mtu is 40; it must be 68 or more, or 0"),
    ({"master": ["a", "b c"]}, "$.master[1]", "' ' is not allowed"),
    ({"name": None}, "$.name", "name is null"),
    ({"logFile": "/etc/x"}, "$.logFile", "'/etc/x'; a network may only name what lies"),
    ({"logFile": "../x"}, "$.logFile", "with letters, digits, . _ - in its name"),
    ({"cniVersion": "3.0"}, "$.cniVersion", "allowed: 0.1.0, 0.2.0"),
    ({"link_in_container": True}, "$.link_in_container", "did you mean linkInContainer?"),
    ({"vlanId": 5}, "$.vlanId", "vlanId is unknown; did you mean vlan?"),
    ({"parent": "eth0"}, "$.parent", "parent is unknown; did you mean master?"),
    ({"ipvlan_mode": "l3"}, "$.ipvlan_mode", "ipvlan_mode is unknown; did you mean mode?"),
    ({"dns": {"nameservers": ["1.1.1.1", "x"]}}, "$.dns.nameservers[1]", 'nameservers.1 is "x"'),
    ({"ipam": None}, "$.ipam", "ipam must be given, with a type"),
    ({"ipam": {"subnet": "10.0.0.0/8"}}, "$.ipam", "ipam must be given, with a type"),
    ({"plugin": [{}]}, "$.plugin", "plugin is unknown; did you mean plugins?"),
    ({"dns": {"search": "a"}}, "$.dns.search", "it must be a list"),
    ({"runtimeConfig": {"mac": "02::1"}}, "$.runtimeConfig.mac", "always has its master's"),
    ({"capabilities": {"mac": True}}, "$.capabilities.mac", "always has its master's"),
    ({"capabilities": {"ips": "true"}}, "$.capabilities.ips", "it must be true or false"),
    ({"capabilities": ["ips"]}, "$.capabilities", "it must be a JSON object"),
    ({"prevResult": {"ips": 5}}, "$.prevResult", "ips is 5; a list is needed"),
    ({"dns": {"nameserver": ["1.1.1.1"]}}, "$.dns.nameserver", "did you mean nameservers?"),
    ({"mode": "l3", "ipam": {"type": "dhcp"}}, "$.mode", "carries no broadcasts, so dhcp gets no"),
    ({"mtu": 1000.0, "ipam": pool("fd00::/64")}, "$.mtu", "IPv6 addresses need 1280 or more"),
    *(
        ({"ipam": each.ipam}, f"$.ipam{each.path}", each.words)
        for each in (*wrong_ipam.REFUSED, *wrong_ipam.HARMFUL)
    ),
]
NO_IPV6 = "$.ipam.routes[1]", "the route to ::/0 is of IPv6, of which the container has no address"
# The same for configurations that work, but perhaps not as intended.
WARNINGS: list[tuple[dict[str, Any], str, str]] = [
    ({"ipam": pool(gateway="10.2.0.1")}, "$.ipam.gateway", "outside the subnet"),
    ({"cniVersion": None}, "$.cniVersion", "that means 0.1.0, which has no CHECK"),
    ({"captureDir": "calls"}, "$.captureDir", "'calls'; in /var/log/cni-ipvlan, that directory"),
    ({"ipam": {"type": "static"}}, "$.ipam.addresses", "has no addresses, so ADD needs some in"),
    ({"ipam": {**STATIC, "type": "Statc"}}, "$.ipam.type", "'Statc'; did you mean static?"),
    ({"ipam": {"type": "hostlocal"}}, "$.ipam.type", "did you mean host-local?"),
    ({"ipMasq": True}, "$.ipMasq", "ipMasq is another plugin's, and does nothing here"),
    ({"ipam": {**STATIC, "routes": [*DEFAULT, {"dst": "::/0", "gw": "fe80::1"}]}}, *NO_IPV6),
    ({"ipam": {"type": "vlan"}}, "$.ipam.type", "which is not an IPAM plugin; root may permit it"),
]

VALID: list[dict[str, Any]] = [
    {},
    {"mode": "", "flag": None, "mtu": 0},
    {"mode": "l3", "ipam": static("10.1.0.2/24", routes=DEFAULT)},
    {"ipam": POOL},
    {"ipam": pool(addresses=5)},
    {"ipam": {**STATIC, "subnet": "x", "ranges": 5}},
    {"ipam": {"type": "whereabouts", "routes": 5, "ranges": 5}},
    {"ipam": pool(routes=DEFAULT, dataDir="/x", rangeStart="10.1.0.9")},
    {"ipam": ranges([{"subnet": "fd00::/64"}])},
    {"ipam": {"type": "dhcp", "anything": {"else": 5}}},
    {"ipam": route(dst="fd00::/8", gw="fe80::1")},
    *({"ipam": route(dst="10.9.0.0/16", gw=gw)} for gw in ("0.0.0.0", "::ffff:10.1.0.1")),
    {"ipam": pool(routes=[*DEFAULT, {**DEFAULT[0], "gw": "10.1.0.1"}])},  # the same twice
    {"ipam": pool(routes=[*DEFAULT, {**DEFAULT[0], "gw": "10.1.0.9", "priority": 7}])},
    {"ipam": static("fd00::2/64", routes=[{"dst": "fd00::/64"}])},
    {"ipam": pool(routes=[{**DEFAULT[0], "priority": [7], "table": {}}])},  # which ADD refuses
    {"ipam": static("10.1.0.2/32", routes=[{"dst": "10.1.0.2/32"}])},
    {"ipam": None, "prevResult": {"ips": []}},
    {"vendor": {"option": 1}, "runtimeConfig": {"ips": []}, "capabilities": {"ips": True}},
    {"logFile": "/var/log/cni-ipvlan/net.log"},
    {"ipam": {"type": "calico-ipam"}},
    {"linkInContainer": True, "dns": {"nameservers": ["10.0.0.1"]}},
    {"vlan": 0, "ipam": {**STATIC, "dns": None}},
]


def apply_change(change: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in {**CONF, **change}.items() if value is not None}


def find_problems(config: dict[str, Any], *, warnings: bool = False) -> list[tuple[str, str]]:
    (network,) = configs.read("file", json.dumps(config)).networks
    return [
        (json_path(problem.path), problem.text)
        for problem in problems.check_config(network)
        if problem.is_warning == warnings
    ]


@pytest.mark.parametrize(("change", "path", "words"), ERRORS)
def test_a_problem_is_named_with_its_place(change: dict[str, Any], path: str, words: str) -> None:
    config = apply_change(change) if change == {"ipam": None} else {**CONF, **change}
    assert (path, True) in [(location, words in text) for location, text in find_problems(config)]


@pytest.mark.parametrize(("change", "path", "words"), WARNINGS)
def test_what_works_anyway_is_a_warning(change: dict[str, Any], path: str, words: str) -> None:
    config = apply_change(change)
    assert find_problems(config) == []
    ((location, text),) = find_problems(config, warnings=True)
    assert location == path
    assert words in text


def test_a_value_of_another_type_is_one_problem() -> None:
    for option, value in (("captureDir", 5), ("mtu", True)):
        config = apply_change({option: value, "ipam": pool("fd00::/64")})
        ((path, _),) = find_problems(config)
        assert (path, find_problems(config, warnings=True)) == (f"$.{option}", [])


def test_what_works_has_no_problem() -> None:
    for change in VALID:
        config = apply_change(change)
        assert find_problems(config) == find_problems(config, warnings=True) == [], change


def test_only_the_first_plugin_of_a_list_needs_ipam() -> None:
    chained = {"type": "ipvlan"}
    document = {"cniVersion": "1.0.0", "name": "net", "plugins": [{"type": "bridge"}, chained]}
    assert find_problems(document) == []
    document["plugins"] = [chained]
    assert find_problems(document) == [
        ("$.plugins[0].ipam", "ipam must be given, with a type, unless the plugin is chained")
    ]


def test_a_plugin_has_the_name_and_the_version_of_its_list_only() -> None:
    document = {"plugins": [{**CONF, "ipam": POOL}]}
    assert find_problems(document) == [("$.name", "name must be given")]
    assert find_problems(document, warnings=True)[0][0] == "$.cniVersion"


def validate(*arguments: object) -> tuple[int, str]:
    status, out, _ = ipvlan("validate", *map(str, arguments))
    return status, out


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "a.json"


TWICE = "a list may have ipvlan once"


def write(file: Path, **changes: Any) -> Path:
    file.write_text(json.dumps({**CONF, **changes}, indent=4))
    return file


def test_every_problem_of_every_file_is_reported_at_once_with_its_line(tmp_path: Path) -> None:
    conf = write(tmp_path / "net.conf", mode="l4", msater="eth0")
    file = write(tmp_path / "good.conf")
    manifest = tmp_path / "nad.yaml"
    document = definition(json.dumps({**CONF, "mtu": -1}, indent=4))
    manifest.write_text(yaml.safe_dump(document, default_style="|"))

    status, out = validate(conf, manifest, file, tmp_path / "gone")

    assert status == 1
    mode, msater, mtu = line_of(conf, "mode"), line_of(conf, "msater"), line_of(manifest, "mtu")
    assert out.splitlines() == [
        f"{tmp_path}/gone: cannot read {tmp_path}/gone: No such file or directory",
        f'{conf}:{mode}: $.mode: mode is "l4"; allowed: l2, l3, l3s',
        f"{conf}:{msater}: $.msater: msater is unknown; did you mean master?",
        f"{manifest}:{mtu}: $.spec.config.mtu: mtu is -1; it must be 0 or more",
    ]
    assert validate(file) == validate(file, file) == (0, "1 network: no problems\n")


def definition(config: str) -> dict[str, Any]:
    kind = "NetworkAttachmentDefinition"
    return {"kind": kind, "metadata": {"name": "n"}, "spec": {"config": config}}


def line_of(file: Path, word: str) -> int:
    lines = file.read_text().splitlines()
    (number,) = (index for index, text in enumerate(lines, 1) if word in text)
    return number


def test_one_master_in_two_modes_is_a_problem_between_files(tmp_path: Path) -> None:
    for name, change in (
        ("a", {"mode": "l3"}),
        ("b", {"mode": "l3", "flag": ""}),
        ("c", {"mode": "l2", "flag": "private", "master": ["eth0"]}),
        ("d", {"master": "eth1"}),
        ("e", {"linkInContainer": True}),
        ("f", {"master": ""}),
        ("g", {"master": "", "mode": "l3"}),
        ("h", {"master": ["eth1", "ens*"]}),  # whether that is eth1 depends on the node
        ("i", {"master": ["eth1", "ens*"], "mode": "l3"}),
    ):
        write(tmp_path / name, ipam=static(f"10.1.0.{ord(name)}/24"), name=name, **change)

    status, out = validate(*sorted(tmp_path.iterdir()))

    assert status == 1
    c, g, i = (f"DIR/{name}:{line_of(tmp_path / name, 'mode')}: $.mode: the" for name in "cgi")
    g, end = f"{g} default route's", "; a master has one mode and flag"
    lists = "master eth1 or ens* is used in mode l3 bridge here and in mode l2 bridge by h in DIR/h"
    assert out.replace(str(tmp_path), "DIR").splitlines() == [
        f"{c} master eth0 is used in mode l2 private here and in mode l3 bridge by a in DIR/a{end}",
        f"{g} master is used in mode l3 bridge here and in mode l2 bridge by f in DIR/f{end}",
        f"{i} {lists}{end}",
    ]


def test_a_file_about_something_else_is_a_problem_only_alone(tmp_path: Path, file: Path) -> None:
    pod = tmp_path / "pod.yaml"
    pod.write_text("apiVersion: v1\nkind: Pod\n")
    text = "it has no configuration of type ipvlan\n"
    output = ipvlan("validate", str(pod), str(write(file)))
    assert output == (0, "1 network: no problems\n", f"{pod}: {text}")
    assert validate(pod) == (1, f"{pod}: {text}")
    pod.unlink()
    file.rename(tmp_path / "README.md")
    text = "the directory has no file called *.conf, *.conflist, *.json, *.yaml, *.yml"
    assert validate(tmp_path) == (1, f"{tmp_path}: {text}\n")


def test_json_is_for_programs(file: Path) -> None:
    status, out = validate("--json", write(file, mtu="x"))
    assert status == 1
    location = {"file": str(file), "line": line_of(file, "mtu"), "document": 1, "path": "$.mtu"}
    text = 'mtu is "x"; it must be a whole number'
    problems = [{**location, "problem": text, "state": "problem"}]
    empty: dict[str, list[str]] = {"withoutNetwork": [], "notChecked": []}
    assert json.loads(out) == {"networks": 1, "problems": problems, **empty}
    # A warning alone is no failure.
    text = "cniVersion is not given; that means 0.1.0, which has no CHECK"
    assert validate(write(file, cniVersion="")) == (
        0,
        f"{file}:{line_of(file, 'cniV')}: warning: $.cniVersion: {text}\n",
    )
    status, out = validate("--json", file)
    assert (status, json.loads(out)["problems"][0]["state"]) == (0, "warning")


def test_ranges_that_overlap_on_one_master_are_a_problem_between_files(tmp_path: Path) -> None:
    for name, change in (
        ("a", {}),
        ("b", {"ipam": pool(rangeStart="10.1.0.100")}),
        ("c", {"ipam": pool(rangeStart="10.1.0.9", rangeEnd="10.1.0.50"), "name": "a"}),
        ("d", {"master": "eth1"}),
        ("e", {"ipam": static("10.1.0.200/16"), "mtuu": 1400}),
        ("f", {"linkInContainer": True}),
    ):
        write(tmp_path / name, **{"ipam": POOL, "name": name, **change})

    status, out = validate(*sorted(tmp_path.iterdir()))

    assert status == 1
    first, misspelt, second = out.replace(str(tmp_path), "DIR").splitlines()
    message = "of a in DIR/a, on the same master; an address in use there is refused here"
    assert first == (
        f"DIR/b:{line_of(tmp_path / 'b', 'ipam')}: $.ipam: 10.1.0.100 to 10.1.0.254 overlaps with "
        f"10.1.0.1 to 10.1.0.254 {message}"
    )
    assert "$.mtuu: mtuu is unknown" in misspelt  # which hides nothing
    assert second.startswith("DIR/e:")
    assert f"10.1.0.200 overlaps with 10.1.0.1 to 10.1.0.254 {message}" in second


def test_directory_means_all_networks_in_it(tmp_path: Path) -> None:
    invalid = json.dumps({**CONF, "mode": "l4"})
    for name in ("a.conf", "b.json", "c.conflist", "d.yaml", "e.yml", "deep/er/f.conf"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(invalid)
    for name in ("README.md", "conf", "a.conf~", ".hidden.conf", ".git/x.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{")
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "given").write_text(invalid)

    status, out = validate(tmp_path, tmp_path / "given", tmp_path / "a.conf")

    assert status == 1
    files = [*dict.fromkeys(line.split(":")[0] for line in out.splitlines())]
    names = ("a.conf", "b.json", "c.conflist", "d.yaml", "e.yml", "deep/er/f.conf", "given")
    assert files == [f"{tmp_path}/{name}" for name in names]


def test_keys_that_are_there_twice(tmp_path: Path) -> None:
    conf, manifest, plain = tmp_path / "a.conf", tmp_path / "b.yaml", tmp_path / "c.yaml"
    text = json.dumps(CONF, indent=4).replace('"type": "static"', '"type": "x", "type": "static"')
    text = text.replace('"name"', '"mode": "l3",\n"name"').replace("}\n}", '},"mode":"l2"}')
    conf.write_text(text)
    text = yaml.safe_dump(definition('{"name": "one", "name": "two", "plugins": []}'))
    manifest.write_text(f"{text}  config: '{json.dumps({**CONF, 'master': 'eth1'})}'\n")
    plain.write_text(yaml.safe_dump({**CONF, "master": "eth2"}) + "master: eth3\n")
    file = tmp_path / "d.conf"
    config = json.dumps({**CONF, "name": "d"})[:-1]
    file.write_text(f'{config}, "dns": {{}}, "dns": {{"domain": "a"}},\n"dns": {{"domain": "b"}}}}')

    status, out = validate(tmp_path)

    assert status == 1
    message = "duplicate key; the last one is used"
    assert out.splitlines() == [
        f"{conf}:{len(conf.read_text().splitlines())}: $.mode: {message}",
        f"{conf}:{line_of(conf, 'static')}: $.ipam.type: {message}",
        f"{manifest}:{len(text.splitlines()) + 1}: $.spec.config: {message}",
        f"{plain}:{line_of(plain, 'eth3')}: $.master: {message}",
        f"{file}:2: $.dns: {message}",
    ]


def test_keys_of_a_list_are_told_once(file: Path) -> None:
    plugins = json.dumps([CONF, {**CONF, "ipam": {"type": "dhcp"}}])
    file.write_text(f'{{"cniVersion": "3.0",\n"name": "a", "name": "b",\n"plugins": {plugins}}}')
    status, out = validate(file)
    assert status == 1
    assert out.splitlines() == [
        f"{file}:2: $.name: duplicate key; the last one is used",
        f'{file}:1: $.cniVersion: cniVersion is "3.0"; allowed: {", ".join(SUPPORTED_VERSIONS)}',
        f"{file}:3: $.plugins[1].type: {TWICE}: a runtime gives both interfaces one name",
    ]


def test_document_is_named_if_it_is_not_the_first(tmp_path: Path) -> None:
    file = tmp_path / "two.yaml"
    text = yaml.safe_dump_all([{**CONF, "mode": "l4"}, {**CONF, "mode": "l5"}])
    file.write_text(f"{text}---\nkind: [it has no end\n")
    status, out = validate(file)
    assert status == 1
    third, first, second = out.splitlines()
    assert first.startswith(f"{file}:{line_of(file, 'l4')}: $.mode: ")
    assert second.startswith(f"{file}:{line_of(file, 'l5')}: document 2: $.mode: ")
    _, out = validate("--json", file)
    assert f"{file}:28: document 3: it can't be read" in third
    assert {row["document"] for row in json.loads(out)["problems"]} == {1, 2, 3}


def test_other_plugins_of_a_list_are_named(file: Path) -> None:
    plugins = [{"type": each} for each in ("bridge", "ipvlan", "tuning")]
    file.write_text(json.dumps({"cniVersion": "1.0.0", "name": "chain", "plugins": plugins}))
    message = f"{file}: of the list chain, only ipvlan was checked, not bridge, tuning\n"
    assert ipvlan("validate", str(file)) == (0, "1 network: no problems\n", message)
    _, out = validate("--json", file)
    assert json.loads(out)["notChecked"] == [
        {"file": str(file), "network": "chain", "plugins": ["bridge", "tuning"]}
    ]


def test_what_runtimes_refuse(tmp_path: Path) -> None:
    for name, changes, text in (
        ("list.conf", {"plugins": [CONF]}, ":1: warning: runtimes take a list"),
        ("single.conflist", {}, ":1: warning: runtimes take a list"),
        ("twice.conflist", {"plugins": [CONF, CONF]}, f"$.plugins[1].type: {TWICE}"),
    ):
        assert text in validate(write(tmp_path / name, **changes))[1]


def test_a_plugin_of_a_list_that_has_no_type_is_a_problem(file: Path) -> None:
    write(file, plugins=[{**CONF}, 5, {"type": 7}, {"type": "tuning"}])
    status, out = validate(file)
    assert status == 1
    assert "$.plugins[1]: it is 5; a plugin with a type is needed\n" in out
    assert '$.plugins[2]: it is {"type": 7}; a plugin with a type is needed\n' in out
    assert "$.plugins[3]" not in out
    file.write_text(json.dumps({"plugins": ["search"]}))  # of another program
    assert "is needed" not in validate(file)[1]


def test_escape_sequences_of_a_file_are_quoted(file: Path) -> None:
    yaml_text = 'type: ipvlan\nplugins: "\\e[31m"\n'
    file = file.with_suffix(".yaml")
    for text in (r'{"type": "ipvlan", "linkInContainer\u001b[31m": 5}', yaml_text):
        file.write_text(text)
        status, out = validate(file)
        assert (status, "\x1b" in out, "1b[31m" in out) == (1, False, True)
    result = ipvlan("status", "-c", str(file))
    assert (result.status, r'"\u001b[31m"; a list' in result.err) == (2, True)
