"""scripts/install-node on a node whose runtime goes on attaching and detaching containers."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from executable import Executable
from lab import run
from runtime import Runtime, host_local, network

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab import Node
    from runtime import Answer

import pytest

INSTALLER = str(Path(__file__).resolve().parents[2] / "scripts/install-node")


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "bin/ipvlan"
    run(INSTALLER, *places(tmp_path), "--uninstall")
    assert not (tmp_path / "bin").exists()
    assert not (tmp_path / "prefix").exists()


def places(directory: Path) -> list[str]:
    options = {"--prefix": "prefix", "--bin-dir": "bin", "--share-dir": "share"}
    return [word for option, place in options.items() for word in (option, f"{directory}/{place}")]


def install(installed: Path) -> None:
    run(INSTALLER, *places(installed.parents[1]), "--system-packages")


def test_no_call_fails_while_the_plugin_is_upgraded(node: Node, installed: Path) -> None:
    node.master()
    container = node.container()
    install(installed)
    runtime = Runtime(Executable(str(installed)))
    conf = network(ipam=host_local("10.1.0.0/24"))
    ended = threading.Event()
    answers: list[Answer] = []

    def attach_and_detach() -> None:
        while not ended.is_set():
            answers.append(runtime.add(container, conf))
            answers.append(runtime.delete(container, conf))

    caller = threading.Thread(target=attach_and_detach)
    caller.start()
    try:
        install(installed)
    finally:
        ended.set()
        caller.join()
    assert len(answers) > 2
    assert [answer for answer in answers if answer.status] == []
    assert node.leases() == []
