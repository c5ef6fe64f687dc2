"""Nothing in the caller's surroundings changes what the command does."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from doubles import FakeIpam
from executable import Executable
from lab import Node, Space
from runtime import Answer, call_environment, network, stdin_of

EVIL_MODULES = (
    *("sitecustomize", "usercustomize", "json", "os", "sh", "jsonschema", "click", "site"),
    *("cni_ipvlan", "ipaddress", "encodings", "re", "signal", "typing"),
)
ENVIRONMENTS: dict[str, dict[str, str]] = {
    "nothing but CNI": {},
    "empty PATH": {"PATH": "", "HOME": ""},
    "useless PATH": {"PATH": "/nonexistent:relative::", "HOME": "/nonexistent"},
    "PYTHONPATH": {"PYTHONPATH": "{evil}", "PATH": os.environ["PATH"]},
    "PYTHONHOME": {"PYTHONHOME": "{evil}"},
    "PYTHONUSERBASE": {"PYTHONUSERBASE": "{evil}", "HOME": "{evil}"},
    "PYTHONPLATLIBDIR": {"PYTHONPLATLIBDIR": "{evil}", "PYTHONEXECUTABLE": "/bin/false"},
    "more of Python's": {
        "PYTHONSTARTUP": "{evil}/os.py",
        "PYTHONINSPECT": "1",
        "PYTHONVERBOSE": "1",
        "PYTHONWARNINGS": "error",
        "PYTHONOPTIMIZE": "2",
        "PYTHONBREAKPOINT": "os.abort",
        "PYTHONIOENCODING": "utf-16",
    },
    "shell's": {"ENV": "{evil}/os.py", "BASH_ENV": "{evil}/os.py", "IFS": "/", "CDPATH": "/"},
    "locale": {"LC_ALL": "C", "LANG": "tlh_KX", "PYTHONUTF8": "0", "LANGUAGE": "de"},
}


@pytest.fixture
def evil(tmp_path: Path) -> Iterator[Path]:
    """A directory of modules that leave a trace when they are loaded; it must not be there."""
    directory = tmp_path / "evil"
    trace = tmp_path / "trace"
    for place in (directory, directory / ".local/lib", directory / "lib"):
        packages = place / f"python{sys.version_info.major}.{sys.version_info.minor}"
        for below in (place, packages, packages / "site-packages"):
            below.mkdir(parents=True, exist_ok=True)
            for name in EVIL_MODULES:
                (below / f"{name}.py").write_text(f"open({str(trace)!r}, 'w')\nraise SystemExit\n")
    yield directory
    assert not trace.exists()


@pytest.mark.parametrize("case", ENVIRONMENTS)
def test_no_environment_changes_what_an_add_does(
    node: Node, ipvlan: Executable, evil: Path, case: str
) -> None:
    node.master()
    container = node.container()
    extra = {key: value.format(evil=evil) for key, value in ENVIRONMENTS[case].items()}

    answer = ipvlan(call_environment("ADD", container, **extra), stdin_of(network()))

    assert_attached(container, answer)
    assert answer.stderr == ""


def test_no_current_directory_changes_what_an_add_does(
    node: Node, ipvlan: Executable, evil: Path
) -> None:
    node.master()
    container = node.container()
    environment = call_environment("ADD", container)

    answer = ipvlan.start(environment, stdin_of(network()), directory=evil).end()

    assert_attached(container, answer)


def test_the_current_directory_may_be_gone(node: Node, ipvlan: Executable, tmp_path: Path) -> None:
    node.master()
    container = node.container()
    leave = tmp_path / "leave"
    leave.write_text(f'#!/bin/sh\nrmdir "$PWD" && exec {shlex.quote(ipvlan.path)}\n')
    leave.chmod(0o755)
    (tmp_path / "gone").mkdir()
    environment = call_environment("ADD", container)

    call = Executable(str(leave)).start(environment, stdin_of(network()), tmp_path / "gone")

    assert_attached(container, call.end())
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize("way", ["link", "link to a link", "other name"])
def test_the_command_may_be_reached_in_another_way(
    node: Node, ipvlan: Executable, tmp_path: Path, way: str
) -> None:
    node.master()
    place = tmp_path / "opt cni" / ("cni-ipvlan" if way == "other name" else "ipvlan")
    place.parent.mkdir()
    target = Path(ipvlan.path)
    if way == "link to a link":
        target = tmp_path / "between"
        target.symlink_to(ipvlan.path)
    place.symlink_to(target)

    container = node.container()
    answer = Executable(str(place))(call_environment("ADD", container), stdin_of(network()))

    assert_attached(container, answer)


def test_a_copy_of_the_command_answers_that_it_is_one(
    node: Node, ipvlan: Executable, tmp_path: Path
) -> None:
    node.master()
    container = node.container()
    copy = shutil.copy(ipvlan.path, tmp_path)

    error = Executable(str(copy))(call_environment("ADD", container), stdin_of(network())).error()

    assert error["code"] == 5
    assert "link to that command, or run it in a script, instead of copying it" in error["details"]
    assert container.links().keys() == {"lo"}


@pytest.mark.parametrize("name", ["ünï", "-x", 'a"b'])
@pytest.mark.parametrize("variables", [{}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
def test_names_are_utf_8_whatever_the_locale(
    node: Node, ipvlan: Executable, name: str, variables: dict[str, str]
) -> None:
    node.master(name)
    container = node.container()
    conf = network(master=name)
    call = {"CNI_IFNAME": name, **variables}

    answer = ipvlan(call_environment("ADD", container, **call), stdin_of(conf))

    assert answer.result()["interfaces"][0]["name"] == name
    assert container.ipvlan(name)["up"]
    ipvlan(call_environment("DEL", container, **call), stdin_of(conf)).succeeds()
    assert container.links().keys() == {"lo"}


def test_the_ipam_plugin_gets_the_callers_environment_and_stdin_as_they_are(
    node: Node, ipvlan: Executable, fake_ipam: FakeIpam
) -> None:
    node.master()
    fake_ipam.answers("ADD", {"ips": [{"address": "10.1.0.2/24"}]})
    stdin = stdin_of(network(ipam=fake_ipam.conf, args={"x": "ü"})) + b"\n  "
    environment = call_environment(
        "ADD",
        node.container(),
        CNI_PATH=f"/nonexistent:{fake_ipam.path}",
        CNI_ARGS="K8S_POD_NAME=pod;IgnoreUnknown=1",
        HTTP_PROXY="http://proxy.example",
        PYTHONPATH="/somewhere",
    )

    ipvlan(environment, stdin).result()

    got = fake_ipam.environment("ADD")
    assert {name: got.get(name) for name in environment} == environment
    assert fake_ipam.stdin("ADD") == stdin


def assert_attached(container: Space, answer: Answer) -> None:
    assert answer.result()["ips"] == [{"interface": 0, "address": "10.1.0.2/24"}]
    assert container.addresses("net1") == ["10.1.0.2/24"]
