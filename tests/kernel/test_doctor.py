"""The doctor says beforehand what makes an ADD fail, or a container's network useless."""

import json
import re
from pathlib import Path

import pytest
from dhcp import SOCKET, daemon
from lab import LEASES, MEMORY, run, without_program
from people import Person
from runtime import Conf, host_local, network, static
from scene import Scene

from cni_ipvlan.cli.configs import DIRECTORY

IPV6 = static("fd00::2/64")


def doctor(person: Person, arguments: str = "", conf: Conf | None = None) -> dict[str, list[str]]:
    """Return what the doctor says: the texts, by state and subject."""
    given = f"-c {person.writes(conf)} " if conf else ""
    status, out, err = person.types(f"ipvlan doctor {given}{arguments}")
    assert err == ""
    found: dict[str, list[str]] = {}
    for line in out.splitlines():
        if not line.startswith(" "):
            state, subject, text = re.split(" +", line, maxsplit=2)
            found.setdefault(f"{state} {subject}", []).append(text)
    assert status == any(key.startswith("problem ") for key in found)
    return found


def test_records_that_cannot_be_kept(scene: Scene, person: Person) -> None:
    assert doctor(person)["ok records"] == ["attachments can be recorded in /run/cni-ipvlan"]
    container = scene.one
    run("mount", "-o", "remount,bind,ro", "/run")
    try:
        error = scene.runtime.add(container, network()).error()
        (said,) = doctor(person)["problem records"]
    finally:
        run("mount", "-o", "remount,bind,rw", "/run")
    assert "Read-only file system" in error["msg"]
    assert said.startswith("/run can't be written to")

    MEMORY.mkdir()
    run("chown", "nobody", str(MEMORY))
    scene.runtime.add(container, network()).error()
    (said,) = doctor(person)["problem records"]
    assert said == f"{MEMORY} is not a directory, or belongs to another user"
    run("chown", "root", str(MEMORY))
    assert "ok records" in doctor(person)


@pytest.mark.slow
def test_static_address_that_a_container_has(scene: Scene, person: Person) -> None:
    assert doctor(person, conf=network())["ok addresses"] == ["no container on eth0 has 10.1.0.2"]
    scene.add()
    scene.refuses(106, at=scene.two, ipam=static("10.1.0.2/24"))

    owner = f"net1 in {scene.one.path} (container one)"
    taken = [f"10.1.0.2 belongs to {owner}, so an ADD of another container fails"]
    # The network's own container may be the only one there is to be.
    assert doctor(person, conf=network())["warning addresses"] == taken
    assert doctor(person, "--netns container2", network())["problem addresses"] == taken
    assert doctor(person, conf=network(name="second"))["problem addresses"] == taken
    assert "ok addresses" in doctor(person, "--netns container1 --ifname net1", network())
    assert "ok addresses" in doctor(person, conf=network(ipam=static("10.1.0.3/24")))


def test_arping_that_an_option_needs(scene: Scene, person: Person) -> None:
    asking = network(checkIPv4Conflict=True)
    assert doctor(person, conf=asking)["ok programs"]
    with without_program("arping"):
        (said,) = doctor(person, conf=asking)["problem programs"]
        error = scene.runtime.status({**asking, "cniVersion": "1.1.0"}).error()
        scene.refuses(113, "iputils-arping", conf=asking)
        assert "problem programs" not in doctor(person, conf=network())
        assert "problem programs" not in doctor(person, conf={**asking, "ipam": IPV6})
    assert "arping" in said
    assert (error["code"], "iputils-arping" in error["details"]) == (50, True)


@pytest.mark.slow
def test_a_default_route_that_the_container_has(scene: Scene, person: Person) -> None:
    conf = network(ipam=static("10.1.0.2/24", gateway="10.1.0.1", routes=[{"dst": "0.0.0.0/0"}]))
    assert "problem routes" not in doctor(person, "--netns container1", conf)
    scene.one.ip("link add name eth9 up type dummy")
    scene.one.ip("route add default dev eth9")
    (said,) = doctor(person, "--netns container1", conf)["problem routes"]
    assert said == "the container has a default route, 0.0.0.0/0, through eth9 already"
    scene.refuses(107, "0.0.0.0/0", conf=conf)
    scene.one.ip("link delete dev eth9")
    scene.add(conf)  # its own is none
    assert "problem routes" not in doctor(person, "--netns container1", conf)


@pytest.mark.slow
def test_a_range_of_which_another_network_has_leased(scene: Scene, person: Person) -> None:
    for place in ("/var/lib/cni/networks", f"{person.directory}/leases"):
        conf = network(ipam=host_local("10.1.0.0/24", dataDir=place))
        added = scene.add({**conf, "name": "old"})
        found = doctor(person, conf=conf)
        said = f"the network old has leased 1 of these, such as 10.1.0.2, in {place}/old"
        assert found["warning ipam"] == [said]
        (said,) = found["warning addresses"]
        assert said.startswith("10.1.0.2 is in the range, and belongs to net1 in ")
        found = doctor(person, conf={**conf, "name": "old"})
        assert not {"warning ipam", "warning addresses"} & {*found}
        added.delete()


def test_name_of_an_interface_in_the_container(scene: Scene, person: Person) -> None:
    container = scene.one
    where = "--netns container1 --ifname"
    free = [f"the name net1 is free in {container.path}"]
    assert doctor(person, f"{where} net1")["ok interface"] == free
    without = doctor(person, "--netns container1")
    assert "ok interface" not in without
    assert without["ok configuration"] == [
        f"{DIRECTORY} has no network of ipvlan; -c FILE names one"
    ]
    meant = "or a process ID; did you mean 'container1'?\n"
    assert meant in person.types("ipvlan doctor --netns contaner1")[2]
    scene.add()
    container.ip("link add name eth7 type dummy")

    attached = ["net1 is there, of kind ipvlan: the container one in the network net"]
    assert doctor(person, f"{where} net1")["warning interface"] == attached
    assert doctor(person, f"{where} net1", network())["warning interface"] == attached
    assert " an add without --ifname is" in person.types("ipvlan doctor --netns container1")[1]
    assert doctor(person, "--netns container1", network(name="b"))["warning interface"] == attached
    assert doctor(person, f"{where} net1", network(name="b"))["problem interface"] == attached
    assert doctor(person, f"{where} eth7")["problem interface"] == ["eth7 is there, of kind dummy"]
    container.rename("net1", "net9")
    renamed = attached[0].replace("ipvlan:", "ipvlan, but is called net9 now:")
    assert doctor(person, f"{where} net1")["warning interface"] == [renamed]


MODES = "mode l2 bridge; this network wants l3 bridge"


def test_doctor_names_what_is_wrong_and_what_to_do(scene: Scene, person: Person) -> None:
    other = scene.add(ipam=static("10.1.0.9/24"), CNI_CONTAINERID="other").container
    conf = person.writes(
        network(mode="l3", ipam=host_local("10.1.0.0/30", routes=[{"dst": "0.0.0.0/0"}]))
    )
    (LEASES / "networks/net").mkdir(parents=True)
    (LEASES / "networks/net/10.1.0.2").touch()

    status, out, _ = person.types(f"ipvlan doctor -c {conf} --netns /run/netns/gone")
    found = json.loads(person.types(f"ipvlan doctor -c {conf} --json")[1])["findings"]

    assert status == 1
    lines = {re.sub(" +", " ", line) for line in out.splitlines()}
    assert lines >= {
        "ok permission this user may change networks and enter namespaces",
        "problem namespace /run/netns/gone: No such file or directory",
        f"problem ipam 1 of 1 addresses of 10.1.0.0/30 are leased, in {LEASES}/networks/net",
        f"problem conflicts the master 'eth0' is used in {MODES}",
        f" found: an interface runs in that mode: net1 in {other.path} (container other)",
    }
    by_subject = {each["subject"]: each["state"] for each in found}
    assert by_subject["master"] == "ok"
    assert by_subject["iproute2"] == "ok"
    scene.host.ip("link set dev eth0 down")
    (said,) = doctor(person, f"-c {conf}")["warning master"]
    assert said.startswith("the master 'eth0' is down")


def test_the_master_or_the_daemon_that_is_wrong_is_named(scene: Scene, person: Person) -> None:
    scene.node.master("eth1")
    place = scene.node.container_of_a_process()
    run("ip", "link", "add", "name", "taker0", "link", "eth1", "type", "macvlan")
    run("ip", "link", "set", "dev", "taker0", "netns", place.path)
    found: list[tuple[Conf, str, str]] = [
        ({"master": "eth7"}, "master", "cannot find the master 'eth7'"),
        ({"master": "eth1"}, "conflicts", "eth1 already carries macvlan: taker0 in "),
        ({"ipam": {"type": "dhcp"}}, "ipam", "/run/cni/dhcp.sock does not exist"),
    ]
    for conf, subject, words in found:
        said = doctor(person, conf=network(**conf))[f"problem {subject}"]
        assert [each for each in said if each.startswith(words)], said
    out = person.types(f"ipvlan doctor -c {person.writes(network(ipam={'type': 'dhcp'}))}")[1]
    assert f"\n{' ' * 26}try: start its daemon on this node: systemctl enable --now " in out


@pytest.mark.usefixtures("no_ipvlan")
def test_a_kernel_without_ipvlan_is_named_and_a_dry_run_works(scene: Scene, person: Person) -> None:
    _, _, err = person.types(f"ipvlan status -c {person.writes(network(cniVersion='1.1.0'))}")
    begin = "ipvlan: cannot create ipvlan interfaces with ip: the kernel has no ipvlan\n"
    assert err.startswith(begin)
    about = f"-c {person.writes(network())} --netns container1"
    script = person.succeeds(f"ipvlan add {about} --dry-run")
    assert "\n# assumed: the kernel has ipvlan, or can load it (" in script
    assert "type ipvlan mode l2 bridge" in script
    (said,) = doctor(person)["problem kernel"]
    assert said.endswith(" blocks it")


def test_whether_answers_of_dhcp_are_heard(scene: Scene, person: Person, tmp_path: Path) -> None:
    conf = network(ipam={"type": "dhcp"})
    with daemon(tmp_path / "log"), scene.unchanged():
        *_, good = doctor(person, conf=conf)["ok ipam"]
        with without_program("tc"):
            *_, bad = doctor(person, conf=conf)["warning ipam"]
    assert good.startswith("tc can have DHCP answers broadcast")
    assert bad.startswith("tc can't have DHCP answers broadcast: ")
    assert f"{SOCKET} does not exist" in doctor(person, conf=conf)["problem ipam"][0]
