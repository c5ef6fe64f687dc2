"""Root's record of an attachment stays until its link is removed, and so does the refusal."""

import faulty
import pytest
from attacker import find_files_with
from doubles import FakeDhcp
from executable import Executable
from faulty import Faults
from lab import NetNS
from runtime import Runtime, call_environment, network, static, stdin_of
from setup import Setup

from cni_ipvlan.state.attachment import AttachmentId

# IPAM asks the plugin that calls it to stop, and waits until it is stopped itself.
STOP_PLUGIN = "kill -TERM $PPID; exec sleep 60"


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("in_container", [True, False])
@pytest.mark.parametrize("name", ["net1", "mine"])
def test_a_delete_removes_the_recorded_link_whatever_its_owner_calls_it(
    setup: Setup, name: str, *, in_container: bool, is_known: bool
) -> None:
    """The lease is released, so another container may get the address of this link."""
    if in_container:
        setup.container.ip("link add name eth0 up type dummy")
    added = setup.add(linkInContainer=in_container)
    rename_with_label(setup.container, "net1", name, AttachmentId("net", "nobody", "net1"))
    setup.runtime.delete(setup.container if is_known else "", added.conf).succeeds()
    assert name not in setup.container.links()
    assert not find_files_with("one")


def test_two_attachments_that_their_owner_has_swapped_are_removed_as_recorded(setup: Setup) -> None:
    first = setup.add()
    second = setup.add(CNI_IFNAME="net2", ipam=static("10.1.0.3/24"))
    links = setup.container.links()
    rename_with_label(setup.container, "net1", "swap", AttachmentId("net", "one", "net2"))
    rename_with_label(setup.container, "net2", "net1", AttachmentId("net", "one", "net1"))
    setup.container.rename("swap", "net2")

    first.delete()

    links_after = setup.container.links()
    assert links_after.keys() == {"lo", "net1"}
    assert links_after["net1"]["ifindex"] == links["net2"]["ifindex"]
    second.delete()
    assert setup.container.links().keys() == {"lo"}
    assert not find_files_with("one")


def rename_with_label(container: NetNS, name: str, new_name: str, attachment: AttachmentId) -> None:
    container.ip(f"link set dev {name} down")
    container.ip(f"link set dev {name} name {new_name} alias {attachment.label}")


def test_a_delete_that_fails_or_is_interrupted_forgets_nothing(setup: Setup) -> None:
    delete, faults = (call_environment("DEL", setup.container), stdin_of(network())), Faults()
    setup.add()
    faulty.call(*delete, faults).succeeds()
    setup.add()
    setup.container.ip("link set dev net1 down")  # its owner does that
    deletion = next(each for each in faults.points if "link delete" in each.words)
    for fault in (faulty.fail_at_once, faulty.interrupt):
        faulty.call(*delete, Faults({deletion: fault})).error()
        assert find_files_with("one")
    setup.expect_error(104, at=setup.container2, mode="l3")
    assert setup.container.ipvlan("net1")["mode"] == "l2"


@pytest.mark.parametrize("verb", ["CHECK", "DEL", "GC", "STATUS"])
def test_only_add_tells_of_an_undo(setup: Setup, ipvlan: Executable, verb: str) -> None:
    setup.fake = FakeDhcp(setup.fake.directory)  # whose end DEL waits for, before the link goes
    conf = network(cniVersion="1.1.0", ipam=setup.ipam(ips=["10.1.0.2/24"]))
    result = setup.add(conf).result
    setup.ipam(verb, script=STOP_PLUGIN)
    conf |= {"prevResult": result, "cni.dev/valid-attachments": []}
    error = Runtime(ipvlan).call(verb, setup.container, conf, CNI_PATH=setup.fake.path).error()
    assert "SIGTERM" in f"{error}"
    assert "undone" not in f"{error}"
    if verb == "DEL":
        assert setup.container.links().keys() == {"lo"}
        assert find_files_with("one")  # the record, by which GC has the addresses released
