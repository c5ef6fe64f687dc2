"""What a user types who calls the plugin as a runtime would, and what is printed."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from command_line import User
from runtime import host_local, network, static
from setup import Setup

from cni_ipvlan.state import locks
from cni_ipvlan.state.registry import Registry

COMMANDS = ["status", "add", "del", "check", "gc", "validate", "doctor", "show"]


@pytest.mark.slow
@pytest.mark.setup(master="")
def test_every_example_of_the_help_works(setup: Setup, user: User) -> None:
    setup.node.make_master("eth1000")
    options = {"master": "eth1000", "CNI_CONTAINERID": "4bd23c81a90f"}  # as in those of del
    setup.add(at=setup.container2, name="other", ipam=static("10.99.0.2/24"), **options)
    for command in COMMANDS:
        text = user.check_output(f"ipvlan {command} --help")
        lines = text.partition("\n  Example:\n")[2].splitlines()
        assert lines
        for line, _, file in (each.partition(" > ") for each in lines):
            files = " ".join(map(str, sorted(Path("examples").glob("*.yaml"))))
            out = user.check_output(line.replace("examples/*.yaml", files))
            if file:
                (user.directory / file).write_text(out)


def test_a_container_is_attached_checked_and_detached(setup: Setup, user: User) -> None:
    conf = user.write_conf(network(ipam=static("10.1.0.2/24", gateway="10.1.0.1")))
    options = f"-c {conf} --netns container1"
    with setup.unchanged():
        out = user.check_output(f"ipvlan add {options}")
        mac = setup.container.links()["net1"]["address"]
        assert out.splitlines() == [
            f"interface  net1 ({mac}, MTU 1500) in {setup.container.path}",
            "address    10.1.0.2/24, gateway 10.1.0.1",
        ]
        status, out, _ = user.run(f"ipvlan add {options} --ifname net2 --json")
        assert (status, json.loads(out)["code"]) == (1, 106)  # its address is taken
        status, _, err = user.run(f"ipvlan del {options} --ifname net3")
        assert (status, "ifname 'net3' is recorded" in err) == (2, True)
        user.check_output(f"ipvlan del {options}")
        result = json.loads(user.check_output(f"ipvlan add {options} --json"))
        assert result["ips"][0]["address"] == "10.1.0.2/24"
        check = f"ipvlan check {options} --prev-result {user.write_conf(result, 'result')}"
        assert user.check_output(check) == "the attachment is as ADD left it\n"
        status, _, err = user.run(f"ipvlan check {options}")
        assert status == 2
        assert "give the result of the ADD with --prev-result FILE" in err
        setup.container.ip("link set dev net1 mtu 1400")
        setup.container.ip("address delete 10.1.0.2/24 dev net1")
        status, _, err = user.run(check)
        assert (status, "the address 10.1.0.2/24 is missing" in err) == (1, True)
        user.check_output(f"ipvlan del {options} -v")


def test_other_plugins_of_a_list_are_named_and_a_result_asked(setup: Setup, user: User) -> None:
    container = setup.container
    chained: dict[str, Any] = {"type": "ipvlan", "master": "eth0"}
    plugins = [{"type": "bridge"}, chained, {"type": "tuning"}, {"type": "sbr"}]
    conf = {"cniVersion": "1.0.0", "name": "chain", "plugins": plugins}
    options = f"-c {user.write_conf(conf, 'a.conflist')} --netns container1"
    left_out = "of the list chain, only ipvlan is called; left out: bridge, tuning, sbr\n"

    for verb in ("add", "add --dry-run"):
        status, out, err = user.run(f"ipvlan {verb} {options}")
        assert (status, out) == (2, "")
        expected = f"{left_out}ipvlan: ipam must be given, with a type, unless the plugin"
        assert err.startswith(expected)
    assert "net1" not in container.links()

    result = {"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.9/24"}]}
    user.write_conf(result, "result")
    status, _, err = user.run(f"ipvlan add {options} --container-id one --prev-result result")
    assert (status, err) == (0, left_out)
    assert container.addresses("net1") == ["10.1.0.9/24"]
    status, _, err = user.run(f"ipvlan del {options} --container-id one")
    assert (status, err) == (0, left_out)

    chained["ipam"] = static("10.1.0.3/24")
    options = f"-c {user.write_conf(conf, 'a.conflist')} --netns container1"
    status, _, err = user.run(f"ipvlan add {options} --container-id one")
    assert (status, err) == (0, left_out)
    assert container.addresses("net1") == ["10.1.0.3/24"]


# What -v prints; tests/unit/test_runner.py has when it is told of a command.
START_LINE = re.compile(r"\[(\d+)\] \+ (.*)")
END_LINE = re.compile(r"\[(\d+)\]   (\d+\.\d) ms(, status \d+)?")


def test_each_command_begins_and_ends_under_one_number(setup: Setup, user: User) -> None:
    conf = user.write_conf(network(ipam=host_local("10.1.0.0/24")))

    _, _, err = user.run(f"ipvlan add -c {conf} --netns container1 -v")

    numbered = [line for line in err.splitlines() if line.startswith("[")]
    started = [match[1] for match in map(START_LINE.fullmatch, numbered) if match]
    finished = [match[1] for match in map(END_LINE.fullmatch, numbered) if match]
    assert "/host-local" in err
    assert started == [str(number) for number in range(1, len(started) + 1)]
    assert Counter(started) == Counter(finished), err
    assert "waiting" not in err
    words = r"ip link add link eth0 name (iv\S+) type ipvlan mode l2 bridge  # create an ipvlan "
    creation = re.search(rf"^\[(\d+)\] \+ {words}", err, re.MULTILINE)
    assert creation
    assert f"\n[{creation[1]}]     undo: ip link delete dev {creation[2]}\n" in err
    assert "]     address add 10.1.0.2/24 dev net1 broadcast +\n" in err


def test_an_undo_says_that_it_undoes(setup: Setup, user: User) -> None:
    ipam = static("10.1.0.2/24", routes=[{"dst": "10.7.0.0/24", "gw": "10.9.0.1"}])
    conf = user.write_conf(network(ipam=ipam))

    with setup.unchanged():
        status, _, err = user.run(f"ipvlan add -c {conf} --netns container1 -v")

    assert status == 1
    lines = err.splitlines()
    failed = next(number for number, line in enumerate(lines) if ", status " in line)
    undone = [match[2] for match in map(START_LINE.fullmatch, lines[failed:]) if match]
    purpose = "undo: move it into the container as net1"
    assert f"ip netns exec container1 ip link delete dev net1  # {purpose}" in undone
    assert not any("# undo: " in line for line in lines[:failed])


def test_a_wait_is_told_of(setup: Setup, user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    for seconds in ("_CALL_SECONDS", "_ORPHAN_SECONDS"):
        monkeypatch.setattr(locks, seconds, 0.1)
    conf = user.write_conf(network())
    master = Path(setup.host.path).stat().st_ino, setup.host.links()["eth0"]["ifindex"]
    with Registry().master_lock(master, lambda: None):
        _, _, err = user.run(f"ipvlan add -c {conf} --netns container1 -v")
    assert err.count("waiting for the lock of the master eth0, which another process holds") == 1
