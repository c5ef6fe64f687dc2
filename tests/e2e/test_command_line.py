"""The installed command as a person uses it on a node."""

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import termios

import pytest
from attacker import NOBODY
from lab import FOR_ALL, run, wait_until
from people import Person
from runtime import network, static
from sampling import sample
from scene import Scene

DEAF = [
    (">/dev/full", "ipvlan: cannot write to standard output: No space left on device\n"),
    ("3> >(:); wait $!; exec >&3", ""),
]


@pytest.mark.parametrize(("stdout", "printed"), DEAF)
def test_output_that_cannot_be_written_is_a_failure(
    stdout: str, printed: str, scene: Scene, person: Person
) -> None:
    before = scene.node.snapshot()
    conf = person.writes(network(ipam=static("10.1.0.2/24")))
    about = f"-c {conf} --netns container1"
    into = f"bash -c 'exec {stdout}; exec"

    def is_reported(words: str) -> None:
        status, out, err = person.types(f"{into} ipvlan {words}'")
        own = "".join(
            each for each in err.splitlines(keepends=True) if not each.startswith("not seen: ")
        )
        assert (status, out, own) == (1, "", printed), words

    for option in sample(("", "--json", "--dry-run"), 1):
        is_reported(f"add {about} {option}")
        assert scene.node.snapshot() == before
    person.succeeds(f"ipvlan add {about} --json >result")
    for words in sample((f"check {about} --prev-result result --json", "show"), 1):
        is_reported(words)
    person.succeeds(f"{into} ipvlan del {about}'")  # which prints nothing
    assert scene.node.snapshot() == before
    person.succeeds(f"ipvlan add {about} -v 2>/dev/full")  # a trace delays nothing


def test_a_user_without_rights_can_make_a_dry_run(scene: Scene, person: Person) -> None:
    conf = json.dumps(network())
    nobody = f"{shlex.join(NOBODY)} {FOR_ALL}/bin/ipvlan"

    for command in ("add", "del"):
        about = f"{command} -c - --netns container1 --container-id one --dry-run"
        before = scene.node.snapshot()
        script = person.succeeds(f"{nobody} {about}", conf)
        assert "# assumed: you run this as root, or with CAP_NET_ADMIN and CAP_SYS_ADMIN" in script
        assert "# assumed: ip netns exec container1 ip -j -d link show " in script
        assert "(running it is not permitted)" in script
        assert scene.node.snapshot() == before
        if command == "add":
            run("sh", stdin=script)
        else:
            assert (
                "\nip netns exec container1 ip link delete dev net1 || status=1  # remove" in script
            )
    assert scene.host.links().keys() == {"lo", "eth0"}


def test_a_user_without_rights_is_told_so(scene: Scene, person: Person) -> None:
    nobody = f"{shlex.join(NOBODY)} {FOR_ALL}/bin/ipvlan"
    scene.add(at=scene.two)
    conf = json.dumps(network())

    only_root = "only root can look into containers; try: sudo ipvlan show\n"
    assert person.types(f"{nobody} show") == (1, "", only_root)
    out = person.types(f"{nobody} doctor -c -", conf)[1]
    assert "  only root can see which addresses containers have\n" in out
    assert "  only root can see which mode is recorded\n" in out
    for dry in ("", "--dry-run"):
        err = person.types(f"{nobody} add -c - --netns container1 {dry}", conf)[2]
        assert "\n    try: run as root\n" in err
        assert "undone" not in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_show_watches_until_stopped(scene: Scene, person: Person, number: signal.Signals) -> None:
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
        *("\x1b[2J", "\x1b[1;1H", "\x1b[1m", "\x1b[0m", "\x1b[33m")
    }
    os.close(ours)
    os.close(theirs)
