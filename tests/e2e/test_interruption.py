"""A signal during an ADD: everything is undone, once, and the answer reports it.

tests/faults interrupts it at every step.
"""

import signal
import subprocess

import pytest
from doubles import FakeIpam
from executable import Executable
from lab import Node, sleeps_in, wait_until
from runtime import call_environment, network, stdin_of


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda each: each.name
)
def test_an_ipam_plugin_that_hangs_does_not_keep_a_signal_from_ending_add(
    node: Node, ipvlan: Executable, fake_ipam: FakeIpam, number: signal.Signals
) -> None:
    node.master()
    container = node.container()
    fake_ipam.on("ADD", "exec sleep 300")
    before = node.snapshot()
    conf = network(ipam=fake_ipam.conf)
    environment = call_environment("ADD", container, CNI_PATH=fake_ipam.path)
    call = ipvlan.start(environment, stdin_of(conf))
    fake_ipam.wait_for("ADD")

    call.process.send_signal(number)
    error = call.end().error()

    assert error["code"] == 111
    assert number.name in error["msg"]
    assert fake_ipam.calls == ["ADD", "DEL"]
    assert node.snapshot() == before


def test_further_signals_do_not_interrupt_the_undoing(
    node: Node, ipvlan: Executable, fake_ipam: FakeIpam
) -> None:
    node.master()
    container = node.container()
    fake_ipam.on("ADD", "kill -TERM $PPID; exec sleep 300")
    # It lives for long enough to be ended, if a signal were passed on to it.
    fake_ipam.on("DEL", "kill -TERM $PPID; kill -INT $PPID; sleep 0.2; touch released")
    before = node.snapshot()
    environment = call_environment("ADD", container, CNI_PATH=fake_ipam.path)

    error = ipvlan(environment, stdin_of(network(ipam=fake_ipam.conf))).error()

    assert error["code"] == 111
    assert (fake_ipam.directory / "released").exists()
    assert node.snapshot() == before


def test_a_signal_that_comes_before_the_request_changes_nothing(
    node: Node, ipvlan: Executable
) -> None:
    node.master()
    environment = call_environment("ADD", node.container())
    before = node.snapshot()
    with subprocess.Popen(
        [ipvlan.path], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        wait_until(lambda: sleeps_in(process.pid, "pipe_read"))

        process.send_signal(signal.SIGTERM)

        assert process.wait(timeout=20) == -signal.SIGTERM
    assert node.snapshot() == before
