"""What root remembers of an attachment stays until its link is gone, and so does the refusal."""

import os
import shutil
from pathlib import Path

import pytest
from attacker import hints
from doubles import FakeIpam, Steps
from executable import Executable
from lab import Node, Space
from runtime import Answer, Runtime, network, static
from sampling import sample

from cni_ipvlan.state.attachment import AttachmentId

ADDRESSES = {"cniVersion": "1.1.0", "ips": [{"address": "10.1.0.2/24"}]}
# IPAM asks the plugin that calls it to stop, and waits until it is stopped itself.
STOPS = "kill -TERM $PPID; exec sleep 60"


@pytest.fixture
def apart(ipvlan: Executable) -> Runtime:
    """Calls the plugin in a process of its own, which may be ended."""
    return Runtime(ipvlan)


def ip_that_deletes_nothing(directory: Path) -> str:
    """Make an ip that fails to delete links; return the PATH on which it is first."""
    tool = directory / "ip"
    tool.write_text(
        f"""\
#!/bin/sh
fail() {{ echo "RTNETLINK answers: Device or resource busy" >&2; exit 2; }}
case " $* " in
*" link delete "*) fail ;;
*" exec "*) ;;
*" -batch "*)
    while read -r line; do
        case $line in "link delete "*) fail ;; esac
        {shutil.which("ip")} -j -d $line
    done
    exit
    ;;
esac
exec {shutil.which("ip")} "$@"
"""
    )
    tool.chmod(0o755)
    return f"{directory}:{os.environ['PATH']}"


def add_in_another_mode(node: Node, runtime: Runtime) -> Answer:
    conf = network(mode="l3", ipam=static("10.1.0.3/24"))
    return runtime.add(node.container(), conf, CNI_CONTAINERID="other")


def attached_and_down(node: Node, runtime: Runtime) -> Space:
    """Attach a container whose owner has set its link down."""
    node.master()
    container = node.container()
    runtime.add(container, network()).result()
    container.ip("link set dev net1 down")
    return container


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("in_container", [True, False])
@pytest.mark.parametrize("name", ["net1", "mine"])
def test_a_delete_removes_the_recorded_link_whatever_its_owner_calls_it(
    node: Node, runtime: Runtime, name: str, *, in_container: bool, is_known: bool
) -> None:
    """Its lease goes, so its address may be the next container's."""
    container = node.container()
    (container if in_container else node.host).ip("link add name eth0 up type dummy")
    conf = network(linkInContainer=in_container)
    runtime.add(container, conf).result()
    relabel(container, "net1", name, AttachmentId("net", "nobody", "net1"))

    runtime.delete(container if is_known else "", conf).succeeds()

    assert name not in container.links()
    assert not hints("one")


def test_two_attachments_that_their_owner_has_swapped_are_removed_as_recorded(
    node: Node, runtime: Runtime
) -> None:
    node.master()
    container = node.container()
    confs = {"net1": network(), "net2": network(ipam=static("10.1.0.3/24"))}
    for name, conf in confs.items():
        runtime.add(container, conf, CNI_IFNAME=name).result()
    links = container.links()
    relabel(container, "net1", "swap", AttachmentId("net", "one", "net2"))
    relabel(container, "net2", "net1", AttachmentId("net", "one", "net1"))
    container.rename("swap", "net2")

    runtime.delete(container, confs["net1"], CNI_IFNAME="net1").succeeds()

    left = container.links()
    assert left.keys() == {"lo", "net1"}
    assert left["net1"]["ifindex"] == links["net2"]["ifindex"]
    runtime.delete(container, confs["net2"], CNI_IFNAME="net2").succeeds()
    assert container.links().keys() == {"lo"}
    assert not hints("one")


def relabel(container: Space, name: str, new: str, attachment: AttachmentId) -> None:
    container.ip(f"link set dev {name} down")
    container.ip(f"link set dev {name} name {new} alias {attachment.label}")


def test_a_delete_that_fails_forgets_nothing(node: Node, runtime: Runtime, tmp_path: Path) -> None:
    container = attached_and_down(node, runtime)

    runtime.delete(container, network(), PATH=ip_that_deletes_nothing(tmp_path)).error()

    assert hints("one")
    answer = add_in_another_mode(node, runtime)
    assert container.ipvlan("net1")["mode"] == "l2"
    assert answer.error()["code"] == 104


def test_a_delete_that_is_interrupted_forgets_nothing_of_a_link_that_is_there(
    node: Node, runtime: Runtime, apart: Runtime, tmp_path: Path
) -> None:
    """At any of its steps, over and over: the deletion itself may be among those that are hit."""
    container = attached_and_down(node, runtime)
    steps = Steps(tmp_path)
    apart.delete(container, network(), **steps.environment).succeeds()
    for step in sample(steps.taken, 2):
        runtime.add(container, network()).result()
        steps.forget()
        # The command that is under way is gone, without having done its work.
        steps.at(step.number, "kill -TERM $PPID; kill -KILL $$")
        answer = apart.delete(container, network(), **steps.environment)
        if "net1" in container.links():
            assert answer.status, step
            assert hints("one"), step
        runtime.delete(container, network()).succeeds()


@pytest.mark.parametrize("verb", ["CHECK", "DEL", "GC", "STATUS"])
def test_only_add_reports_that_something_was_undone(
    node: Node, apart: Runtime, fake_ipam: FakeIpam, verb: str
) -> None:
    node.master()
    container = node.container()
    conf = network(cniVersion="1.1.0", ipam=fake_ipam.conf)
    fake_ipam.answers("ADD", ADDRESSES)
    result = apart.add(container, conf, CNI_PATH=fake_ipam.path).result()
    fake_ipam.on(verb, STOPS)
    conf |= {"prevResult": result, "cni.dev/valid-attachments": []}

    error = apart.call(verb, container, conf, CNI_PATH=fake_ipam.path).error()

    assert "SIGTERM" in f"{error}"
    assert "undone" not in f"{error}"
