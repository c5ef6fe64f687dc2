"""A file can ask for a bounded amount of work only: the command says so at once."""

import io
import json
import os
from pathlib import Path

import pytest
import yaml

from cni_ipvlan.cli import configs
from cni_ipvlan.cli import validate as problems
from cni_ipvlan.cli.reading import ConfigError

NUMBER = "it has a number of more than 100 characters"
DEEP = "it is nested too deeply: more than 100 levels"
LONG = "a list has more than 1000 items"
LARGE = "it is too large, perhaps because of its aliases"
MERGE = "a key must be a string, and no merge (<<)"


def chain(value: str, count: int) -> str:
    return "\n".join(f"a{n}: &a{n} {value.format(f'*a{n - 1}')}" for n in range(1, count))


TEXTS = {
    "sexagesimal with a fraction": ("mtu: 1" + ":1" * 10_000 + ".5", NUMBER),
    "digits": ("mtu: " + "1" * 101, NUMBER),
    "hexadecimal": ("mtu: 0x" + "f" * 100_000, NUMBER),
    "lists of aliases": ("a0: &a0 [1]\n" + chain("[{0}, {0}]", 60), LARGE),
    "merges of merges": ("a0: &a0 {{k: 1}}\n".format() + chain("{{<<: [{0}, {0}]}}", 30), MERGE),
    "many documents": (("a: &a [" + "1, " * 999 + "]\nb: [" + "*a, " * 60 + "]\n---\n") * 2, LARGE),
    "aliases in aliases": ("a0: &a0 [1]\n" + chain("[{0}]", 200), DEEP),
    "brackets": ("x: " + "[" * 101 + "]" * 101, DEEP),
    "many brackets": ("x: " + "[" * 10_000, DEEP),
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_yaml_that_asks_for_much_is_not_read(name: str) -> None:
    text, message = TEXTS[name]
    networks, faults = configs.read("file", f"type: ipvlan\n{text}\n")
    assert [message in str(each) for each in faults] == [True]
    assert len(networks) == faults[0].document - 1


def test_json_that_asks_for_much_is_not_read() -> None:
    deep = dict.fromkeys(("[" * 101 + "]" * 101, "[" * 10**6), DEEP)
    for value, message in {"1" * 5000: "111 is too large", **deep}.items():
        networks, faults = configs.read("file", f'{{"type": "ipvlan", "x": {value}}}')
        assert [message in str(each) for each in faults] == [True]
        assert networks == []


def test_many_networks_or_items_are_not_read() -> None:
    """Some checks compare each with every other."""
    config = {"type": "ipvlan", "cniVersion": "1.0.0", "ipam": {"type": "static"}}
    text = json.dumps({"plugins": [config] * 100})
    item = {"kind": "NetworkAttachmentDefinition", "spec": {"config": text}}
    for document, message in (
        ({**config, "ipam": {"addresses": [{}] * 1001}}, LONG),
        ({"name": "n", "plugins": [config] * 1001}, LONG),
        ({"kind": "List", "items": [item] * 11}, "the file has more than 1000 networks"),
    ):
        for write in (json.dumps, yaml.safe_dump):
            faults = configs.read("file", write(document)).faults
            assert [message in str(each) for each in faults] == [True]


def test_many_ranges_are_not_compared() -> None:
    networks = []
    for name in "abc":
        addresses = [{"address": f"10.{n >> 8}.{n & 255}.1/8"} for n in range(900)]
        ipam = {"type": "static", "addresses": addresses}
        text = json.dumps({"type": "ipvlan", "cniVersion": "1.0.0", "name": name, "ipam": ipam})
        networks += configs.read(name, text).networks
    texts = [(each.name, problem.text) for each, problem in problems.check_all(networks)]
    text = "more than 1000 ranges were read; these are compared with no other"
    assert [each for each in texts if "ranges" in each[1]] == [("b", text), ("c", text)]


def test_a_version_of_many_digits_is_none() -> None:
    document = {"cniVersions": ["1" * 5000 + ".0.0", "1.0.0"], "plugins": [{"type": "ipvlan"}]}
    (network,) = configs.read("file", json.dumps(document)).networks
    assert network.config["cniVersion"] == "1.0.0"


def test_a_large_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_bytes(b" " * (16 << 20) + b"{}")
    with pytest.raises(ConfigError, match="it has more than 16 MiB"):
        configs.read_source(str(file))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(file.read_bytes())))
    with pytest.raises(ConfigError, match="it has more than 16 MiB"):
        configs.read_source("-")
    (fault,) = configs.read("file", "#" * (2 << 20) + "\n{}").faults
    assert "it has more than 2 MiB" in str(fault)


def test_only_a_regular_file_is_opened(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "link").symlink_to(pipe)
    for file in (str(pipe), str(tmp_path / "link"), "/dev/zero", "/dev/null"):
        with pytest.raises(ConfigError, match=f"{file}: it is not a regular file; give - and"):
            configs.read_source(file)
