"""Invalid calls: an error document explains them, and nothing is changed."""

from __future__ import annotations

from typing import Any

import pytest
from lab import Node
from runtime import Conf, Runtime, call_environment, network

# Variables that replace those of a valid ADD (None: missing), and words of the error.
ENVIRONMENTS: list[tuple[dict[str, str | None], list[str]]] = [
    ({"CNI_COMMAND": "add"}, ["CNI_COMMAND", "'add'"]),
    ({"CNI_CONTAINERID": None}, ["CNI_CONTAINERID"]),
    ({"CNI_NETNS": ""}, ["CNI_NETNS"]),
    ({"CNI_IFNAME": None}, ["CNI_IFNAME"]),
    ({"CNI_PATH": None}, ["CNI_PATH"]),
    (
        {"CNI_CONTAINERID": None, "CNI_NETNS": None, "CNI_IFNAME": "", "CNI_PATH": ""},
        ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"],
    ),
    ({"CNI_CONTAINERID": "../x"}, ["CNI_CONTAINERID", "'../x'"]),
    ({"CNI_CONTAINERID": "-x"}, ["CNI_CONTAINERID", "'-x'"]),
    ({"CNI_IFNAME": "."}, ["CNI_IFNAME", "'.'"]),
    ({"CNI_IFNAME": "a/b"}, ["CNI_IFNAME", "'a/b'"]),
    ({"CNI_IFNAME": "a b"}, ["CNI_IFNAME", "'a b'"]),
    ({"CNI_IFNAME": "sixteencharacter"}, ["CNI_IFNAME", "15"]),
    ({"CNI_IFNAME": "achtbisüüü15byt"}, ["CNI_IFNAME", "15"]),
    ({"CNI_IFNAME": "veth%d"}, ["CNI_IFNAME", "%"]),
    ({"CNI_CONTAINERID": "a b", "CNI_IFNAME": "a:b"}, ["'a b'", "'a:b'"]),
    ({"CNI_NETNS": "/nonexistent/netns"}, ["CNI_NETNS", "/nonexistent/netns"]),
]
# Options that replace valid ones, and words of the error: option, value, what is allowed.
OPTIONS: list[tuple[dict[str, Any], list[str]]] = [
    ({"name": None}, ["name"]),
    ({"name": "a/b"}, ["name", "a/b"]),
    ({"type": "macvlan"}, ["type", "macvlan", "ipvlan"]),
    ({"master": 5}, ["master", "5", "string"]),
    ({"master": "x" * 128}, ["master", "128", "127"]),
    ({"master": "a b"}, ["master", "a b"]),
    ({"mode": "L2"}, ["mode", "L2", "l2, l3, l3s"]),
    ({"flag": "none"}, ["flag", "none", "bridge, private, vepa"]),
    ({"mtu": -1}, ["mtu", "-1", "0"]),
    ({"mtu": "1500"}, ["mtu", "1500", "whole number"]),
    ({"mtu": 1500.5}, ["mtu", "1500.5", "whole number"]),
    ({"ipam": "static"}, ["ipam", "static", "object"]),
    ({"ipam": None}, ["ipam"]),
    ({"ipam": {}}, ["ipam", "type"]),
    ({"linkInContainer": "true"}, ["linkInContainer", "true or false"]),
    ({"dns": []}, ["dns", "object"]),
    ({"mode": 7, "flag": 8, "mtu": "x"}, ["mode", "7", "flag", "8", "mtu", "x"]),
]
# A document that is wrong as a whole, the code of the error, the version it is in.
DOCUMENTS: list[tuple[str, Conf | bytes, int, str]] = [
    ("ADD", b"", 6, "1.1.0"),
    ("ADD", b"{", 6, "1.1.0"),
    ("ADD", b"[]", 6, "1.1.0"),
    ("ADD", b'{"cniVersion": "1.0.0", "name": "\xff"}', 6, "1.1.0"),
    ("ADD", b"[" * 100000, 6, "1.1.0"),
    ("ADD", network(cniVersion="9.9.9"), 1, "9.9.9"),
    ("ADD", network(cniVersion=5), 7, "1.1.0"),
    ("CHECK", network(cniVersion="0.3.1"), 1, "0.3.1"),
    ("STATUS", network(cniVersion="1.0.0"), 1, "1.0.0"),
    ("GC", network(cniVersion="1.0.0"), 1, "1.0.0"),
    ("CHECK", network(cniVersion="0.4.0"), 7, "0.4.0"),
    ("GC", network(cniVersion="1.1.0", **{"cni.dev/valid-attachments": 5}), 7, "1.1.0"),
]


@pytest.mark.parametrize(("variables", "words"), ENVIRONMENTS)
def test_an_environment_that_is_wrong_is_refused(
    node: Node, runtime: Runtime, variables: dict[str, str | None], words: list[str]
) -> None:
    node.master()
    changed = {**call_environment("ADD", node.container()), **variables}
    environment = {name: value for name, value in changed.items() if value is not None}
    before = node.snapshot()

    error = runtime.raw(network(), environment).error()

    assert (error["code"], error["cniVersion"]) == (4, "1.0.0")
    assert [word for word in words if word not in error["msg"]] == []
    assert node.snapshot() == before


@pytest.mark.parametrize(
    ("verb", "missing"),
    [
        ("DEL", ["CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"]),
        ("CHECK", ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"]),
        ("STATUS", ["CNI_PATH"]),
        ("GC", ["CNI_PATH"]),
    ],
)
def test_each_verb_names_all_missing_variables(
    runtime: Runtime, verb: str, missing: list[str]
) -> None:
    error = runtime.raw(network(cniVersion="1.1.0"), {"CNI_COMMAND": verb}).error()

    assert error["code"] == 4
    assert [word for word in missing if word not in error["msg"]] == []


@pytest.mark.parametrize(("options", "words"), OPTIONS)
def test_an_option_that_is_wrong_is_refused(
    node: Node, runtime: Runtime, options: dict[str, Any], words: list[str]
) -> None:
    node.master()
    container = node.container()
    before = node.snapshot()

    error = runtime.add(container, network(**options)).error()

    assert (error["code"], error["cniVersion"]) == (7, "1.0.0")
    assert [word for word in words if word not in error["msg"]] == []
    assert node.snapshot() == before


@pytest.mark.parametrize(("verb", "document", "code", "version"), DOCUMENTS)
def test_a_document_that_is_wrong_as_a_whole_is_refused(
    node: Node, runtime: Runtime, verb: str, document: Conf | bytes, code: int, version: str
) -> None:
    error = runtime.raw(document, call_environment(verb, node.container())).error()

    assert (error["code"], error["cniVersion"]) == (code, version)
    assert error["msg"]


def test_without_a_command_it_prints_a_description(runtime: Runtime) -> None:
    answer = runtime.raw(b"", {})

    assert (answer.status, answer.stdout) == (0, b"")
    assert "CNI" in answer.stderr
    assert "1.1.0" in answer.stderr
