"""Plugins that give out no addresses, as IPAM plugins: they are not run, whatever they are called.

And what an IPAM plugin has started does not outlive its call.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attacker import end_of
from doubles import FakeIpam
from lab import Node, own
from person import Person
from runtime import PLUGINS, Conf, Runtime, call_environment, network, stdin_of

PERMITTED = Path("/etc/cni-ipvlan/ipam-types")
ADDRESSES = {"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.2/24"}]}
NEWEST = {"cniVersion": "1.1.0"}


class FakeBridge(FakeIpam):
    type = "bridge"


@pytest.fixture
def bridge(tmp_path: Path) -> FakeBridge:
    """An interface plugin that tells whether it was run."""
    fake = FakeBridge(tmp_path)
    for verb in ("ADD", "CHECK"):
        fake.answers(verb, ADDRESSES)
    return fake


@pytest.fixture
def permits(own_directories: None) -> Iterator[Callable[[str], None]]:
    """What writes root's list of permitted types."""

    def write(text: str) -> None:
        PERMITTED.write_text(text)
        PERMITTED.chmod(0o644)

    with own(PERMITTED.parent):
        yield write


def linked(path: Path, plugin: str) -> str:
    (path / "innocent").symlink_to(plugin)
    return "innocent"


def linked_twice(path: Path, plugin: str) -> str:
    (path / "chain").symlink_to(linked(path, plugin))
    return "chain"


def hard_linked(path: Path, plugin: str) -> str:
    shutil.copy(plugin, path / "bridge")
    os.link(path / "bridge", path / "harmless")
    return "harmless"


def copied(path: Path, plugin: str) -> str:
    shutil.copy(plugin, path / "unsuspicious")
    return "unsuspicious"


@pytest.mark.parametrize("plugin", ["bridge", "vlan", "host-device", "ptp"])
def test_an_interface_plugin_is_refused_before_anything_is_made(
    node: Node, runtime: Runtime, tmp_path: Path, plugin: str
) -> None:
    node.master()
    container, before = node.container(), node.snapshot()
    for disguise in (None, linked, linked_twice, hard_linked, copied):
        directory = tmp_path / getattr(disguise, "__name__", "itself")
        directory.mkdir()
        called = disguise(directory, f"{PLUGINS}/{plugin}") if disguise else plugin
        conf = network(ipam={"type": called}, vlan=5, device="eth0", vlanId=7)

        error = runtime.add(container, conf, CNI_PATH=f"{directory}:{PLUGINS}").error()

        assert error["code"] == 7, disguise
        assert called in error["msg"]
        assert "not an IPAM plugin" in error["msg"]
        assert str(PERMITTED) in error["msg"]
        assert node.snapshot() == before


@pytest.mark.parametrize("disguise", [None, linked, copied])
def test_an_interface_plugin_is_run_for_no_verb(
    node: Node,
    runtime: Runtime,
    bridge: FakeBridge,
    disguise: Callable[[Path, str], str] | None,
) -> None:
    node.master()
    container = node.container()
    path = {"CNI_PATH": bridge.path}
    called = disguise(bridge.directory, bridge.program) if disguise else bridge.type
    good = network()
    bad = {**good, "ipam": {"type": called}}
    added = runtime.add(container, good, **path).result()

    refused = [
        runtime.add(container, bad, CNI_IFNAME="net2", **path).error(),
        runtime.check(container, bad, added, **path).error(),
        runtime.status({**bad, **NEWEST}, **path).error(),
    ]
    assert {error["code"] for error in refused} == {7}
    runtime.gc({**bad, **NEWEST}, [("one", "net1")], **path).succeeds()
    assert "net1" in container.links()
    answer = runtime.delete(container, bad, **path)

    answer.succeeds()
    assert "no plugin is asked to release addresses" in answer.stderr
    assert container.links().keys() == {"lo"}
    assert bridge.calls == []


def test_what_root_lists_is_permitted_and_nothing_else(
    node: Node,
    runtime: Runtime,
    bridge: FakeBridge,
    fake_ipam: FakeIpam,
    permits: Callable[[str], None],
) -> None:
    node.master()
    container = node.container()
    permits("# those that give out addresses here\n\n  bridge # really\nhost-local\n")
    path = {"CNI_PATH": bridge.path}

    runtime.add(container, network(ipam=bridge.conf), **path).result()
    runtime.delete(container, network(ipam=bridge.conf), **path).succeeds()

    assert bridge.calls == ["ADD", "DEL"]
    for conf in (network(), network(ipam=fake_ipam.conf)):
        error = runtime.add(container, conf, **path).error()
        assert error["code"] == 7
        assert str(PERMITTED) in error["msg"]


@pytest.mark.parametrize(("mode", "owner"), [(0o666, 0), (0o620, 0), (0o644, 65534)])
def test_a_list_that_others_could_write_permits_nothing(
    node: Node,
    runtime: Runtime,
    permits: Callable[[str], None],
    mode: int,
    owner: int,
) -> None:
    node.master()
    container = node.container()
    runtime.add(container, network()).result()
    permits("static\n")
    PERMITTED.chmod(mode)
    os.chown(PERMITTED, owner, owner)

    refused = [
        runtime.add(container, network(), CNI_IFNAME="net2").error(),
        runtime.delete(container, network()).error(),
    ]

    assert {error["code"] for error in refused} == {7}
    assert all(str(PERMITTED) in error["msg"] for error in refused)
    assert container.links().keys() == {"lo"}


LEAVES_CHILDREN = "for each in 1 2 3; do sleep 300 >&- 2>&- <&- & done\necho $! >child"


@pytest.mark.parametrize("status", [0, 1])
def test_what_an_ipam_plugin_started_ends_with_it(
    node: Node, runtime: Runtime, fake_ipam: FakeIpam, status: int
) -> None:
    node.master()
    container = node.container()
    conf, path = network(ipam=fake_ipam.conf), {"CNI_PATH": fake_ipam.path}
    child = fake_ipam.directory / "child"
    good = f"echo '{json.dumps(ADDRESSES)}'\nexit {status}"
    fake_ipam.on("ADD", f"{LEAVES_CHILDREN}\n{good}")
    fake_ipam.on("DEL", "")

    assert runtime.add(container, conf, **path).status == status
    end_of(child)

    child.unlink()
    fake_ipam.on("DEL", f"{LEAVES_CHILDREN}\nexit {status}")
    assert runtime.delete(container, conf, **path).status == status
    end_of(child)


def capture_of(conf: Conf | bytes, **environment: str) -> str:
    return json.dumps(
        {
            "capture": 1,
            "time": "2026-01-01T00:00:00.000Z",
            "environment": call_environment("ADD", "/nonexistent", **environment),
            "stdin": stdin_of(conf).decode(),
        }
    )


def test_a_replay_runs_no_program_that_a_capture_names(
    node: Node, person: Person, fake_ipam: FakeIpam
) -> None:
    """A shell as IPAM plugin takes a configuration for commands."""
    node.master()
    file = person.directory / "call.json"
    ran = person.directory / "ran"
    conf = json.dumps(network(ipam={"type": "sh"})).replace(
        '"master"', f'"x":\n"$(touch {ran})"\n,"master"'
    )
    container = node.container().path
    fakes = person.directory / "static"
    shutil.copy(fake_ipam.program, fakes)
    captures = {
        "sh": capture_of(conf.encode(), CNI_PATH="/usr/bin"),
        "static": capture_of(network(master="eth7"), CNI_PATH=str(person.directory)),
    }
    for plugin, capture in captures.items():
        file.write_text(capture)
        for option in ("", "--dry-run"):
            line = f"ipvlan replay call.json --netns {container} {option}"
            status, _, err = person.types(line)
            assert not ran.exists()
            assert fake_ipam.calls == []
            assert status == 1
            shown = f"IPAM plugin of CNI_PATH {PLUGINS}: "
            found = f"{PLUGINS}/static" if plugin == "static" else "none is run: cannot find"
            assert shown + found in err


def test_neither_a_replay_nor_a_dry_run_runs_an_interface_plugin(
    node: Node, person: Person, bridge: FakeBridge
) -> None:
    node.master()
    conf = network(ipam=bridge.conf)
    (person.directory / "call.json").write_text(capture_of(conf))
    options = f"--netns {node.container().path} --cni-path {bridge.path}"

    status, out, err = person.types(f"ipvlan replay call.json {options}")

    assert status == 1
    assert "none is run: ipam.type is 'bridge', which is not an IPAM plugin" in err
    assert '"code": 7' in out
    file = person.writes(conf)
    status, out, err = person.types(f"ipvlan add -c {file} {options} --dry-run")
    assert (status, out) == (2, "")
    assert "not an IPAM plugin" in err
    assert bridge.calls == []
