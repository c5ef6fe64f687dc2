"""A plugin that never ends, signals to the whole group as of ^C: undo and DEL do their work."""

import signal
import sys
import time
from pathlib import Path

import pytest
from attacker import end_of, files_about
from doubles import Steps, write_program
from executable import Executable
from lab import wait_until
from runtime import PLUGINS, call_environment, network, static, stdin_of
from sampling import sample
from scene import Scene

from cni_ipvlan.iproute import running

# It notes that it was asked to end, and goes on; so does the process it has started.
HANGS = """\
trap 'touch asked' TERM
(trap '' TERM; exec sleep 300) &
echo $! >child
while :; do wait; sleep 0.1; done
"""
# The command, with less patience for plugins: seconds, after one signal and after two.
IMPATIENT = f"""\
#!{sys.executable} -I
from cni_ipvlan import __main__
from cni_ipvlan.iproute import running
running._PATIENCE_WITH_PLUGINS = (3.0, 3.0, 0.2)
__main__.main()
"""
REFUSED_ROUTE = {"dst": "10.9.0.0/16", "gw": "192.0.2.1"}


def test_a_failed_add_ends_when_ipam_does_not_release(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "_PATIENCE_WITH_PLUGINS", (1.0, 1.0, 1.0))
    ipam = scene.ipam(ips=["10.1.0.2/24"], routes=[REFUSED_ROUTE])
    scene.ipam("DEL", script=f"nsenter --net={scene.one.path} ip -o link show >seen\n{HANGS}")
    scene.refuses(107, "could not be undone", scene.fake.program, ipam=ipam)
    end_of(scene.fake.directory / "child")
    seen = (scene.fake.directory / "seen").read_text()
    assert "lo:" in seen
    assert "net1" not in seen  # the link was gone before


def test_an_interrupted_delete_ends_before_ipam_and_sooner_after_two(
    scene: Scene, tmp_path: Path
) -> None:
    impatient = write_program(tmp_path / "impatient", IMPATIENT)
    conf = stdin_of(network(ipam=scene.ipam(ips=["10.1.0.2/24"])))
    asked, child = (scene.fake.directory / name for name in ("asked", "child"))
    seconds = []
    for is_impatient in (False, True):
        scene.add(ipam=scene.fake.conf)
        scene.ipam("DEL", script=HANGS)
        for left in (asked, child):
            left.unlink(missing_ok=True)
        environment = call_environment("DEL", scene.one, CNI_PATH=scene.fake.path)
        call = Executable(str(impatient)).start(environment, conf)
        wait_until(lambda: child.exists() and child.read_text() != "")
        began = time.monotonic()
        call.process.send_signal(signal.SIGTERM)
        wait_until(asked.exists)
        if is_impatient:
            call.process.send_signal(signal.SIGTERM)

        error = call.end(25).error()

        seconds.append(time.monotonic() - began)
        assert "SIGTERM" in f"{error}"
        assert scene.one.links().keys() == {"lo"}
        assert files_about("one") == []
        end_of(child)
    assert seconds[1] < 0.6 * seconds[0]


CONF = network(
    ipam=static("10.1.0.2/24", "fd00:1::2/64", gateway="10.1.0.1", routes=[{"dst": "0.0.0.0/0"}])
)
FURTHER = 25  # commands of each tool


@pytest.mark.parametrize("name", ["TERM", "INT"])
def test_add_undoes_everything_when_its_process_group_is_signalled_all_the_time(
    scene: Scene, ipvlan: Executable, tmp_path: Path, name: str
) -> None:
    before = scene.node.snapshot()
    steps = Steps(tmp_path, f"{PLUGINS}/static")
    environment = {**call_environment("ADD", scene.one), **steps.environment}
    delete = call_environment("DEL", scene.one)
    ipvlan(environment, stdin_of(CONF)).result()
    recorded = steps.taken
    ipvlan(delete, stdin_of(CONF)).succeeds()
    assert len(recorded) > 8
    for number in sample(range(len(recorded)), 2):
        steps.forget()
        # At one step, before its work is done, and then at each further one: ^C again and again.
        for tool in ("ip", "nsenter", "static"):
            begun = sum(step.number.startswith(f"{tool}-") for step in recorded[:number])
            for later in range(begun + 1, begun + FURTHER):
                steps.at(f"{tool}-{later}", f'kill -s {name} -- "-$PPID"')

        answer = ipvlan.start(environment, stdin_of(CONF), leads_group=True).end()

        assert f"SIG{name}" in f"{answer.error()}", recorded[number]
        assert steps.count("static", "DEL") == steps.count("static", "ADD")
        assert scene.node.snapshot() == before, recorded[number]
    assert files_about("one") == []
