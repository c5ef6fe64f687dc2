"""Nothing in the caller's surroundings changes what the command does."""

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from doubles import FakeIpam
from executable import Executable
from lab import Node, Space
from runtime import Answer, call_environment, network, stdin_of

EVIL_MODULES = ("sitecustomize", "json", "os", "sh", "click", "site", "cni_ipvlan", "encodings")
EVIL = {
    **dict.fromkeys(("PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "HOME"), "{evil}"),
    **dict.fromkeys(("PYTHONSTARTUP", "ENV", "BASH_ENV"), "{evil}/os.py"),
    "PYTHONPLATLIBDIR": "{evil}",
    "PYTHONEXECUTABLE": "/bin/false",
    "PYTHONINSPECT": "1",
    "PYTHONVERBOSE": "1",
    "PYTHONWARNINGS": "error",
    "PYTHONOPTIMIZE": "2",
    "PYTHONBREAKPOINT": "os.abort",
    "PYTHONIOENCODING": "utf-16",
    "IFS": "/",
    "CDPATH": "/",
    "PATH": "/nonexistent:relative::",
}
ENVIRONMENTS: dict[str, dict[str, str]] = {
    "nothing but CNI": {},
    "all of it evil": EVIL,
    "a locale": {"LC_ALL": "C", "LANG": "tlh_KX", "PYTHONUTF8": "0", "LANGUAGE": "de", "PATH": ""},
}


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory of modules that leave a trace when they are loaded; it must not be there."""
    directory = tmp_path_factory.mktemp("evil")
    trace = directory / "trace"
    packages = Path(f"python{sys.version_info.major}.{sys.version_info.minor}", "site-packages")
    for below in ("", "lib" / packages, "lib" / packages.parent, ".local/lib" / packages):
        (directory / below).mkdir(parents=True, exist_ok=True)
        for name in EVIL_MODULES:
            text = f"open({str(trace)!r}, 'w')\nraise SystemExit\n"
            (directory / below / f"{name}.py").write_text(text)
    yield directory
    assert not trace.exists()


@pytest.mark.parametrize("case", ENVIRONMENTS)
def test_no_environment_or_current_directory_changes_what_an_add_does(
    node: Node, ipvlan: Executable, evil: Path, case: str
) -> None:
    node.master()
    container = node.container()
    extra = {key: value.format(evil=evil) for key, value in ENVIRONMENTS[case].items()}

    environment = call_environment("ADD", container, **extra)
    answer = ipvlan.start(environment, stdin_of(network()), directory=evil).end()

    assert_attached(container, answer)
    assert answer.stderr == ""


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


def test_the_command_may_be_reached_by_a_link_with_another_name(
    node: Node, ipvlan: Executable, tmp_path: Path
) -> None:
    node.master()
    container = node.container()
    place = tmp_path / "opt cni" / "cni-ipvlan"
    place.parent.mkdir()
    place.symlink_to(ipvlan.path)

    answer = Executable(str(place))(call_environment("ADD", container), stdin_of(network()))

    assert_attached(container, answer)


def test_names_are_utf_8_whatever_the_locale(node: Node, ipvlan: Executable) -> None:
    name = "ünï"
    node.master(name)
    container = node.container()
    conf = network(master=name)
    call = {"CNI_IFNAME": name, "LC_ALL": "C", "PYTHONUTF8": "0"}

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
