"""What runs as root trusts nothing that others can write to, and needs little of root."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import faulty
import pytest
import sampling
from executable import Executable
from faulty import Faults
from lab import FOR_ALL, MEMORY, Node, Space
from runtime import Answer, Runtime, call_environment, host_local, network, stdin_of

CONF = network(ipam=host_local("10.1.0.0/24", "fd00:1::/64", routes=[{"dst": "0.0.0.0/0"}]))
NEEDED = {"net_admin": 112, "sys_admin": 112}  # each with the error of an ADD without it


def with_capabilities(
    change: str, verb: str, container: Space | str, conf: dict[str, Any]
) -> Answer:
    """Call as root with another bounding set, which is what root gets at an exec."""
    done = subprocess.run(
        ["setpriv", "--bounding-set", change, "--inh-caps", "-all", f"{FOR_ALL}/bin/ipvlan"],
        input=stdin_of(conf),
        env=call_environment(verb, container),
        capture_output=True,
        check=False,
    )
    return Answer(done.returncode, done.stdout, done.stderr.decode())


def test_these_capabilities_are_enough(node: Node) -> None:
    node.master()
    container = node.container()
    before = node.snapshot()
    only = "-all," + ",".join(f"+{name}" for name in NEEDED)

    answer = with_capabilities(only, "ADD", container, CONF)

    conf = {**CONF, "prevResult": answer.result()}
    assert answer.stderr == ""
    for verb in ("CHECK", "DEL"):
        with_capabilities(only, verb, container, conf).succeeds()
    assert node.snapshot() == before


@pytest.mark.parametrize("capability", NEEDED)
def test_without_one_of_them_add_names_what_is_missing(node: Node, capability: str) -> None:
    node.master()
    container = node.container()
    before = node.snapshot()

    error = with_capabilities(f"-{capability}", "ADD", container, CONF).error()

    assert error["code"] == NEEDED[capability]
    assert f"CAP_{capability.upper()}" in error["details"]
    assert node.snapshot() == before


def test_root_that_may_not_open_a_processes_namespace_learns_why(node: Node) -> None:
    node.master()
    only = "-all," + ",".join(f"+{name}" for name in NEEDED)

    error = with_capabilities(only, "ADD", "/proc/1/ns/net", CONF).error()

    assert (error["code"], error["msg"]) == (4, "CNI_NETNS is '/proc/1/ns/net'; Permission denied")
    assert error["details"] == (
        "try: run as the host's root with all capabilities: this process lacks CAP_SYS_PTRACE"
    )


@pytest.mark.skipif(not sampling.is_long(), reason="follows from the two above")
def test_no_other_capability_is_missed(node: Node) -> None:
    node.master()
    container = node.container()
    names = subprocess.run(["setpriv", "--list-caps"], capture_output=True, check=True, text=True)
    missed = []
    for name in set(names.stdout.split()) - NEEDED.keys():
        answer = with_capabilities(f"-{name}", "ADD", container, CONF)
        if answer.status:
            missed.append(name)
        with_capabilities(f"-{name}", "DEL", container, CONF).succeeds()
    assert missed == []


def test_a_call_of_an_ordinary_user_changes_nothing(node: Node) -> None:
    node.master()
    container = node.container()
    before = node.snapshot()

    nobody = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")

    done = subprocess.run(
        [*nobody, f"{FOR_ALL}/bin/ipvlan"],
        input=stdin_of(CONF),
        env=call_environment("ADD", container),
        capture_output=True,
        check=False,
    )

    error = Answer(done.returncode, done.stdout, done.stderr.decode()).error()
    assert error["code"] in {5, 112}
    assert node.snapshot() == before


def test_only_root_can_read_what_is_kept(node: Node, ipvlan: Executable) -> None:
    node.master()
    script = f"umask 0; exec {ipvlan.path}"

    subprocess.run(
        ["sh", "-c", script],
        input=stdin_of(CONF),
        env=call_environment("ADD", node.container()),
        capture_output=True,
        check=True,
    )

    kept = [MEMORY, *MEMORY.iterdir()]
    assert len(kept) == 2
    assert [path.stat().st_mode & 0o077 for path in kept] == [0, 0]


def test_no_file_is_written_but_those_that_are_kept(node: Node, tmp_path: Path) -> None:
    """Not even for a moment: an audit hook reports which files are opened for writing."""
    node.master()
    container = node.container()
    opened = tmp_path / "opened"
    child = os.fork()
    if not child:
        descriptor = os.open(opened, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

        def listen(event: str, arguments: tuple[Any, ...]) -> None:
            if event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                os.write(descriptor, f"{arguments[0]}\n".encode())

        sys.addaudithook(listen)
        for verb in ("ADD", "DEL"):
            faulty.call(call_environment(verb, container), stdin_of(CONF), Faults())
        os._exit(0)
    os.waitpid(child, 0)

    paths = set(opened.read_text().splitlines())
    assert paths
    assert all(Path(path).is_relative_to(MEMORY) for path in paths), paths


@pytest.mark.parametrize("place", ["PATH", "current directory", "HOME"])
def test_only_cni_path_decides_where_an_ipam_plugin_comes_from(
    node: Node, runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    node.master()
    container = node.container()
    evil = tmp_path / "evil"
    evil.write_text(f"#!/bin/sh\ntouch {tmp_path}/was-run\n")
    evil.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    others = {} if place == "current directory" else {place: str(tmp_path)}

    error = runtime.add(container, network(ipam={"type": "evil"}), **others).error()

    assert error["code"] == 108
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize(
    "way", ["link", "link in between", "another name", "file of others", "directory of others"]
)
def test_log_file_is_not_followed_where_others_can_write(
    node: Node, runtime: Runtime, tmp_path: Path, way: str
) -> None:
    node.master()
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("precious")
    public = tmp_path / "public"
    public.mkdir()
    public.chmod(0o777)
    log = public / "log"
    if way == "link in between":
        log = public / "between" / "file"
        log.parent.symlink_to(precious)
    elif way == "link":
        log.symlink_to(precious / "file")
    elif way == "another name":
        log.hardlink_to(precious / "file")
    elif way == "directory of others":
        log = public / "theirs" / "log"
        log.parent.mkdir()
        os.chown(log.parent, 65534, 65534)
    else:
        log.write_text("")
        os.chown(log, 65534, 65534)

    answer = runtime.add(node.container(), network(), CNI_IPVLAN_LOG=str(log))

    answer.result()
    assert f"cannot log to {str(log)!r}" in answer.stderr
    assert (precious / "file").read_text() == "precious"
    assert way != "file of others" or log.read_text() == ""
    assert way != "directory of others" or not log.exists()
