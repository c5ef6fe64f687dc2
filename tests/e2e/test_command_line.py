"""The installed command as a user types it on a node."""

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
from command_line import User
from lab import SHARED_VENV, run, wait_until
from runtime import network, static
from sampling import sample
from setup import Setup

DEAF = [
    (">/dev/full", "ipvlan: cannot write to standard output: No space left on device\n"),
    (">&-", "ipvlan: cannot write to standard output: it is closed\n"),
    ("3> >(:); wait $!; exec >&3", ""),
]


@pytest.mark.parametrize(("stdout", "printed"), DEAF)
def test_unwritable_output_is_an_error(stdout: str, printed: str, setup: Setup, user: User) -> None:
    before = setup.node.snapshot()
    conf = user.write_conf(network(ipam=static("10.1.0.2/24")))
    options = f"-c {conf} --netns container1"
    into = f"bash -c 'exec {stdout}; exec"

    def is_reported(words: str) -> None:
        status, out, err = user.run(f"{into} ipvlan {words}'")
        message = "".join(
            each for each in err.splitlines(keepends=True) if not each.startswith("not seen: ")
        )
        assert (status, out, message) == (1, "", printed), words

    for option in sample(("", "--json", "--dry-run"), 1):
        is_reported(f"add {options} {option}")
        assert setup.node.snapshot() == before
    user.check_output(f"ipvlan add {options} --json >result")
    for words in sample((f"check {options} --prev-result result --json", "show"), 1):
        is_reported(words)
    user.check_output(f"{into} ipvlan del {options}'")  # which prints nothing
    assert setup.node.snapshot() == before
    user.check_output(f"ipvlan add {options} -v 2>/dev/full")  # a trace delays nothing


def test_a_user_without_rights_can_make_a_dry_run(setup: Setup, user: User) -> None:
    conf = json.dumps(network())
    nobody = f"{shlex.join(NOBODY)} {SHARED_VENV}/bin/ipvlan"

    for command in ("add", "del"):
        arguments = f"{command} -c - --netns container1 --container-id one --dry-run"
        before = setup.node.snapshot()
        script = user.check_output(f"{nobody} {arguments}", conf)
        assert "# assumed: you run this as root, or with CAP_NET_ADMIN and CAP_SYS_ADMIN" in script
        assert "# assumed: ip netns exec container1 ip -j -d link show " in script
        assert "(running it is not permitted)" in script
        assert setup.node.snapshot() == before
        if command == "add":
            run("sh", stdin=script)
        else:
            deletion = "\nip netns exec container1 ip link delete dev net1 || status=1  # remove"
            assert deletion in script
    assert setup.host.links().keys() == {"lo", "eth0"}


def test_a_user_without_rights_is_told_so(setup: Setup, user: User) -> None:
    nobody = f"{shlex.join(NOBODY)} {SHARED_VENV}/bin/ipvlan"
    setup.add(at=setup.container2)
    conf = json.dumps(network())

    only_root = "only root can look into containers; try: sudo ipvlan show\n"
    assert user.run(f"{nobody} show") == (1, "", only_root)
    out = user.run(f"{nobody} doctor -c -", conf)[1]
    assert "  only root can see which addresses containers have\n" in out
    assert "\nwarning  conflicts " in out
    for dry in ("", "--dry-run"):
        err = user.run(f"{nobody} add -c - --netns container1 {dry}", conf)[2]
        assert "\n    try: run as root\n" in err
        assert "undone" not in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_show_watches_until_stopped(setup: Setup, user: User, number: signal.Signals) -> None:
    controller, terminal = pty.openpty()
    before = termios.tcgetattr(terminal)
    watching = subprocess.Popen(
        ["ipvlan", "show", "-w"],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={**user.environment, "TERM": "xterm"},
    )
    output = ""

    def has_output(words: str) -> bool:
        nonlocal output
        output += os.read(controller, 4096).decode()
        return words in output

    wait_until(lambda: has_output("no ipvlan interfaces"))
    run("ip", "link", "add", "name", "late", "link", "eth0", "type", "ipvlan")
    wait_until(lambda: has_output("late"))
    watching.send_signal(number)

    assert watching.wait(10) == 0
    assert termios.tcgetattr(terminal) == before
    # The screen is cleared, no other one is used, and the cursor is not hidden.
    assert set(re.findall(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", output)) <= {
        *("\x1b[2J", "\x1b[1;1H", "\x1b[1m", "\x1b[0m", "\x1b[33m")
    }
    os.close(controller)
    os.close(terminal)
