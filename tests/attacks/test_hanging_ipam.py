"""An IPAM plugin that never ends: an undo and DEL end anyway, and remove the link."""

import signal
import time

from attacker import end_of, end_within, hints
from doubles import FakeIpam
from executable import Executable
from lab import Node, Space, wait_until
from runtime import call_environment, network, stdin_of

# It notes that it was asked to end, and goes on; so does the process it has started.
HANGS = """\
trap 'touch asked' TERM
(trap '' TERM; exec sleep 300) &
echo $! >child
while :; do wait; sleep 0.1; done
"""
ADDRESSES = {"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.2/24"}]}
REFUSED_ROUTE = {"routes": [{"dst": "10.9.0.0/16", "gw": "192.0.2.1"}]}


def test_a_failed_add_removes_its_link_first_and_ends_when_ipam_does_not_release(
    node: Node, ipvlan: Executable, fake_ipam: FakeIpam
) -> None:
    node.master()
    container = node.container()
    fake_ipam.answers("ADD", {**ADDRESSES, **REFUSED_ROUTE})
    fake_ipam.on("DEL", f"nsenter --net={container.path} ip -o link show >seen\n{HANGS}")
    before = node.snapshot()
    environment = call_environment("ADD", container, CNI_PATH=fake_ipam.path)
    call = ipvlan.start(environment, stdin_of(network(ipam=fake_ipam.conf)))
    fake_ipam.wait_for("DEL")

    error = end_within(call, 30).error()

    assert error["code"] == 107
    assert "could not be undone" in error["details"]
    assert fake_ipam.program in error["details"]
    assert node.snapshot() == before
    end_of(fake_ipam.directory / "child")
    seen = (fake_ipam.directory / "seen").read_text()
    assert "lo:" in seen
    assert "net1" not in seen  # the link was gone before


def delete_where_ipam_hangs(
    container: Space, ipvlan: Executable, ipam: FakeIpam, *, impatient: bool
) -> float:
    """Interrupt a DEL, once or twice; return how long it takes to its end."""
    conf = stdin_of(network(ipam=ipam.conf))
    ipam.answers("ADD", ADDRESSES)
    ipvlan(call_environment("ADD", container, CNI_PATH=ipam.path), conf).result()
    ipam.on("DEL", HANGS)
    asked = ipam.directory / "asked"
    child = ipam.directory / "child"
    for left in (asked, child):
        left.unlink(missing_ok=True)
    call = ipvlan.start(call_environment("DEL", container, CNI_PATH=ipam.path), conf)
    wait_until(lambda: child.exists() and child.read_text() != "")
    began = time.monotonic()
    call.process.send_signal(signal.SIGTERM)
    wait_until(asked.exists)
    if impatient:
        call.process.send_signal(signal.SIGTERM)

    error = end_within(call, 25).error()

    seconds = time.monotonic() - began
    assert "SIGTERM" in f"{error}"
    assert container.links().keys() == {"lo"}
    assert hints("one") == []
    end_of(child)
    return seconds


def test_an_interrupted_delete_ends_when_ipam_does_not_and_sooner_after_a_second_signal(
    node: Node, ipvlan: Executable, fake_ipam: FakeIpam
) -> None:
    node.master()
    patient, impatient = (
        delete_where_ipam_hangs(node.container(), ipvlan, fake_ipam, impatient=each)
        for each in (False, True)
    )

    assert impatient < 0.6 * patient
