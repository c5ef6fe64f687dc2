"""Links that a container forges or hides, and names that mislead, harm nobody else."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import faulty
import pytest
from attacker import find_files_with, forge_from_nested, forge_link, start_user_namespaces
from doubles import Steps
from faulty import Faults
from lab import RECORDS, NetNS, find_records, run, sleeps_in, wait_until
from runtime import Answer, Conf, call_environment, network, static, stdin_of
from setup import Attachment, Setup

from cni_ipvlan.iproute import running
from cni_ipvlan.iproute.running import Completed
from cni_ipvlan.plugin import modes

OTHERS = 6  # namespaces
GC = network(cniVersion="1.1.0", ipam=None)
THIRD = static("10.1.0.3/24")


def add_container(setup: Setup, number: int = 3, mode: str = "l2") -> Answer:
    conf = network(mode=mode, ipam=static(f"10.1.0.{number}/24"))
    return setup.runtime.add(setup.make_container(), conf, CNI_CONTAINERID=f"c{number}")


def delete_container(setup: Setup, number: int = 3) -> None:
    setup.runtime.delete("", network(), CNI_CONTAINERID=f"c{number}").succeeds()


# Forged modes.


def test_a_link_recreated_on_a_containers_own_interface_permits_no_mode(setup: Setup) -> None:
    """One attacker is before the victim and one after, since the search may be in any order."""
    first, victim, last = (setup.make_container() for _ in range(3))
    for number, container in enumerate((first, victim, last), 2):
        setup.add(at=container, ipam=static(f"10.1.0.{number}/24"), CNI_CONTAINERID=f"a{number}")
    for attacker in (first, last):
        forge_link(attacker, "l3")
    assert add_container(setup, 5, mode="l3").error()["code"] == 104
    assert victim.ipvlan("net1")["mode"] == "l2"


def test_a_forged_link_blocks_no_free_master(setup: Setup) -> None:
    setup.add()
    forge_link(setup.container, "l2")
    added = setup.add(at=setup.container2, mode="l3")
    assert added.container.ipvlan("net1")["mode"] == "l3"


def test_a_link_whose_parent_only_has_the_masters_index_permits_no_mode(setup: Setup) -> None:
    first, victim, last = (setup.make_container() for _ in range(3))
    setup.make_foreign_link(victim, "l3")
    for attacker in (first, last):
        forge_from_nested(attacker, setup.make_container(), setup.host, "l2")
    shutil.rmtree(RECORDS, ignore_errors=True)
    assert add_container(setup, 2, mode="l2").error()["code"] == 104
    assert victim.ipvlan("byhand")["mode"] == "l3"
    add_container(setup, 3, mode="l3").result()


def test_an_ordinary_users_namespace_blocks_no_add_and_hides_nothing_that_is_opened(
    setup: Setup, tmp_path: Path
) -> None:
    """An opened mount may be /dev/watchdog. Here it is a FIFO, whose writer waits for a reader."""
    setup.make_foreign_link(setup.container2, "l2")  # which is searched for
    link = setup.host.links()["eth0"]
    os.mkfifo(tmp_path / "fifo", 0o600)
    script = (
        f"ip link add index {link['ifindex']} address {link['address']} name eth0 type dummy\n"
        "ip link add link eth0 name forged type ipvlan mode l3\n"
        "ip link set dev eth0 up; ip link set dev forged up\n"
        "mount -t tmpfs none /mnt; touch /mnt/ns; mount --bind /proc/self/ns/net /mnt/ns\n"
        f"mount -t tmpfs none /mnt; ln -s {tmp_path}/fifo /mnt/ns"
    )
    write = ("sh", "-c", f"echo >{tmp_path}/fifo")
    with start_user_namespaces(2, script), subprocess.Popen(write) as writer:
        try:
            wait_until(lambda: sleeps_in(writer.pid, "fifo_open"))
            assert setup.add(mode="l2").container.ipvlan("net1")["mode"] == "l2"
            assert writer.poll() is None
        finally:
            writer.kill()


# Hidden links.


@contextmanager
def hide_link(container: NetNS) -> Iterator[None]:
    """Move a container's net1 to a namespace that only a socket keeps, so no search finds it."""
    with start_user_namespaces(1) as [process]:
        socket = NetNS(f"/proc/{process}/ns/net").socket()
        container.ip(f"link set dev net1 netns {process}")
    with socket:
        yield


SEQUELS = ("nothing", "DEL", "DEL of a forged one", "end, DEL", "end, GC", "ADD, DEL", "upgrade")


def do_afterwards(sequel: str, attack: Attachment) -> None:
    setup, attacker = attack.setup, attack.container
    if sequel.startswith("end"):
        setup.node.remove(attacker)
    if sequel == "DEL":
        attack.delete()
    elif sequel == "DEL of a forged one":  # whose parent looks as the master does
        label = f"cni-ipvlan/net/one/net1/{find_files_with('one')[0].name.split('.')[0]}"
        forge_from_nested(attacker, setup.make_container(), setup.host, "l2")
        attacker.ip("link set dev forged down")
        attacker.ip(f"link set dev forged name net1 alias {label}")
        attack.delete()
        assert attacker.links().keys() == {"lo"}
    elif sequel == "end, DEL":
        setup.runtime.delete("", network()).succeeds()
    elif sequel == "end, GC":
        setup.runtime.gc(GC).succeeds()
    elif sequel == "ADD, DEL":  # so that another record takes the place of the first
        setup.add(ipam=static("10.1.0.9/24")).delete()
    elif sequel == "upgrade":  # from a version that has written no note
        next(RECORDS.rglob("mode")).unlink()


@pytest.mark.slow
@pytest.mark.parametrize("sequel", SEQUELS)
def test_the_mode_of_a_hidden_link_is_the_only_one_permitted(setup: Setup, sequel: str) -> None:
    attack = setup.add()

    with hide_link(setup.container):
        do_afterwards(sequel, attack)
        for _ in range(2):  # the second is answered without a search
            error = add_container(setup, mode="l3").error()
            assert error["code"] == 104
            assert "root's record" in error["details"]
        add_container(setup).result()
        delete_container(setup)
        assert add_container(setup, mode="l3").error()["code"] == 104

    check_master_is_released(setup)


def check_master_is_released(setup: Setup) -> None:
    """Attach in another mode, which is possible once the hidden link is removed."""
    add_container(setup, 4, mode="l3").result()
    delete_container(setup, 4)
    setup.runtime.gc(GC).succeeds()
    assert find_records() == []


def test_a_note_goes_with_the_last_attachment_when_the_hidden_link_is_gone(setup: Setup) -> None:
    attack, conf = setup.add(), network(ipam=THIRD)
    with hide_link(setup.container):
        attack.delete()
        assert [path.name for path in RECORDS.glob("on-*/*")] == ["mode"]
        setup.add(conf, at=setup.container2, CNI_CONTAINERID="c3")
    setup.container2.ip("link delete dev net1")
    wait_until(lambda: is_free("eth0"))
    setup.add(conf, at=setup.container2, CNI_CONTAINERID="c4").delete()
    delete_container(setup)
    assert find_records() == []


def is_free(master: str) -> bool:
    argv = f"ip link add link {master} name x type macvlan mode bridge macaddr flush"
    done = subprocess.run(argv.split(), check=False, capture_output=True)
    return b"Invalid argument" in done.stderr


@pytest.mark.parametrize(
    ("successor", "ips"), [("", ""), ("forged", ""), ("forged", '{"address": "10.1.0.2/24"}')]
)
def test_a_link_that_is_hidden_during_its_add_leaves_its_mode(
    setup: Setup, tmp_path: Path, successor: str, ips: str
) -> None:
    """A forged one, with a copy of its label, takes its place; ADD fails, or is followed by DEL."""
    (hide := tmp_path / "hide").write_text(
        'until label=$(ip -d link show net1 | sed -n "s/ *alias //p"); [ "$label" ]; do :; done\n'
        "ip link set dev net1 netns $1 name hidden\n"
        '[ ! "$2" ] || ip link set dev $2 down name net1 alias "$label"\n'
    )
    forge_from_nested(setup.container, setup.make_container(), setup.host, "l2")
    with start_user_namespaces(1) as [process]:
        script = (
            f"nsenter --net={setup.container.path} sh {hide} {process} {successor} 2>/dev/null\n"
        )
        script += f"""[ '{ips}' ] && echo '{{"cniVersion": "1.0.0", "ips": [{ips}]}}'"""
        conf = network(ipam=setup.ipam(script=script))
        added = setup.runtime.add(setup.container, conf, CNI_PATH=setup.fake.path)
        if ips:
            added.result()
            setup.runtime.delete(setup.container, conf, CNI_PATH=setup.fake.path).succeeds()
        else:
            added.error()
        assert setup.container.links().keys() == {"lo"} if ips else {"lo", "forged"}
        assert add_container(setup, mode="l3").error()["code"] == 104
        add_container(setup).result()
        delete_container(setup)
    wait_until(lambda: is_free("eth0"))
    check_master_is_released(setup)


def test_root_declares_a_mode_of_which_nothing_is_known(setup: Setup) -> None:
    setup.add()
    with hide_link(setup.container):
        shutil.rmtree(RECORDS)
        error = add_container(setup).error()
        assert error["code"] == 11
        line = next(each for each in error["details"].splitlines() if "ip link add" in each)
        run(*line[line.index("ip link add") :].split())

        add_container(setup).result()
        run("ip", "link", "delete", "dev", "ipvlan-mode")

        add_container(setup, 4).result()
        assert add_container(setup, 5, mode="l3").error()["code"] == 104


def test_a_hidden_link_has_namespaces_searched_once(setup: Setup, tmp_path: Path) -> None:
    setup.add()
    containers = [setup.make_container() for _ in range(OTHERS)]
    steps = Steps(tmp_path)
    counts = []
    with hide_link(setup.container):
        for number in (1, 2):
            steps.reset()
            variables = {"CNI_CONTAINERID": "c", **steps.environment}
            added = setup.add(at=containers[number], ipam=THIRD, **variables)
            counts.append(len(steps.records))
            added.delete()

    assert counts[0] >= counts[1] + OTHERS


@pytest.mark.parametrize("option", [{}, {"vlan": 8}])
def test_more_links_than_are_read_delay_no_other_container_and_no_delete(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, option: Conf
) -> None:
    before, added = setup.host.links(), setup.add(**option)
    lines = "".join(f"link add link own name i{each} type ipvlan\n" for each in range(50))
    setup.container.run("ip", "-batch", "-", stdin=f"link add name own type dummy\n{lines}")
    monkeypatch.setattr(running, "_MOST_STDOUT", 16 << 10)
    monkeypatch.setattr(modes, "_search", pytest.fail)  # others ask for one link only
    setup.add(at=setup.container2, ipam=THIRD, CNI_CONTAINERID="another", **option).delete()
    added.delete()
    assert "net1" not in setup.container.links()
    assert (setup.host.links(), find_records()) == (before, [])


@pytest.mark.parametrize("name", ["ipvlan-probe", "ivprobe0"])
def test_an_interface_that_is_called_as_a_trial_makes_nothing_fail(setup: Setup, name: str) -> None:
    setup.host.ip(f"link add name {name} type dummy")
    with setup.unchanged():
        setup.runtime.status(network(cniVersion="1.1.0", ipam=None)).succeeds()
        setup.add(vlan=8).delete()


# During an ADD, CNI_NETNS changes to a new namespace or to another container's.
REPLACEMENTS = {
    "a new namespace": "ip netns del {name}; ip netns add {name}",
    "another container": "umount --lazy {path}; mount --bind {other} {path}",
}


@pytest.mark.parametrize("change", list(REPLACEMENTS))
@pytest.mark.parametrize("moment", ["before the move", "after the move"])
def test_an_add_whose_namespace_is_replaced_fails_and_touches_no_other(
    setup: Setup, change: str, moment: str
) -> None:
    container, other = setup.container, setup.container2
    setup.add(at=other)
    name = Path(container.path).name
    script = REPLACEMENTS[change].format(name=name, path=container.path, other=other.path)
    other_before = setup.node.snapshot()[other.path]
    variables = {"CNI_CONTAINERID": "misled", "CNI_PATH": setup.fake.path}
    call = (
        call_environment("ADD", container, **variables),
        stdin_of(network(ipam=setup.ipam(ips=["10.1.0.2/24"]))),
    )
    points = faulty.find_points_of_add(*call)
    move = next(each for each in points if {"set", "netns"} <= set(each.words.split()))

    def replace(_: object, work: faulty.Work) -> Completed:
        done = work() if moment == "after the move" else None
        run("sh", "-c", script)
        return done or work()

    descriptor = os.open(container.path, os.O_RDONLY)
    try:
        answer = faulty.call(*call, Faults({move: replace}))

        former = NetNS(f"/proc/{os.getpid()}/fd/{descriptor}")
        assert answer.error()["code"] in {4, 11}
        assert former.links().keys() == {"lo"}
        if change == "a new namespace":
            assert container.links().keys() == {"lo"}
        assert setup.node.snapshot()[other.path] == other_before
        assert setup.host.links().keys() == {"lo", "eth0"}
        assert find_files_with("misled") == []
    finally:
        os.close(descriptor)
