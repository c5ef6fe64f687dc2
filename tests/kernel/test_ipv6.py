"""IPv6: enabled if it is disabled, and duplicate addresses detected."""

import pytest
from lab import Space
from runtime import host_local, network, static
from scene import Scene

from cni_ipvlan.plugin import configure

ADDRESS = "fd00:1::2/64"
pytestmark = pytest.mark.scene(master="wire", dad=True)


@pytest.fixture
def off(scene: Scene) -> Scene:
    """Have a container without IPv6."""
    for name in ("all", "default"):
        scene.one.sysctl(f"net/ipv6/conf/{name}/disable_ipv6", 1)
    scene.one.ip("link set dev lo up")
    return scene


def is_off(space: Space) -> list[str]:
    return [space.sysctl(f"net/ipv6/conf/{name}/disable_ipv6") for name in ("net1", "lo")]


def test_ipv6_is_switched_on_for_the_interface_and_lo_where_it_is_needed(off: Scene) -> None:
    added = off.add(ipam=static("10.1.0.2/24"))
    assert is_off(off.one) == ["1", "1"]
    added.delete()

    off.add(ipam=static("10.1.0.2/24", ADDRESS))
    assert off.one.addresses("net1") == ["10.1.0.2/24", ADDRESS]
    assert is_off(off.one) == ["0", "0"]
    # Duplicate address detection has ended when ADD returns.
    shown = off.one.ask("-6", "address", "show", "dev", "net1")[0]["addr_info"]
    (own,) = [info for info in shown if info["local"] == "fd00:1::2"]
    assert not {"tentative", "dadfailed"} & own.keys()


@pytest.mark.parametrize("of_a_container", [True, False])
def test_an_address_that_another_host_on_the_wire_has_is_an_error(
    off: Scene, *, of_a_container: bool
) -> None:
    off.neighbour.ip("address add 10.1.0.9/24 dev eth0")
    if of_a_container:
        off.neighbour.ip("link add link eth0 name slave type ipvlan mode l2")
        off.neighbour.ip(f"link set dev slave netns {off.two.path}")
        off.two.ip(f"address add {ADDRESS} dev slave nodad")
        off.two.ip("link set dev slave up")
    else:
        off.neighbour.ip(f"address add {ADDRESS} dev eth0 nodad")
    off.refuses(106, ADDRESS, ipam=host_local("fd00:1::/64"))


def test_a_duplicate_that_is_none_of_our_addresses_is_no_failure(scene: Scene) -> None:
    conf = network(ipam=static(ADDRESS))
    scene.one.sysctl("net/ipv6/conf/default/accept_dad", 0)
    added = scene.add(conf)
    shown = scene.one.ask("-6", "address", "show", "dev", "net1")[0]["addr_info"]
    (own,) = [info["local"] for info in shown if info["scope"] == "253"]
    added.delete()
    scene.one.sysctl("net/ipv6/conf/default/accept_dad", 1)
    scene.neighbour.ip(f"address add {own}/64 dev eth0 nodad")  # which net1 will get again

    scene.add(conf)

    assert own in scene.one.ip("-6 address show dev net1 dadfailed")


def test_detection_that_cannot_end_is_waited_for_no_longer_than_that(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(configure, "_DUPLICATE_DETECTION_SECONDS", 1)
    scene.neighbour.ip("link set dev eth0 down")
    added = scene.add(ipam=static(ADDRESS))
    assert scene.one.addresses("net1") == [ADDRESS]
    assert f"of {ADDRESS} has not finished after 1 s; does the master" in added.stderr
