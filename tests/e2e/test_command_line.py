"""The installed command as a person uses it on a node."""

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import termios
from pathlib import Path

import pytest
from lab import FOR_ALL, Node, run, wait_until
from person import Person
from runtime import call_environment, host_local, network, static

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = ["status", "add", "del", "check", "gc", "validate", "doctor", "show"]
NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")


def test_every_example_of_the_help_works(node: Node, person: Person) -> None:
    node.master("eth1000")
    node.container()
    for command in COMMANDS:
        text = person.succeeds(f"ipvlan {command} --help")
        lines = [line.strip() for line in text.partition("\nExample:\n")[2].splitlines()]
        assert lines
        for line in lines:
            person.succeeds(line)


def test_a_container_is_attached_checked_and_detached(node: Node, person: Person) -> None:
    node.master()
    container = node.container()
    before = node.snapshot()
    conf = person.writes(network(ipam=static("10.1.0.2/24", gateway="10.1.0.1")))
    about = f"-c {conf} --netns container1"

    assert person.succeeds(f"ipvlan add {about}").splitlines() == [
        f"interface  net1 ({container.links()['net1']['address']}, MTU 1500) in {container.path}",
        "address    10.1.0.2/24, gateway 10.1.0.1",
    ]
    status, out, _ = person.types(f"ipvlan add {about} --ifname net2 --json")
    assert (status, json.loads(out)["code"]) == (1, 106)  # its address is taken
    status, _, err = person.types(f"ipvlan del -c {conf} --netns container1 --ifname net3")
    assert (status, "no attachment 'net3'" in err) == (2, True)
    person.succeeds(f"ipvlan del {about}")
    result = person.succeeds(f"ipvlan add {about} --json | tee result")
    assert json.loads(result)["ips"][0]["address"] == "10.1.0.2/24"
    printed = person.succeeds(f"ipvlan check {about} --prev-result result")
    assert printed == "the attachment is as ADD left it\n"
    status, _, err = person.types(f"ipvlan check {about}")
    assert status == 2
    assert "give the result of the ADD with --prev-result FILE" in err
    container.ip("link set dev net1 mtu 1400")
    container.ip("address delete 10.1.0.2/24 dev net1")
    status, _, err = person.types(f"ipvlan check {about} --prev-result result")
    assert status == 1
    assert "the address 10.1.0.2/24 is missing" in err
    person.succeeds(f"ipvlan del {about} -v")
    assert node.snapshot() == before


DEAF = [
    (">/dev/full", "ipvlan: cannot write to standard output: No space left on device\n"),
    ("3> >(:); wait $!; exec >&3", ""),
]


@pytest.mark.parametrize(("stdout", "printed"), DEAF)
def test_output_that_cannot_be_written_is_a_failure(
    stdout: str, printed: str, node: Node, person: Person
) -> None:
    node.master()
    node.container()
    before = node.snapshot()
    conf = person.writes(network(ipam=static("10.1.0.2/24")))
    about = f"-c {conf} --netns container1"
    into = f"bash -c 'exec {stdout}; exec"

    # A call without an attachment's variables has none.
    for options in ("", "--json", "--dry-run"):
        assert person.types(f"{into} ipvlan add {about} {options}'") == (1, "", printed)
        assert node.snapshot() == before
    person.succeeds(f"ipvlan add {about} --json >result")
    assert person.types(f"{into} ipvlan check {about} --prev-result result'") == (1, "", printed)
    assert person.types(f"{into} ipvlan show'") == (1, "", printed)
    status, out, err = person.types(f"{into} ipvlan status -c {conf}'")
    assert (status, out, err.partition("\n")[2]) == (1, "", printed)
    person.succeeds(f"{into} ipvlan del {about}'")  # which prints nothing
    assert node.snapshot() == before
    person.succeeds(f"ipvlan add {about} -v 2>/dev/full")  # a trace delays nothing


def test_a_runtimes_call_is_replayed_and_can_be_pasted(node: Node, person: Person) -> None:
    node.master()
    container = node.container()
    conf = json.dumps(network())
    before = node.snapshot()

    script = person.succeeds("ipvlan --dry-run", conf, **call_environment("ADD", container))

    assert node.snapshot() == before
    run("sh", stdin=script)
    assert container.addresses("net1") == ["10.1.0.2/24"]
    script = person.succeeds("ipvlan --dry-run", conf, **call_environment("DEL", container))
    run("sh", stdin=script)
    assert node.snapshot() == before


def test_what_was_pasted_is_detached_by_its_container_id(node: Node, person: Person) -> None:
    node.master()
    container = node.container()
    conf = person.writes(network(ipam=host_local("10.1.0.0/24")))
    before = node.snapshot()
    about = f"-c {conf} --netns container1"
    person.succeeds(f"ipvlan add {about} --container-id one --dry-run | sh")
    assert container.addresses("net1") == ["10.1.0.2/24"]

    status, _, err = person.types(f"ipvlan del {about}")
    assert (status, "give its container ID with --container-id" in err) == (2, True)
    person.succeeds(f"ipvlan del {about} --container-id one")

    after = node.snapshot()
    assert {**after, "files": ""} == {**before, "files": ""}  # there may be a lock's file


def test_a_user_without_rights_can_make_a_dry_run(node: Node, person: Person) -> None:
    node.master()
    node.container()
    conf = json.dumps(network())
    nobody = f"{shlex.join(NOBODY)} {FOR_ALL}/bin/ipvlan"

    for command in ("add", "del"):
        about = f"{command} -c - --netns container1 --container-id one --dry-run"
        before = node.snapshot()
        script = person.succeeds(f"{nobody} {about}", conf)
        assert "# assumed: you run this as root, or with CAP_NET_ADMIN and CAP_SYS_ADMIN" in script
        assert "# assumed: ip netns exec container1 ip -j -d link show " in script
        assert "(running it is not permitted)" in script
        assert node.snapshot() == before
        if command == "add":
            run("sh", stdin=script)
        else:
            assert (
                "\nip netns exec container1 ip link delete dev net1 || status=1  # remove" in script
            )
    assert node.host.links().keys() == {"lo", "eth0"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_show_keeps_watching_until_it_is_stopped(
    node: Node, person: Person, number: signal.Signals
) -> None:
    node.master()
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    watching = subprocess.Popen(
        ["ipvlan", "show", "-w"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**person.environment, "TERM": "xterm"},
    )
    shown = ""

    def shows(words: str) -> bool:
        nonlocal shown
        shown += os.read(ours, 4096).decode()
        return words in shown

    wait_until(lambda: shows("no ipvlan interfaces"))
    run("ip", "link", "add", "name", "late", "link", "eth0", "type", "ipvlan")
    wait_until(lambda: shows("late"))
    watching.send_signal(number)

    assert watching.wait(10) == 0
    assert termios.tcgetattr(theirs) == before
    # The screen is cleared, no other one is used, and the cursor is not hidden.
    assert set(re.findall(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", shown)) <= {
        *("\x1b[2J", "\x1b[1;1H", "\x1b[1m", "\x1b[0m", "\x1b[36m", "\x1b[31m")
    }
    os.close(ours)
    os.close(theirs)
