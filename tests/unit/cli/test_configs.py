"""cli.configs: what people have at hand becomes what a runtime would pass."""

import json
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from runtime import network

from cni_ipvlan.cli import configs, options
from cni_ipvlan.cli.reading import ConfigError

CONF = network(master=None, ipam={"type": "static"})
LIST: dict[str, Any] = {
    "cniVersion": "0.4.0",
    "name": "listed",
    "plugins": [{"type": "bridge"}, {"type": "ipvlan", "mode": "l3", "name": "inner"}],
}


def definition(name: str, config: object, namespace: str = "") -> dict[str, Any]:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {
        "apiVersion": "k8s.cni.cncf.io/v1",
        "kind": "NetworkAttachmentDefinition",
        "metadata": metadata,
        "spec": {"config": config if isinstance(config, str) else json.dumps(config)},
    }


def load(document: object) -> list[configs.NetworkConfig]:
    text = document if isinstance(document, str) else json.dumps(document)
    networks, faults = configs.read("file", text)
    if faults:
        raise faults[0]
    return networks


def test_a_list_gives_its_ipvlan_entries_its_name_and_version() -> None:
    assert [each.config for each in load(CONF)] == [CONF]
    (entry,) = load({**LIST, "plugins": [*LIST["plugins"], {"type": "tuning"}, {"type": "sbr"}]})
    assert entry.config == {"type": "ipvlan", "mode": "l3", "name": "listed", "cniVersion": "0.4.0"}
    assert entry.path == ("plugins", 1)
    assert entry.before
    assert (entry.before, entry.after) == (("bridge",), ("tuning", "sbr"))
    # Of several versions, the highest is named.
    several = {**LIST, "cniVersions": ["0.3.1", "1.0.0", "0.10.0"]}
    assert load(several)[0].config["cniVersion"] == "1.0.0"
    invalid = {**LIST, "cniVersions": ["x", 5, None]}
    assert load(invalid)[0].config["cniVersion"] == "0.4.0"


def test_a_configuration_without_a_type_and_others_are_skipped() -> None:
    for other in (
        {"name": "net", "cniVersion": "1.0.0"},
        {"apiVersion": "v2", "name": "chart", "version": "1.0.0"},
        {**CONF, "type": "macvlan"},
        {**LIST, "plugins": [{"type": "bridge"}, 5], "cniVersions": "1.0.0"},
        {"kind": "NetworkAttachmentDefinition", "metadata": {"name": "x"}},
        definition("x", "  "),
    ):
        assert load(other) == []


def test_a_definition_gives_the_configuration_in_its_string_and_its_name() -> None:
    unnamed = {key: value for key, value in CONF.items() if key != "name"}
    (network,) = load(definition("blue", unnamed, "shop"))
    assert network.config == {**unnamed, "name": "blue"}
    assert network.label == "shop/blue"
    assert network.path == ("spec", "config")
    assert load(definition("blue", LIST))[0].config["name"] == "listed"


def test_what_kubectl_prints_is_read() -> None:
    items = [definition(name, {**CONF, "name": name}, "default") for name in ("one", "two")]
    listing = {"kind": "List", "items": [*items, {"apiVersion": "v1", "kind": "Pod"}]}
    for text in (json.dumps(listing), yaml.safe_dump(listing)):
        assert [each.label for each in load(text)] == ["default/one", "default/two"]


def test_many_documents_in_one_file_are_read() -> None:
    pod = "kind: Pod\napiVersion: v1\nmetadata: {creationTimestamp: 2024-01-01T00:00:00Z}\n"
    first, second = (yaml.safe_dump(definition(name, CONF)) for name in ("one", "two"))
    networks = load(f"---\nnull\n---\n{first}---\n{pod}---\n{second}")
    assert [each.label for each in networks] == ["one", "two"]
    assert [each.root.number for each in networks] == [2, 4]


@pytest.fixture
def several(tmp_path: Path) -> str:
    file = tmp_path / "several.yaml"
    documents = [
        definition("one", {**CONF, "name": "first"}, "shop"),
        definition("two", {**CONF, "name": "second"}, "shop"),
        definition("two", {**CONF, "name": "third"}, "farm"),
    ]
    file.write_text(yaml.safe_dump_all(documents))
    return str(file)


def test_one_of_several_is_chosen_by_any_of_its_names(several: str) -> None:
    names = {"first": "first", "one": "first", "shop/two": "second", "farm/two": "third"}
    for choice, name in names.items():
        assert options.choose_network(several, choice).name == name


def test_without_a_clear_choice_the_names_are_listed(several: str) -> None:
    for choice, printed in (
        (None, "has several networks: shop/one, shop/two, farm/two; choose one with --network"),
        ("two", "has several networks: shop/two, farm/two; choose one with --network"),
        ("three", "has no network 'three'; it has: shop/one, shop/two, farm/two"),
    ):
        with pytest.raises(click.BadParameter) as excinfo:
            options.choose_network(several, choice)
        assert excinfo.value.message == f"{several} {printed}"


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("", " has no configuration of type ipvlan"),
        ("# nothing\n---\n", " has no configuration of type ipvlan"),
        ("kind: Pod\napiVersion: v1\n", " has no configuration of type ipvlan"),
        ("{", ":1: it is not valid JSON: a key in double quotes is missing"),
        ('{"a": NaN}', ": it is not valid JSON: NaN is not JSON"),
        ('{\n"a": 1e999}', ": it is not valid JSON: the number 1e999 is too large"),
        ('{\n"a": 1, // one\n}', ":2: it is not valid JSON: a key in double quotes is missing"),
        ("{'a': 1}", ":1: it is not valid JSON: a key in double quotes is missing"),
        ('{"a": True}', ":1: it is not valid JSON: a value is missing, or is a word without quo"),
        ('{"a": 1\n"b": 2}', ":2: it is not valid JSON: a comma or a closing bracket is missing"),
        ('{"a": 1}\n}', ":2: it is not valid JSON: something follows its end"),
        ('{"a": ' + "[" * 100_000, ":1: it is not valid JSON: it is nested too deeply"),
        ("\ufeff{}", ":1: it is not valid JSON: it starts with a byte order mark"),
        ("a: 1\nb: c: d", ":2: it can't be read as JSON or YAML: mapping values are not allowed"),
        ("just words", ':1: it is "just words"; a network configuration is needed'),
        ("a: 1\n---\n- 1", ":3: document 2: it is [1]; a network configuration is needed"),
        ("a: &a [*a]", ":1: it can't be read as JSON or YAML: it is nested too deeply"),
        ('type: ipvlan\nplugins: {"a": 5}', ':2: $.plugins: plugins is {"a": 5}; a list is needed'),
        (json.dumps(definition("x", "{")), ":1: $.spec.config: it is not valid JSON: a key"),
        (
            yaml.safe_dump({**definition("x", ""), "spec": {"config": CONF}}),
            "$.spec.config: config is a mapping; it must be a string of JSON: write config: |",
        ),
        ('{"cniVersion": "1.0.0", "type": "ipvlann"}', "$.type: type is 'ipvlann'; did you mean"),
        ('{"plugins": [{"type": "ipvlam"}]}', "$.plugins[0].type: type is 'ipvlam'; did you mean"),
        ("\0", ":1: it can't be read as JSON or YAML: unacceptable character #x0000"),
    ],
)
def test_what_cannot_be_read_is_told_in_a_sentence(tmp_path: Path, text: str, printed: str) -> None:
    file = tmp_path / "file"
    file.write_text(text)
    with pytest.raises(click.BadParameter) as excinfo:
        options.choose_network(str(file), None)
    message = excinfo.value.message
    assert printed in message
    assert message.startswith(str(file))
    assert "\n" not in message


def test_what_json_has_not_is_a_string() -> None:
    (network,) = load("type: ipvlan\nday: 2024-01-01\nipam: {a: .nan, b: !Ref c}")
    assert network.config["day"] == "2024-01-01"
    assert network.config["ipam"] == {"a": ".nan", "b": "c"}


def test_a_file_that_can_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "net.conf").write_bytes(b"\xff\xfe{}")
    for source, message in (
        ("/no/such/file", "cannot read .*: No such file or directory"),
        ("/", "cannot read .*: Is a directory"),
        ("a\0b", "embedded null"),
        (str(tmp_path / "net.conf"), "it is not UTF-8 text"),
    ):
        with pytest.raises(ConfigError, match=message):
            configs.read_source(source)


def test_what_a_file_is_called_says_how_it_is_read(tmp_path: Path) -> None:
    file = tmp_path / "two.conflist"
    file.write_text(json.dumps({**LIST, "plugins": [CONF, CONF]}))
    with pytest.raises(click.BadParameter, match="has several networks: listed, listed;"):
        options.choose_network(str(file), None)  # for which there are no names to choose by
    (tmp_path / "net.conf").write_text("a: b")
    with pytest.raises(click.BadParameter, match="it is not valid JSON: a value is missing"):
        options.choose_network(str(tmp_path / "net.conf"), None)
    (tmp_path / "net.yaml").write_text("{type: ipvlan, # a comment\n name: net}")
    assert options.choose_network(str(tmp_path / "net.yaml"), None).name == "net"


def test_what_is_not_about_networks_does_not_matter() -> None:
    rule = {"kind": "Rule", "apiVersion": "v1", "spec": {"text": "{{ $labels.instance }}"}}
    assert load(yaml.safe_dump(rule)) == []
    assert len(load(yaml.safe_dump_all([rule, definition("x", CONF)]))) == 1


def test_what_is_wrong_with_one_network_does_not_hide_others(tmp_path: Path) -> None:
    documents = [definition("one", "{"), definition("two", {**CONF, "name": "second"})]
    text = yaml.safe_dump_all(documents)
    contents = configs.read("file", text)
    assert [each.name for each in contents.networks] == ["second"]
    assert [each.document for each in contents.faults] == [1]
    file = tmp_path / "nets.yaml"
    file.write_text(text)
    assert options.choose_network(str(file), "two").name == "second"
    with pytest.raises(click.BadParameter, match="it is not valid JSON"):
        options.choose_network(str(file), None)
