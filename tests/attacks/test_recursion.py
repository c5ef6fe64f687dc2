"""An IPAM plugin that is this very plugin: refused at once, and no reason to keep a pod."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from attacker import end_within
from executable import Executable
from lab import Node, Space
from runtime import PLUGINS, Answer, call_environment, network, stdin_of

SECONDS = 20


def ask(
    ipvlan: Executable, verb: str, container: Space, plugin: str, directory: Path | str
) -> Answer:
    environment = call_environment(verb, container, CNI_PATH=f"{directory}:{PLUGINS}")
    conf = network(ipam={"type": plugin})
    return end_within(ipvlan.start(environment, stdin_of(conf)), SECONDS)


def test_add_refuses_itself_as_ipam_at_once(node: Node, ipvlan: Executable) -> None:
    node.master()
    container = node.container()
    before = node.snapshot()

    answer = ask(ipvlan, "ADD", container, "ipvlan", Path(ipvlan.path).parent)

    assert answer.error()["code"] == 7
    assert "ipam" in answer.error()["msg"]
    assert node.snapshot() == before


def test_delete_has_nothing_to_release_where_ipam_is_itself(node: Node, ipvlan: Executable) -> None:
    ask(ipvlan, "DEL", node.container(), "ipvlan", Path(ipvlan.path).parent).succeeds()


def link(path: Path, command: str) -> None:
    path.symlink_to(command)


def script(path: Path, command: str) -> None:
    path.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    path.chmod(0o755)


@pytest.mark.parametrize("disguise", [link, script])
@pytest.mark.parametrize("verb", ["ADD", "DEL"])
def test_calling_itself_under_another_name_is_refused_at_once(
    node: Node,
    ipvlan: Executable,
    tmp_path: Path,
    disguise: Callable[[Path, str], None],
    verb: str,
) -> None:
    node.master()
    disguise(tmp_path / "other", ipvlan.path)
    container = node.container()
    before = node.snapshot()

    answer = ask(ipvlan, verb, container, "other", tmp_path)

    if verb == "ADD":
        answer.error()
    else:
        answer.succeeds()
    assert node.snapshot() == before
