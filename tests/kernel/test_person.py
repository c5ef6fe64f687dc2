"""What a person types who calls the plugin as a runtime would, and is told."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from people import Person
from runtime import host_local, network, static
from scene import Scene

from cni_ipvlan.state import locks
from cni_ipvlan.state.registry import Registry

COMMANDS = ["status", "add", "del", "check", "gc", "validate", "doctor", "show"]


@pytest.mark.slow
@pytest.mark.scene(master="")
def test_every_example_of_the_help_works(scene: Scene, person: Person) -> None:
    scene.node.master("eth1000")
    recorded = {"master": "eth1000", "CNI_CONTAINERID": "4bd23c81a90f"}  # as in those of del
    scene.add(at=scene.two, name="other", ipam=static("10.99.0.2/24"), **recorded)
    for command in COMMANDS:
        text = person.succeeds(f"ipvlan {command} --help")
        lines = text.partition("\n  Example:\n")[2].splitlines()
        assert lines
        for line, _, file in (each.partition(" > ") for each in lines):
            files = " ".join(map(str, sorted(Path("examples").glob("*.yaml"))))
            out = person.succeeds(line.replace("examples/*.yaml", files))
            if file:
                (person.directory / file).write_text(out)


def test_a_container_is_attached_checked_and_detached(scene: Scene, person: Person) -> None:
    conf = person.writes(network(ipam=static("10.1.0.2/24", gateway="10.1.0.1")))
    about = f"-c {conf} --netns container1"
    with scene.unchanged():
        out = person.succeeds(f"ipvlan add {about}")
        mac = scene.one.links()["net1"]["address"]
        assert out.splitlines() == [
            f"interface  net1 ({mac}, MTU 1500) in {scene.one.path}",
            "address    10.1.0.2/24, gateway 10.1.0.1",
        ]
        status, out, _ = person.types(f"ipvlan add {about} --ifname net2 --json")
        assert (status, json.loads(out)["code"]) == (1, 106)  # its address is taken
        status, _, err = person.types(f"ipvlan del {about} --ifname net3")
        assert (status, "no attachment 'net3'" in err) == (2, True)
        person.succeeds(f"ipvlan del {about}")
        result = json.loads(person.succeeds(f"ipvlan add {about} --json"))
        assert result["ips"][0]["address"] == "10.1.0.2/24"
        check = f"ipvlan check {about} --prev-result {person.writes(result, 'result')}"
        assert person.succeeds(check) == "the attachment is as ADD left it\n"
        status, _, err = person.types(f"ipvlan check {about}")
        assert status == 2
        assert "give the result of the ADD with --prev-result FILE" in err
        scene.one.ip("link set dev net1 mtu 1400")
        scene.one.ip("address delete 10.1.0.2/24 dev net1")
        status, _, err = person.types(check)
        assert (status, "the address 10.1.0.2/24 is missing" in err) == (1, True)
        person.succeeds(f"ipvlan del {about} -v")


def test_other_plugins_of_a_list_are_named_and_a_result_asked(scene: Scene, person: Person) -> None:
    container = scene.one
    chained: dict[str, Any] = {"type": "ipvlan", "master": "eth0"}
    plugins = [{"type": "bridge"}, chained, {"type": "tuning"}, {"type": "sbr"}]
    conf = {"cniVersion": "1.0.0", "name": "chain", "plugins": plugins}
    about = f"-c {person.writes(conf, 'a.conflist')} --netns container1"
    left_out = "of the list chain, only ipvlan is called; left out: bridge, tuning, sbr\n"
    said = f"{left_out}ipvlan comes after bridge, whose result --prev-result can give\n"

    for verb in ("add", "add --dry-run"):
        status, out, err = person.types(f"ipvlan {verb} {about}")
        assert (status, out) == (2, "")
        assert err.startswith(f"{said}ipvlan: ipam must be given, with a type, unless the plugin")
    assert "net1" not in container.links()

    result = {"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.9/24"}]}
    person.writes(result, "result")
    status, _, err = person.types(f"ipvlan add {about} --container-id one --prev-result result")
    assert (status, err) == (0, left_out)
    assert container.addresses("net1") == ["10.1.0.9/24"]
    status, _, err = person.types(f"ipvlan del {about} --container-id one")
    assert (status, err) == (0, left_out)

    chained["ipam"] = static("10.1.0.3/24")
    about = f"-c {person.writes(conf, 'a.conflist')} --netns container1"
    status, _, err = person.types(f"ipvlan add {about} --container-id one")
    assert (status, err) == (0, said)
    assert container.addresses("net1") == ["10.1.0.3/24"]


# What -v prints; tests/unit/test_runner.py has when it is told of a command.
BEGUN = re.compile(r"\[(\d+)\] \+ (.*)")
ENDED = re.compile(r"\[(\d+)\]   (\d+\.\d) ms(, status \d+)?")


def test_each_command_begins_and_ends_under_one_number(scene: Scene, person: Person) -> None:
    conf = person.writes(network(ipam=host_local("10.1.0.0/24")))

    _, _, err = person.types(f"ipvlan add -c {conf} --netns container1 -v")

    numbered = [line for line in err.splitlines() if line.startswith("[")]
    begun = [match[1] for match in map(BEGUN.fullmatch, numbered) if match]
    ended = [match[1] for match in map(ENDED.fullmatch, numbered) if match]
    assert "/host-local" in err
    assert begun == [str(number) for number in range(1, len(begun) + 1)]
    assert Counter(begun) == Counter(ended), err
    assert "waiting" not in err
    words = r"ip link add link eth0 name (iv\S+) type ipvlan mode l2 bridge  # create an ipvlan "
    making = re.search(rf"^\[(\d+)\] \+ {words}", err, re.MULTILINE)
    assert making
    assert f"\n[{making[1]}]     undo: ip link delete dev {making[2]}\n" in err
    assert "]     address add 10.1.0.2/24 dev net1\n" in err


def test_an_undo_says_that_it_undoes(scene: Scene, person: Person) -> None:
    ipam = static("10.1.0.2/24", routes=[{"dst": "10.7.0.0/24", "gw": "10.9.0.1"}])
    conf = person.writes(network(ipam=ipam))

    with scene.unchanged():
        status, _, err = person.types(f"ipvlan add -c {conf} --netns container1 -v")

    assert status == 1
    lines = err.splitlines()
    failed = next(number for number, line in enumerate(lines) if ", status " in line)
    undone = [match[2] for match in map(BEGUN.fullmatch, lines[failed:]) if match]
    purpose = "undo: move it into the container as net1"
    assert f"ip netns exec container1 ip link delete dev net1  # {purpose}" in undone
    assert not any("# undo: " in line for line in lines[:failed])


def test_a_wait_is_told_of(scene: Scene, person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    for seconds in ("_CALL_SECONDS", "_ORPHAN_SECONDS"):
        monkeypatch.setattr(locks, seconds, 0.1)
    conf = person.writes(network())
    master = Path(scene.host.path).stat().st_ino, scene.host.links()["eth0"]["ifindex"]
    with Registry().master_lock(master, lambda: None):
        _, _, err = person.types(f"ipvlan add -c {conf} --netns container1 -v")
    assert err.count("waiting for the lock of the master eth0, which another process holds") == 1
