"""vlan takes no packets from a bridge or bond, and removes no interface that others made."""

import faulty
import pytest
from faulty import Faults
from runtime import call_environment, network, stdin_of
from setup import Setup

from cni_ipvlan.iproute.running import Completed

NEWEST = network(vlan=8, cniVersion="1.1.0", ipam=None)
HINT = "ip link add link eth0 name NAME type vlan id 8"
# What other programs may have made, by the name that the plugin gives to the VLAN.
FOREIGN = {
    "the same VLAN of another": "link add link other name eth0.8 type vlan id 8",
    "another VLAN of it": "link add link eth0 name eth0.8 type vlan id 9",
    "of another protocol": "link add link eth0 name eth0.8 type vlan protocol 802.1ad id 8",
    "of another kind": "link add name eth0.8 type dummy",
    "by another name as well": "link property add dev other altname eth0.8",
}


@pytest.fixture
def setup(setup: Setup) -> Setup:
    setup.host.ip("link add name other up type dummy")
    return setup


@pytest.mark.parametrize("kind", ["bridge", "bond"])
def test_on_a_port_none_is_made_and_roots_own_is_used_and_stays(setup: Setup, kind: str) -> None:
    setup.host.ip(f"link add name above up type {kind}")
    setup.host.ip("link set dev eth0 down")
    setup.host.ip("link set dev eth0 master above")
    setup.host.ip("link set dev eth0 up")

    error = setup.runtime.add(setup.container, network(vlan=8)).error()

    assert setup.host.links().keys() == {"lo", "eth0", "other", "above"}
    assert error["code"] == 103
    assert f"the master 'eth0' is a port of a {kind}" in error["msg"]
    assert HINT in error["details"]
    assert setup.runtime.status(NEWEST).error()["code"] == 50

    setup.host.ip("link add link eth0 name eth0.8 up type vlan id 8")
    setup.runtime.status(NEWEST).succeeds()
    added = setup.add(vlan=8)
    assert setup.node.find_master(setup.container) == "eth0.8"
    added.delete()
    assert setup.container.links().keys() == {"lo"}
    assert "eth0.8" in setup.host.links()


@pytest.mark.parametrize("foreign", FOREIGN)
def test_a_refused_add_leaves_what_has_the_name_alone(setup: Setup, foreign: str) -> None:
    setup.host.ip(FOREIGN[foreign])
    error = setup.expect_error(105, "the host has another interface called 'eth0.8'", HINT, vlan=8)
    assert "eth0.8" not in error["msg"].partition("called")[0]
    assert setup.runtime.status(NEWEST).error()["code"] == 50


@pytest.mark.parametrize(
    "foreign", ["the same VLAN of another", "of another kind", "the very VLAN, made meanwhile"]
)
def test_one_that_another_makes_meanwhile_stays(setup: Setup, foreign: str) -> None:
    call = call_environment("ADD", setup.container), stdin_of(network(vlan=8))
    point = next(each for each in faulty.find_points_of_add(*call) if "type vlan id" in each.words)

    def make_foreign_first(_: object, work: faulty.Work) -> Completed:
        setup.host.ip(FOREIGN.get(foreign, "link add link eth0 name eth0.8 type vlan id 8"))
        return work()

    faulty.call(*call, Faults({point: make_foreign_first})).error()
    assert "eth0.8" in setup.host.links()
    setup.runtime.gc(NEWEST).succeeds()
    assert "eth0.8" in setup.host.links()


@pytest.mark.parametrize(
    "words",
    [
        "link add link other name eth0.8 alias-of-ours type vlan id 8",
        "link add link eth0 name eth0.8 alias-of-ours type vlan id 8",
        "link add link eth0 name eth0.8 type vlan id 8",
    ],
)
def test_one_that_root_made_in_its_place_stays(setup: Setup, words: str) -> None:
    """The record says which VLAN the plugin has made, and that one was removed."""
    added = setup.add(vlan=8)
    label = setup.host.links()["eth0.8"]["ifalias"]
    setup.host.ip("link delete dev eth0.8")
    setup.host.ip("link add name spare type dummy")  # which takes the index
    setup.host.ip(words.replace(" alias-of-ours", ""))
    if "alias-of-ours" in words:
        setup.host.ip(f"link set dev eth0.8 alias {label}")
    added.delete()
    assert "eth0.8" in setup.host.links()


def test_one_that_root_has_renamed_goes_with_its_last_container(setup: Setup) -> None:
    with setup.unchanged():
        added = setup.add(vlan=8)
        setup.host.rename("eth0.8", "storage")
        setup.host.ip("link add link other name eth0.8 type vlan id 8")
        added.delete()
        setup.host.ip("link delete dev eth0.8")
