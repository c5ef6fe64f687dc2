"""Links that a container forges or hides, and names that mislead, harm nobody else."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import faulty
import pytest
from attacker import (
    files_about,
    forge_from_nested,
    ordinary_users,
    replace_by_forged_link,
)
from doubles import Steps
from faulty import Faults
from lab import MEMORY, Space, records, run, sleeps_in, wait_until
from runtime import Answer, Conf, call_environment, network, static, stdin_of
from scene import Added, Scene

from cni_ipvlan.iproute import running
from cni_ipvlan.iproute.running import Completed
from cni_ipvlan.plugin import modes

OTHERS = 6  # namespaces
GC = network(cniVersion="1.1.0", ipam=None)
THIRD = static("10.1.0.3/24")


def add_another(scene: Scene, number: int = 3, mode: str = "l2") -> Answer:
    conf = network(mode=mode, ipam=static(f"10.1.0.{number}/24"))
    return scene.runtime.add(scene.container(), conf, CNI_CONTAINERID=f"c{number}")


def delete_another(scene: Scene, number: int = 3) -> None:
    scene.runtime.delete("", network(), CNI_CONTAINERID=f"c{number}").succeeds()


# Forged modes.


def test_a_link_recreated_on_a_containers_own_interface_permits_no_mode(scene: Scene) -> None:
    """Attackers before and after the victim, since the order of the search is unknown."""
    first, victim, last = (scene.container() for _ in range(3))
    for number, space in enumerate((first, victim, last), 2):
        scene.add(at=space, ipam=static(f"10.1.0.{number}/24"), CNI_CONTAINERID=f"a{number}")
    for attacker in (first, last):
        replace_by_forged_link(attacker, "l3")
    assert add_another(scene, 5, mode="l3").error()["code"] == 104
    assert victim.ipvlan("net1")["mode"] == "l2"


def test_a_forged_link_blocks_no_free_master(scene: Scene) -> None:
    scene.add()
    replace_by_forged_link(scene.one, "l2")
    added = scene.add(at=scene.two, mode="l3")
    assert added.container.ipvlan("net1")["mode"] == "l3"


def test_a_link_whose_parent_only_has_the_masters_index_permits_no_mode(scene: Scene) -> None:
    first, victim, last = (scene.container() for _ in range(3))
    scene.by_hand(victim, "l3")
    for attacker in (first, last):
        forge_from_nested(attacker, scene.container(), scene.host, "l2")
    shutil.rmtree(MEMORY, ignore_errors=True)
    assert add_another(scene, 2, mode="l2").error()["code"] == 104
    assert victim.ipvlan("byhand")["mode"] == "l3"
    add_another(scene, 3, mode="l3").result()


def test_an_ordinary_users_namespace_blocks_no_add_and_hides_nothing_that_is_opened(
    scene: Scene, tmp_path: Path
) -> None:
    """What covers it may lead to /dev/watchdog. Here, who writes to a FIFO waits for a reader."""
    scene.by_hand(scene.two, "l2")  # which is searched for
    link = scene.host.links()["eth0"]
    os.mkfifo(tmp_path / "fifo", 0o600)
    script = (
        f"ip link add index {link['ifindex']} address {link['address']} name eth0 type dummy\n"
        "ip link add link eth0 name forged type ipvlan mode l3\n"
        "ip link set dev eth0 up; ip link set dev forged up\n"
        "mount -t tmpfs none /mnt; touch /mnt/ns; mount --bind /proc/self/ns/net /mnt/ns\n"
        f"mount -t tmpfs none /mnt; ln -s {tmp_path}/fifo /mnt/ns"
    )
    write = ("sh", "-c", f"echo >{tmp_path}/fifo")
    with ordinary_users(2, script), subprocess.Popen(write) as writer:
        try:
            wait_until(lambda: sleeps_in(writer.pid, "fifo_open"))
            assert scene.add(mode="l2").container.ipvlan("net1")["mode"] == "l2"
            assert writer.poll() is None
        finally:
            writer.kill()


# Hidden links.


@contextmanager
def hidden(container: Space) -> Iterator[None]:
    """Move a container's net1 to where no search enters, which only a socket keeps."""
    with ordinary_users(1) as [process]:
        kept = Space(f"/proc/{process}/ns/net").socket()
        container.ip(f"link set dev net1 netns {process}")
    with kept:
        yield


AFTERWARDS = ("nothing", "DEL", "DEL of a forged one", "end, DEL", "end, GC", "ADD, DEL")


def happens(afterwards: str, attack: Added) -> None:
    scene, attacker = attack.scene, attack.container
    if afterwards.startswith("end"):
        scene.node.remove(attacker)
    if afterwards == "DEL":
        attack.delete()
    elif afterwards == "DEL of a forged one":  # whose parent looks as the master does
        label = f"cni-ipvlan/net/one/net1/{files_about('one')[0].name.split('.')[0]}"
        forge_from_nested(attacker, scene.container(), scene.host, "l2")
        attacker.ip("link set dev forged down")
        attacker.ip(f"link set dev forged name net1 alias {label}")
        attack.delete()
        assert attacker.links().keys() == {"lo"}
    elif afterwards == "end, DEL":
        scene.runtime.delete("", network()).succeeds()
    elif afterwards == "end, GC":
        scene.runtime.gc(GC).succeeds()
    elif afterwards == "ADD, DEL":  # so that another record takes the place of the first
        scene.add(ipam=static("10.1.0.9/24")).delete()


@pytest.mark.slow
@pytest.mark.parametrize("afterwards", AFTERWARDS)
def test_the_mode_of_a_hidden_link_is_the_only_one_permitted(scene: Scene, afterwards: str) -> None:
    attack = scene.add()

    with hidden(scene.one):
        happens(afterwards, attack)
        for _ in range(2):  # the second is answered without a search
            error = add_another(scene, mode="l3").error()
            assert error["code"] == 104
            assert "root's record" in error["details"]
        add_another(scene).result()
        delete_another(scene)
        assert add_another(scene, mode="l3").error()["code"] == 104

    add_when_gone(scene)


def add_when_gone(scene: Scene) -> None:
    """Attach in another mode, which is possible when the hidden link is gone."""
    add_another(scene, 4, mode="l3").result()
    delete_another(scene, 4)
    scene.runtime.gc(GC).succeeds()
    assert records() == []


def test_a_note_goes_with_the_last_attachment_when_the_hidden_link_is_gone(scene: Scene) -> None:
    attack, conf = scene.add(), network(ipam=THIRD)
    with hidden(scene.one):
        attack.delete()
        assert [path.name for path in MEMORY.glob("on-*/*")] == ["mode"]
        scene.add(conf, at=scene.two, CNI_CONTAINERID="c3")
    scene.two.ip("link delete dev net1")
    wait_until(lambda: is_free("eth0"))
    scene.add(conf, at=scene.two, CNI_CONTAINERID="c4").delete()
    delete_another(scene)
    assert records() == []


def is_free(master: str) -> bool:
    argv = f"ip link add link {master} name x type macvlan mode bridge macaddr flush"
    done = subprocess.run(argv.split(), check=False, capture_output=True)
    return b"Invalid argument" in done.stderr


def test_a_link_that_is_hidden_before_its_add_fails_leaves_its_mode(scene: Scene) -> None:
    with ordinary_users(1) as [process]:
        hide = f"nsenter --net={scene.one.path} ip link set dev net1 netns {process}"
        ipam = scene.ipam(script=f"until {hide}; do :; done 2>/dev/null; exit 1")
        scene.runtime.add(scene.one, network(ipam=ipam), CNI_PATH=scene.fake.path).error()
        assert add_another(scene, mode="l3").error()["code"] == 104
        add_another(scene).result()
        delete_another(scene)
    wait_until(lambda: is_free("eth0"))
    add_when_gone(scene)


def test_root_declares_a_mode_of_which_nothing_is_known(scene: Scene) -> None:
    scene.add()
    with hidden(scene.one):
        shutil.rmtree(MEMORY)
        error = add_another(scene).error()
        assert error["code"] == 11
        line = next(each for each in error["details"].splitlines() if "ip link add" in each)
        run(*line[line.index("ip link add") :].split())

        add_another(scene).result()
        run("ip", "link", "delete", "dev", "ipvlan-mode")

        add_another(scene, 4).result()
        assert add_another(scene, 5, mode="l3").error()["code"] == 104


def test_a_hidden_link_has_namespaces_searched_once(scene: Scene, tmp_path: Path) -> None:
    scene.add()
    others = [scene.container() for _ in range(OTHERS)]
    steps = Steps(tmp_path)
    counts = []
    with hidden(scene.one):
        for number in (1, 2):
            steps.forget()
            about = {"CNI_CONTAINERID": "c", **steps.environment}
            added = scene.add(at=others[number], ipam=THIRD, **about)
            counts.append(len(steps.taken))
            added.delete()

    assert counts[0] >= counts[1] + OTHERS


@pytest.mark.parametrize("option", [{}, {"vlan": 8}])
def test_more_links_than_are_read_delay_no_other_container_and_no_delete(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, option: Conf
) -> None:
    before, added = scene.host.links(), scene.add(**option)
    lines = "".join(f"link add link own name i{each} type ipvlan\n" for each in range(50))
    scene.one.run("ip", "-batch", "-", stdin=f"link add name own type dummy\n{lines}")
    monkeypatch.setattr(running, "_MOST_STDOUT", 16 << 10)
    monkeypatch.setattr(modes, "_search", pytest.fail)  # others ask for one link only
    scene.add(at=scene.two, ipam=THIRD, CNI_CONTAINERID="another", **option).delete()
    added.delete()
    assert "net1" not in scene.one.links()
    assert (scene.host.links(), records()) == (before, [])


@pytest.mark.parametrize("name", ["ipvlan-probe", "ivprobe0"])
def test_an_interface_that_is_called_as_a_trial_makes_nothing_fail(scene: Scene, name: str) -> None:
    scene.host.ip(f"link add name {name} type dummy")
    with scene.unchanged():
        scene.runtime.status(network(cniVersion="1.1.0", ipam=None)).succeeds()
        scene.add(vlan=8).delete()


# During an ADD, CNI_NETNS changes to a new namespace or to another container's.
ELSEWHERE = {
    "a new namespace": "ip netns del {name}; ip netns add {name}",
    "another container": "umount --lazy {path}; mount --bind {other} {path}",
}


@pytest.mark.parametrize("change", list(ELSEWHERE))
@pytest.mark.parametrize("moment", ["before the move", "after the move"])
def test_an_add_whose_namespace_is_replaced_fails_and_touches_no_other(
    scene: Scene, change: str, moment: str
) -> None:
    container, other = scene.one, scene.two
    scene.add(at=other)
    name = Path(container.path).name
    script = ELSEWHERE[change].format(name=name, path=container.path, other=other.path)
    untouched = scene.node.snapshot()[other.path]
    about = {"CNI_CONTAINERID": "misled", "CNI_PATH": scene.fake.path}
    call = (
        call_environment("ADD", container, **about),
        stdin_of(network(ipam=scene.ipam(ips=["10.1.0.2/24"]))),
    )
    points = faulty.points_of_add(*call)
    moving = next(each for each in points if {"set", "netns"} <= set(each.words.split()))

    def replace(_: object, work: faulty.Work) -> Completed:
        done = work() if moment == "after the move" else None
        run("sh", "-c", script)
        return done or work()

    descriptor = os.open(container.path, os.O_RDONLY)
    try:
        answer = faulty.call(*call, Faults({moving: replace}))

        first = Space(f"/proc/{os.getpid()}/fd/{descriptor}")
        assert answer.error()["code"] in {4, 11}
        assert first.links().keys() == {"lo"}
        if change == "a new namespace":
            assert container.links().keys() == {"lo"}
        assert scene.node.snapshot()[other.path] == untouched
        assert scene.host.links().keys() == {"lo", "eth0"}
        assert files_about("misled") == []
    finally:
        os.close(descriptor)
