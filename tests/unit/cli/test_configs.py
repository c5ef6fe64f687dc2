"""cli.configs: what people have at hand becomes what a runtime would pass."""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from cni_ipvlan.cli import configs
from cni_ipvlan.cli.configs import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

CONF: dict[str, Any] = {
    "cniVersion": "1.0.0",
    "name": "net",
    "type": "ipvlan",
    "ipam": {"type": "static"},
}
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
    return configs.load("file", document if isinstance(document, str) else json.dumps(document))


def test_a_plugin_configuration_is_itself() -> None:
    assert [each.config for each in load(CONF)] == [CONF]


def test_a_list_gives_its_ipvlan_entries_its_name_and_version() -> None:
    (found,) = load(LIST)
    assert found.config == {"type": "ipvlan", "mode": "l3", "name": "listed", "cniVersion": "0.4.0"}
    assert found.path == ("plugins", 1)
    assert found.is_chained


def test_a_list_in_several_versions_means_the_highest() -> None:
    several = {**LIST, "cniVersions": ["0.3.1", "1.0.0", "0.10.0"]}
    assert load(several)[0].config["cniVersion"] == "1.0.0"
    odd = {**LIST, "cniVersions": ["x", 5, None]}
    assert load(odd)[0].config["cniVersion"] == "0.4.0"


def test_configurations_of_other_plugins_are_skipped() -> None:
    assert load({**CONF, "type": "macvlan"}) == []
    assert load({**LIST, "plugins": [{"type": "bridge"}, 5]}) == []


def test_a_configuration_without_a_type_is_taken_as_ipvlan() -> None:
    assert len(load({"name": "net"})) == 1


def test_a_definition_gives_the_configuration_in_its_string_and_its_name() -> None:
    unnamed = {key: value for key, value in CONF.items() if key != "name"}
    (found,) = load(definition("blue", unnamed, "shop"))
    assert found.config == {**unnamed, "name": "blue"}
    assert found.label == "shop/blue"
    assert found.path == ("spec", "config")
    assert load(definition("blue", LIST))[0].config["name"] == "listed"


def test_a_definition_without_a_configuration_has_none() -> None:
    assert load({"kind": "NetworkAttachmentDefinition", "metadata": {"name": "x"}}) == []
    assert load(definition("x", "  ")) == []


def test_what_kubectl_prints_is_read() -> None:
    items = [definition(name, {**CONF, "name": name}, "default") for name in ("one", "two")]
    listing = {
        "apiVersion": "v1",
        "kind": "List",
        "items": [*items, {"apiVersion": "v1", "kind": "Pod"}],
    }
    for text in (json.dumps(listing), yaml.safe_dump(listing)):
        assert [each.label for each in load(text)] == ["default/one", "default/two"]


def test_many_documents_in_one_file_are_read() -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}
    documents = [None, definition("one", CONF), pod, definition("two", CONF)]
    found = load(yaml.safe_dump_all(documents))
    assert [each.label for each in found] == ["one", "two"]
    assert [each.document for each in found] == [0, 2]


def test_standard_input_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(json.dumps(CONF).encode()))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert configs.choose("-", None).config == CONF


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


@pytest.mark.parametrize(
    ("given", "name"),
    [("first", "first"), ("one", "first"), ("shop/two", "second"), ("farm/two", "third")],
)
def test_one_of_several_is_chosen_by_any_of_its_names(several: str, given: str, name: str) -> None:
    assert configs.choose(several, given).name == name


@pytest.mark.parametrize(
    ("given", "printed"),
    [
        (None, "has several networks: shop/one, shop/two, farm/two; choose one with --network"),
        ("two", "has several networks: shop/two, farm/two; choose one with --network"),
        ("three", "has no network 'three'; it has: shop/one, shop/two, farm/two"),
    ],
)
def test_without_a_clear_choice_the_names_are_listed(
    several: str, given: str | None, printed: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        configs.choose(several, given)
    assert str(caught.value) == f"{several} {printed}"


def test_a_list_with_two_ipvlan_entries_has_no_names_to_choose_by(tmp_path: Path) -> None:
    file = tmp_path / "two.conflist"
    file.write_text(json.dumps({**LIST, "plugins": [CONF, CONF]}))
    with pytest.raises(ConfigError, match="has the network listed 2 times"):
        configs.choose(str(file), None)


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("", "has no configuration of type ipvlan"),
        ("{", "is not valid JSON: Expecting property name"),
        ('{"a": NaN}', "is not valid JSON: NaN is not JSON"),
        ("a: [", "is neither JSON nor YAML: while parsing a flow node"),
        ("a: !!python/object:os.system {}", "is neither JSON nor YAML: could not determine"),
        ("just words", 'is "just words"; a network configuration is needed'),
        ("- 1", "is [1]; a network configuration is needed"),
        ("day: 2024-01-01", "has a value that JSON can't express"),
        ("a: &a [*a]", "has a value that JSON can't express"),
        ("a: .nan", "has a value that JSON can't express"),
        ('{"plugins": 5}', "plugins is 5; a list is needed"),
        (json.dumps(definition("x", "{")), "the config of 'x' is not valid JSON"),
        (json.dumps(definition("x", "[1]")), "the config of 'x' is [1]; a JSON object is needed"),
        ("\0", "is neither JSON nor YAML"),
    ],
)
def test_what_cannot_be_read_is_reported_in_a_sentence(
    tmp_path: Path, text: str, printed: str
) -> None:
    file = tmp_path / "file"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        configs.choose(str(file), None)
    message = str(caught.value)
    assert printed in message
    assert message.startswith(str(file))
    assert "\n" not in message


def test_json_in_a_file_called_so_is_not_tried_as_yaml(tmp_path: Path) -> None:
    file = tmp_path / "net.conf"
    file.write_text("a: b")
    with pytest.raises(ConfigError, match="is not valid JSON"):
        configs.choose(str(file), None)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("/no/such/file", "No such file or directory"),
        ("/", "Is a directory"),
        ("a\0b", "embedded null byte"),
    ],
)
def test_a_file_that_can_not_be_opened(source: str, why: str) -> None:
    with pytest.raises(ConfigError, match=f"cannot read .*: {why}"):
        configs.read_source(source)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "net.conf"
    file.write_bytes(b"\xff\xfe{}")
    with pytest.raises(ConfigError, match="it is not UTF-8 text"):
        configs.read_source(str(file))


def test_without_pyyaml_json_is_read_and_yaml_is_refused_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert len(load(definition("x", CONF))) == 1
    with pytest.raises(ConfigError) as caught:
        load("kind: List")
    assert str(caught.value) == (
        "file is not JSON, and reading YAML needs PyYAML "
        f"({sys.executable} -m pip install PyYAML, or Debian's python3-yaml)"
    )
