"""What root remembers of an attachment stays until its link is gone, and so does the refusal."""

from pathlib import Path

import faulty
import pytest
from attacker import files_about
from doubles import FakeDhcp, Steps
from executable import Executable
from faulty import Faults
from lab import Space
from runtime import Runtime, call_environment, network, static, stdin_of
from sampling import sample
from scene import Scene

from cni_ipvlan.state.attachment import AttachmentId

# IPAM asks the plugin that calls it to stop, and waits until it is stopped itself.
STOPS = "kill -TERM $PPID; exec sleep 60"


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("in_container", [True, False])
@pytest.mark.parametrize("name", ["net1", "mine"])
def test_a_delete_removes_the_recorded_link_whatever_its_owner_calls_it(
    scene: Scene, name: str, *, in_container: bool, is_known: bool
) -> None:
    """Its lease goes, so its address may be the next container's."""
    if in_container:
        scene.one.ip("link add name eth0 up type dummy")
    added = scene.add(linkInContainer=in_container)
    relabel(scene.one, "net1", name, AttachmentId("net", "nobody", "net1"))
    scene.runtime.delete(scene.one if is_known else "", added.conf).succeeds()
    assert name not in scene.one.links()
    assert not files_about("one")


def test_two_attachments_that_their_owner_has_swapped_are_removed_as_recorded(scene: Scene) -> None:
    first = scene.add()
    second = scene.add(CNI_IFNAME="net2", ipam=static("10.1.0.3/24"))
    links = scene.one.links()
    relabel(scene.one, "net1", "swap", AttachmentId("net", "one", "net2"))
    relabel(scene.one, "net2", "net1", AttachmentId("net", "one", "net1"))
    scene.one.rename("swap", "net2")

    first.delete()

    left = scene.one.links()
    assert left.keys() == {"lo", "net1"}
    assert left["net1"]["ifindex"] == links["net2"]["ifindex"]
    second.delete()
    assert scene.one.links().keys() == {"lo"}
    assert not files_about("one")


def relabel(container: Space, name: str, new: str, attachment: AttachmentId) -> None:
    container.ip(f"link set dev {name} down")
    container.ip(f"link set dev {name} name {new} alias {attachment.label}")


def test_a_delete_that_fails_forgets_nothing(scene: Scene) -> None:
    delete, recorded = (call_environment("DEL", scene.one), stdin_of(network())), Faults()
    scene.add()
    faulty.call(*delete, recorded).succeeds()
    scene.add()
    scene.one.ip("link set dev net1 down")  # its owner does that
    deletion = next(each for each in recorded.points if "link delete" in each.words)
    faulty.call(*delete, Faults({deletion: faulty.fails_at_once})).error()
    assert files_about("one")
    scene.refuses(104, at=scene.two, mode="l3")
    assert scene.one.ipvlan("net1")["mode"] == "l2"


def test_interrupted_delete_forgets_none(scene: Scene, ipvlan: Executable, tmp_path: Path) -> None:
    """At any of its steps, over and over: the deletion itself may be among those that are hit."""
    apart, added = Runtime(ipvlan), scene.add()  # its process may be ended
    scene.one.ip("link set dev net1 down")
    steps = Steps(tmp_path)
    apart.delete(scene.one, added.conf, **steps.environment).succeeds()
    for step in sample(steps.taken, 2):
        scene.add()
        steps.forget()
        # The command that is under way is gone, without having done its work.
        steps.at(step.number, "kill -TERM $PPID; kill -KILL $$")
        answer = apart.delete(scene.one, added.conf, **steps.environment)
        if "net1" in scene.one.links():
            assert answer.status, step
            assert files_about("one"), step
        added.delete()


@pytest.mark.parametrize("verb", ["CHECK", "DEL", "GC", "STATUS"])
def test_only_add_tells_of_an_undo(scene: Scene, ipvlan: Executable, verb: str) -> None:
    scene.fake = FakeDhcp(scene.fake.directory)  # whose end DEL waits for, before the link goes
    conf = network(cniVersion="1.1.0", ipam=scene.ipam(ips=["10.1.0.2/24"]))
    result = scene.add(conf).result
    scene.ipam(verb, script=STOPS)
    conf |= {"prevResult": result, "cni.dev/valid-attachments": []}
    error = Runtime(ipvlan).call(verb, scene.one, conf, CNI_PATH=scene.fake.path).error()
    assert "SIGTERM" in f"{error}"
    assert "undone" not in f"{error}"
    if verb == "DEL":
        assert scene.one.links().keys() == {"lo"}
        assert files_about("one") == []
