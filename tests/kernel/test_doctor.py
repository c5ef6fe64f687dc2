"""The doctor says beforehand what makes an ADD fail, or a container's network useless."""

import json
import re
from pathlib import Path

import pytest
from command_line import User
from dhcp import SOCKET, daemon
from lab import LEASES, RECORDS, hide_program, run
from runtime import Conf, host_local, network, static
from setup import Setup

from cni_ipvlan.cli.configs import DIRECTORY

IPV6 = static("fd00::2/64")


def doctor(user: User, arguments: str = "", conf: Conf | None = None) -> dict[str, list[str]]:
    """Return the doctor's findings: the texts, by state and subject."""
    option = f"-c {user.write_conf(conf)} " if conf else ""
    status, out, err = user.run(f"ipvlan doctor {option}{arguments}")
    assert err == ""
    findings: dict[str, list[str]] = {}
    for line in out.splitlines():
        if not line.startswith(" "):
            state, subject, text = re.split(" +", line, maxsplit=2)
            findings.setdefault(f"{state} {subject}", []).append(text)
    assert status == any(key.startswith("problem ") for key in findings)
    return findings


def test_records_that_cannot_be_kept(setup: Setup, user: User) -> None:
    assert doctor(user)["ok records"] == ["attachments can be recorded in /run/cni-ipvlan"]
    run("mount", "-o", "remount,bind,ro", "/run")
    try:
        error = setup.runtime.add(setup.container, network()).error()
        (message,) = doctor(user)["problem records"]
    finally:
        run("mount", "-o", "remount,bind,rw", "/run")
    assert "Read-only file system" in error["msg"]
    assert message.startswith("/run can't be written to")

    text = f"{RECORDS} is not a directory, or belongs to another user"
    RECORDS.touch()
    assert setup.runtime.status(network(cniVersion="1.1.0")).error()["msg"] == text
    RECORDS.unlink()
    run("install", "-d", "-o", "nobody", str(RECORDS))
    setup.runtime.add(setup.container, network()).error()
    assert doctor(user)["problem records"] == [text]
    run("chown", "root", str(RECORDS))
    assert "ok records" in doctor(user)


@pytest.mark.slow
def test_static_address_that_a_container_has(setup: Setup, user: User) -> None:
    assert doctor(user, conf=network())["ok addresses"] == ["no container on eth0 has 10.1.0.2"]
    setup.add()
    setup.expect_error(106, at=setup.container2, ipam=static("10.1.0.2/24"))

    owner = f"net1 in {setup.container.path} (container one)"
    expected = [f"10.1.0.2 belongs to {owner}, so an ADD of another container fails"]
    # The network's own container may be the only one there is to be.
    assert doctor(user, conf=network())["warning addresses"] == expected
    assert doctor(user, "--netns container2", network())["problem addresses"] == expected
    assert doctor(user, conf=network(name="second"))["problem addresses"] == expected
    assert "ok addresses" in doctor(user, "--netns container1 --ifname net1", network())
    assert "ok addresses" in doctor(user, conf=network(ipam=static("10.1.0.3/24")))


def test_arping_that_an_option_needs(setup: Setup, user: User) -> None:
    asking = network(checkIPv4Conflict=True)
    assert doctor(user, conf=asking)["ok programs"]
    with hide_program("arping"):
        (message,) = doctor(user, conf=asking)["problem programs"]
        error = setup.runtime.status({**asking, "cniVersion": "1.1.0"}).error()
        setup.expect_error(113, "iputils-arping", conf=asking)
        assert "problem programs" not in doctor(user, conf=network())
        assert "problem programs" not in doctor(user, conf={**asking, "ipam": IPV6})
    assert "arping" in message
    assert (error["code"], "iputils-arping" in error["details"]) == (50, True)


@pytest.mark.slow
def test_a_range_of_which_another_network_has_an_address(setup: Setup, user: User) -> None:
    for directory in ("/var/lib/cni/networks", f"{user.directory}/leases"):
        conf = network(ipam=host_local("10.1.0.0/24", dataDir=directory))
        added = setup.add({**conf, "name": "old"})
        findings = doctor(user, conf=conf)
        (message,) = findings["warning addresses"]
        assert message.startswith("10.1.0.2 is in the range, and belongs to net1 in ")
        findings = doctor(user, conf={**conf, "name": "old"})
        assert "warning addresses" not in findings
        added.delete()


def test_name_of_an_interface_in_the_container(setup: Setup, user: User) -> None:
    container = setup.container
    where = "--netns container1 --ifname"
    free = [f"the name net1 is free in {container.path}"]
    assert doctor(user, f"{where} net1")["ok interface"] == free
    lines = doctor(user, "--netns container1")
    assert "ok interface" not in lines
    assert lines["ok configuration"] == [f"{DIRECTORY} has no network of ipvlan; -c FILE names one"]
    suggestion = "or a process ID; did you mean 'container1'?\n"
    assert suggestion in user.run("ipvlan doctor --netns contaner1")[2]
    setup.add()
    container.ip("link add name eth7 type dummy")

    attached = ["net1 is there, of kind ipvlan: the container one in the network net"]
    assert doctor(user, f"{where} net1")["warning interface"] == attached
    assert doctor(user, f"{where} net1", network())["warning interface"] == attached
    assert doctor(user, f"{where} net1", network(name="b"))["problem interface"] == attached
    assert doctor(user, f"{where} eth7")["problem interface"] == ["eth7 is there, of kind dummy"]
    container.rename("net1", "net9")
    expected = attached[0].replace("ipvlan:", "ipvlan, but is called net9 now:")
    assert doctor(user, f"{where} net1")["warning interface"] == [expected]


MODES = "mode l2 bridge; this network wants l3 bridge"


def test_doctor_names_what_is_wrong_and_what_to_do(setup: Setup, user: User) -> None:
    other = setup.add(ipam=static("10.1.0.9/24"), CNI_CONTAINERID="other").container
    conf = user.write_conf(
        network(mode="l3", ipam=host_local("10.1.0.0/30", routes=[{"dst": "0.0.0.0/0"}]))
    )
    (LEASES / "networks/net").mkdir(parents=True)
    (LEASES / "networks/net/10.1.0.2").write_text("other")

    status, out, _ = user.run(f"ipvlan doctor -c {conf} --netns /run/netns/gone")
    findings = json.loads(user.run(f"ipvlan doctor -c {conf} --json")[1])["findings"]

    assert status == 1
    lines = {re.sub(" +", " ", line) for line in out.splitlines()}
    assert lines >= {
        "ok permission this user may change networks and enter namespaces",
        "problem namespace /run/netns/gone: No such file or directory",
        f"problem ipam 1 of 1 addresses of 10.1.0.0/30 are leased, in {LEASES}/networks/net",
        " enlarge the range: all its addresses are leased to containers that exist",
        f"problem conflicts the master 'eth0' is used in {MODES}",
        f" found: an interface runs in that mode: net1 in {other.path} (container other)",
    }
    by_subject = {each["subject"]: each["state"] for each in findings}
    assert by_subject["master"] == "ok"
    assert by_subject["iproute2"] == "ok"
    setup.host.ip("link set dev eth0 down")
    (message,) = doctor(user, f"-c {conf}")["warning master"]
    assert message.startswith("the master 'eth0' is down")


def test_the_master_or_the_daemon_that_is_wrong_is_named(setup: Setup, user: User) -> None:
    setup.node.make_master("eth1")
    container = setup.node.make_anonymous_container()
    run("ip", "link", "add", "name", "taker0", "link", "eth1", "type", "macvlan")
    run("ip", "link", "set", "dev", "taker0", "netns", container.path)
    cases: list[tuple[Conf, str, str]] = [
        ({"master": "eth7"}, "master", "cannot find the master 'eth7'"),
        ({"master": "eth1"}, "conflicts", "eth1 already carries macvlan: taker0 in "),
        ({"ipam": {"type": "dhcp"}}, "ipam", "/run/cni/dhcp.sock does not exist"),
    ]
    for conf, subject, words in cases:
        message = doctor(user, conf=network(**conf))[f"problem {subject}"]
        assert [each for each in message if each.startswith(words)], message
    out = user.run(f"ipvlan doctor -c {user.write_conf(network(ipam={'type': 'dhcp'}))}")[1]
    assert f"\n{' ' * 26}try: start its daemon on this node: systemctl enable --now " in out


@pytest.mark.usefixtures("no_ipvlan")
def test_a_kernel_without_ipvlan_is_named_and_a_dry_run_works(setup: Setup, user: User) -> None:
    _, _, err = user.run(f"ipvlan status -c {user.write_conf(network(cniVersion='1.1.0'))}")
    begin = "ipvlan: cannot create ipvlan interfaces with ip: the kernel has no ipvlan\n"
    assert err.startswith(begin)
    options = f"-c {user.write_conf(network())} --netns container1"
    script = user.check_output(f"ipvlan add {options} --dry-run")
    assert "\n# assumed: the kernel has ipvlan, or can load it (" in script
    assert "type ipvlan mode l2 bridge" in script
    (message,) = doctor(user)["problem kernel"]
    assert message.endswith(" blocks it")


def test_whether_answers_of_dhcp_are_heard(setup: Setup, user: User, tmp_path: Path) -> None:
    conf = network(ipam={"type": "dhcp"})
    with daemon(tmp_path / "log"), setup.unchanged():
        *_, ok_message = doctor(user, conf=conf)["ok ipam"]
        with hide_program("tc"):
            *_, warning_message = doctor(user, conf=conf)["warning ipam"]
    assert ok_message.startswith("tc can have DHCP answers broadcast")
    assert warning_message.startswith("tc can't have DHCP answers broadcast: ")
    assert f"{SOCKET} does not exist" in doctor(user, conf=conf)["problem ipam"][0]
