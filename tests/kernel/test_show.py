"""ipvlan show: what a user selects of a node, in order, with its problems."""

import base64
import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
from command_line import User
from executable import Executable
from lab import LEASES, RECORDS, NetNS, hide_directory, run
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from runtime import Conf, Runtime, host_local, network, static
from setup import Setup

from cni_ipvlan import __version__
from cni_ipvlan.iproute import namespace
from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.iproute.runner import Runner
from cni_ipvlan.iproute.running import Running
from cni_ipvlan.state.attachment import AttachmentId
from cni_ipvlan.state.registry import Registry

LEASED = network(ipam=host_local("10.1.0.0/24"))
NETWORKS = Path("/etc/cni/net.d")
OF_NET = LEASES / "networks" / "net"


def document(user: User, options: str = "") -> dict[str, Any]:
    result: dict[str, Any] = json.loads(user.check_output(f"ipvlan show -o json {options}"))
    assert result["notSeen"] == []
    return result


def attachments(user: User, options: str = "") -> list[dict[str, Any]]:
    masters = document(user, options)["masters"]
    return [each for master in masters for each in master["attachments"]]


def read_wide(user: User) -> list[dict[str, str]]:
    """Return the rows of -o wide, by the names of the columns."""
    lines = user.check_output("ipvlan show -o wide").splitlines()
    head, *rows = (re.split("  +", line) for line in lines)
    return [dict(zip_longest(head, row, fillvalue="")) for row in rows]


def interfaces(user: User, options: str = "") -> list[tuple[str, str]]:
    """Return the containers' names and the interfaces that are shown; all of them, in text, too."""
    entries = attachments(user, options)
    if not options:
        names = [(each["interface"], Path(each["netns"]).name) for each in entries]
        assert [(each["INTERFACE"], each["NAMESPACE"]) for each in read_wide(user)] == names
    return [(Path(each["netns"]).name, each["interface"]) for each in entries]


def problems(user: User) -> list[list[str]]:
    lists = [each["problems"] for each in attachments(user)]
    rows = zip(lists, read_wide(user), strict=False)  # leftovers come last
    assert all(", ".join(each) == row["PROBLEMS"] for each, row in rows)
    return lists


def leftovers(user: User) -> list[tuple[str, str, str]]:
    """Return kind, problem and container of the leftovers, as many in text as in JSON."""
    entries = document(user)["leftovers"]
    keys = ("NETWORK", "CONTAINER ID", "PROBLEMS")
    rows = [tuple(map(row.get, keys)) for row in read_wide(user) if row["KIND"] == "-"]
    labelled = [(each["network"], each["containerID"], each) for each in entries]
    assert rows == [(*key, f"{each['problem']} ({each['kind']})") for *key, each in labelled]
    return [(each["kind"], each["problem"], each["containerID"]) for each in entries]


@contextmanager
def configure(conf: Conf) -> Iterator[None]:
    """Make a network in /etc/cni/net.d, the only one there."""
    with hide_directory(NETWORKS):
        (NETWORKS / "90-show.conf").write_text(json.dumps(conf))
        yield


@pytest.fixture
def containers(setup: Setup) -> Setup:
    """Attach three containers to eth9, and one of them also to eth10."""
    setup.node.make_master("eth10")
    setup.node.make_master("eth9")
    for number in (10, 9, 2):
        at = setup.node.make_namespace(f"pod{number}")
        ipam = static(f"10.1.0.{number}/24")
        setup.add(at=at, master="eth9", ipam=ipam, CNI_CONTAINERID=f"abcde{number:02}")
    for number, name in ((1, "net10"), (2, "net9")):
        conf = network(master="eth10", name="other", ipam=static(f"10.2.0.{number}/24"))
        setup.add(conf, at=NetNS("/run/netns/pod9"), CNI_IFNAME=name, CNI_CONTAINERID="x")
    return setup


@pytest.mark.slow
def test_it_is_sorted_and_filtered(containers: Setup, user: User) -> None:
    run("ip", "link", "property", "add", "dev", "eth10", "altname", "uplink")
    of_pod9 = [("pod9", name) for name in ("net10", "net9", "net1")]
    assert [each["master"] for each in document(user)["masters"]] == ["eth10", "eth9"]
    everything = [*of_pod9[:2], ("pod10", "net1"), ("pod2", "net1"), of_pod9[2]]
    assert interfaces(user) == everything
    assert interfaces(user, "--netns pod9") == of_pod9
    assert interfaces(user, "--netns /run/netns/pod9") == of_pod9
    assert interfaces(user, "--master eth10") == of_pod9[:2]
    assert interfaces(user, "--master uplink") == of_pod9[:2]
    assert interfaces(user, "--netns pod9 --master eth9") == of_pod9[2:]
    assert interfaces(user, "--container-id abcde10") == [("pod10", "net1")]
    assert interfaces(user, "--container-id abcde0") == [("pod2", "net1"), ("pod9", "net1")]
    assert interfaces(user, "--container-id x") == of_pod9[:2]
    for form in ("", "-o wide"):
        result = user.run(f"ipvlan show {form} --master eth1 --container-id abc")
        assert result == (1, "", "nothing matches --master eth1 --container-id abc\n")
    status, out, err = user.run("ipvlan show -o json --master eth1")
    assert (status, err) == (1, "nothing matches --master eth1\n")
    assert json.loads(out) == {"masters": [], "leftovers": [], "notSeen": []}
    run("ip", "link", "add", "name", "own", "link", "eth9", "type", "ipvlan", "mode", "l2")
    (attachment,) = attachments(user, f"--netns {os.getpid()}")
    assert (attachment["interface"], attachment["netns"]) == ("own", None)


def test_what_is_left_over_is_filtered_as_well(setup: Setup, user: User) -> None:
    for added in [setup.add(LEASED, at=at) for at in (setup.container, setup.container2)]:
        added.container.ip("link delete dev net1")
    (OF_NET / "10.1.0.99").write_text("three\r\nnet1")

    def show_leftovers(options: str) -> list[str]:
        return [each["containerID"] for each in document(user, options)["leftovers"]]

    assert show_leftovers("") == ["one", "two", "three"]
    assert show_leftovers("--netns container2") == ["two"]
    assert show_leftovers("--master eth0") == ["one", "two"]
    assert show_leftovers("--container-id three") == ["three"]


def test_wide_has_what_each_master_carries(setup: Setup, user: User) -> None:
    setup.node.make_master("eth1", mtu=9000, up=False)
    assert user.check_output("ipvlan show") == "no ipvlan interfaces\n"
    container, container2 = setup.add(mode="l3").container, setup.node.make_anonymous_container()
    run("ip", "link", "add", "name", "byhand", "link", "eth1", "type", "ipvlan", "mode", "l3s")
    run("ip", "link", "set", "dev", "byhand", "netns", container2.path)
    run("ip", "link", "add", "name", "tap", "link", "eth1", "type", "ipvtap", "mode", "l3s")
    run("ip", "link", "set", "dev", "tap", "netns", container2.path)
    container.ip("link add name inner type dummy")
    container.ip("link add name nested link inner type ipvlan mode l2 private")

    rows = read_wide(user)
    document = json.loads(user.check_output("ipvlan show --json"))

    fe80 = container.query("-6", "address", "show", "dev", "net1")[0]["addr_info"][0]["local"]
    keys = ("INTERFACE", "KIND", "NAMESPACE", "MTU", "MODE", "MASTER", "MASTER MTU", "PROBLEMS")
    down, inner = ("l3s bridge", "eth1", "9000", "down, master down"), f"inner in {container.path}"
    assert [tuple(map(row.get, keys)) for row in rows] == [
        ("net1", "ipvlan", "container1", "1500", "l3 bridge", "eth0", "1500", ""),
        ("byhand", "ipvlan", container2.path, "9000", *down),
        ("tap", "ipvtap", container2.path, "9000", *down),
        ("nested", "ipvlan", "container1", "1500", "l2 private", inner, "-", "down"),
    ]
    assert rows[0]["ALL ADDRESSES"] == f"10.1.0.2/24 {fe80}/64"
    masters = [each["master"] for each in document["masters"]]
    assert masters == ["eth0", "eth1", f"inner in {container.path}"]
    (attachment,) = document["masters"][0]["attachments"]
    assert (attachment["containerID"], attachment["problems"]) == ("one", [])
    assert (document["leftovers"], document["notSeen"]) == ([], [])


def test_columns_have_what_is_there_and_what_is_left(setup: Setup, user: User) -> None:
    setup.node.make_master("eth1", up=False)
    setup.add(CNI_CONTAINERID="0123456789abcdef", ipam=static("169.254.20.2/24"))
    setup.add(
        at=setup.container2, mode="l3", master="eth1", ipam=static("10.2.0.2/24", "fd00::2/64")
    )
    setup.add(LEASED, name="other", CNI_IFNAME="net2", master="eth1", mode="l3")
    setup.container.ip("link delete dev net2")
    (LEASES / "networks" / "left").mkdir()
    (LEASES / "networks" / "left" / "10.1.0.9").write_text("gone\r\nnet1")

    hint = "to release what is left (leaked addresses: 1): ipvlan gc -c FILE --keep-existing"
    notes = user.run("ipvlan show")[2]
    assert hint in notes
    assert "a container has left that still exists: ipvlan del --container-id ID\n" in notes
    down, missing = "master down", "no interface (lease)"
    assert user.check_output("ipvlan show").splitlines() == [
        "INTERFACE  POD/CONTAINER  NAMESPACE   ADDRESSES               MODE       MASTER  PROBLEMS",
        "net1       0123456789ab   container1  169.254.20.2/24         l2 bridge  eth0",
        f"net1       two            container2  10.2.0.2/24 fd00::2/64  l3 bridge  eth1    {down}",
        f"net2       one            container1  {'-':22}  -          eth1    no interface (record)",
        f"net1       gone           -           {'10.1.0.9':22}  -          -       {missing}",
    ]


def test_it_starts_a_process_for_each_namespace(
    containers: Setup, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Command] = []
    start = Runner.start

    def record(runner: Runner, command: Command, **arguments: Any) -> Running:
        started.append(command)
        return start(runner, command, **arguments)

    monkeypatch.setattr(Runner, "start", record)

    def count(options: str) -> int:
        started.clear()
        user.check_output(f"ipvlan show {options}")
        return len(started)

    assert count("") == 1 + 6  # the host's interfaces; ipvlan's in each of six namespaces
    assert count("-o wide") == 1 + 6 + 3  # and the routes of three containers
    batch = "".join(f"link add name more{number} type dummy\n" for number in range(500))
    run("ip", "-batch", "-", stdin=batch)
    assert count("-o wide") == 1 + 6 + 3
    containers.node.make_anonymous_container()
    found = [[*namespace.find_others()]]
    monkeypatch.setattr(namespace, "find_others", lambda *_: found.pop() if found else ())
    containers.node.end_processes()  # a namespace that goes while others are searched is no fault
    assert document(user)["masters"]


def test_what_it_cannot_do_is_an_error_that_names_the_option(user: User) -> None:
    for path, reason in (("/gone", "No such file"), ("/etc/passwd", "it is not a namespace")):
        status, out, err = user.run(f"ipvlan show --netns {path}")
        assert (status, out) == (2, "")
        assert err.startswith(f"ipvlan: Invalid value for '--netns': {path}: {reason}")
    status, out, err = user.run("ipvlan show -w")
    assert (status, out) == (2, "")
    assert err.startswith("ipvlan: --watch needs a terminal")


def test_it_says_mtu_gateways_and_routes(setup: Setup, user: User) -> None:
    routes = [{"dst": "0.0.0.0/0"}, {"dst": "10.8.0.0/16", "gw": "10.1.0.9"}]
    routes.append({"dst": "::/0", "gw": "fd00::1"})
    ipam = static("10.1.0.2/24", "fd00::2/64", gateway="10.1.0.1", routes=routes)
    setup.add(mtu=1400, ipam=ipam)
    setup.container.ip("route add 10.9.0.0/16 dev net1 table 100 metric 7")

    (row,) = read_wide(user)
    (entry,) = attachments(user)

    assert (row["MTU"], row["GATEWAYS"]) == ("1400", "10.1.0.1 fd00::1")
    assert row["ALL ADDRESSES"].startswith("10.1.0.2/24 fd00::2/64 fe80::")
    assert row["ROUTES"] == "10.8.0.0/16 via 10.1.0.9, 10.9.0.0/16 table 100"
    assert (entry["mtu"], entry["gateways"]) == (1400, ["10.1.0.1", "fd00::1"])
    by_dst = {each["dst"]: each for each in entry["routes"]}
    assert by_dst.keys() == {"0.0.0.0/0", "10.8.0.0/16", "10.9.0.0/16", "::/0"}
    assert by_dst["10.8.0.0/16"]["gw"] == "10.1.0.9"
    expected = dict.fromkeys(("gw", "mtu", "advmss"))
    expected |= {"dst": "10.9.0.0/16", "priority": 7, "table": 100, "scope": 253}
    assert by_dst["10.9.0.0/16"] == expected


@pytest.mark.setup(master="wire")
def test_what_another_program_has_changed_is_a_problem(setup: Setup, user: User) -> None:
    setup.add()
    assert problems(user) == [[]]
    setup.container.ip("link set dev net1 mtu 1501 type ipvlan mode l3")
    setup.neighbour.ip("link set dev eth0 down")
    expected = ["mode l3 bridge, not l2 bridge", "MTU above its master's", "master without carrier"]
    assert problems(user) == [expected]
    setup.container.ip("link set dev net1 mtu 1500 down type ipvlan mode l2")
    assert problems(user) == [["down", "master without carrier"]]
    setup.host.ip("link set dev eth0 down")
    assert problems(user) == [["down", "master down"]]


def test_a_default_route_without_a_gateway_is_a_route(setup: Setup, user: User) -> None:
    setup.add(mode="l3", ipam=static("10.1.0.2/24", routes=[{"dst": "0.0.0.0/0"}]))
    assert [each["ROUTES"] for each in read_wide(user)] == ["0.0.0.0/0"]
    assert attachments(user)[0]["gateways"] == []


@pytest.mark.slow
def test_leases_are_shown_where_host_local_gave_them(setup: Setup, user: User) -> None:
    setup.add(LEASED)
    setup.add(name="static", ipam=static("10.2.0.2/24"), CNI_IFNAME="net2")
    setup.container.ip("address add fd00::9/64 dev net1 valid_lft 999 preferred_lft 999")
    leased, chained = attachments(user)
    assert (leased["leases"], chained["leases"]) == (["10.1.0.2"], None)
    assert [each["LEASE"] for each in read_wide(user)] == ["10.1.0.2", "-"]
    assert problems(user) == [[], []]
    assert leftovers(user) == []
    setup.container.ip("address flush dev net1")
    assert problems(user) == [["lacks 10.1.0.2"], []]
    setup.container.ip("address add 10.1.0.2/24 dev net1")
    (OF_NET / "10.1.0.2").write_text("thief\r\nnet1")
    assert problems(user) == [["no lease"], []]
    (OF_NET / "10.1.0.2").unlink()
    assert problems(user) == [["no lease"], []]
    assert attachments(user)[0]["leases"] == []
    assert leftovers(user) == []  # the address is in use


def test_leases_of_the_configured_directory(setup: Setup, user: User, tmp_path: Path) -> None:
    conf = network(ipam=host_local("169.254.20.0/24", dataDir=str(tmp_path / "data")))
    with configure(conf):
        setup.add(conf)
        setup.add(name="link-local", ipam=host_local("fe80::/64"), CNI_IFNAME="net2")
        assert [each["leases"] for each in attachments(user)] == [["169.254.20.2"], ["fe80::2"]]
        assert problems(user) == [[], []]
        shutil.rmtree(tmp_path / "data")
        assert problems(user) == [["no lease"], []]


def test_a_lease_without_an_interface_is_left_over(setup: Setup, user: User) -> None:
    added = setup.add(LEASED)
    for address, text in (("10.1.0.77", "gone\r\nnet1"), ("10.1.0.78", "old")):
        (OF_NET / address).write_text(text)

    expected = [("lease", "no interface", "gone"), ("lease", "no interface", "old")]
    assert leftovers(user) == expected
    (first, second) = document(user)["leftovers"]
    assert (first["address"], first["file"]) == ("10.1.0.77", str(OF_NET / "10.1.0.77"))
    assert (first["network"], first["interface"], second["interface"]) == ("net", "net1", None)

    setup.node.remove(setup.container)  # as does a restart of the node
    shutil.rmtree(RECORDS)
    assert leftovers(user) == [*expected, ("lease", "no interface", "one")]
    added.delete()
    assert leftovers(user) == expected


@pytest.mark.setup(host=("10.1.0.6/29",))
def test_numbers_for_prometheus_count_what_is_there(setup: Setup, user: User) -> None:
    conf = network(hostAccess=True, ipam=host_local("10.1.0.0/29"))
    with configure(conf):
        (NETWORKS / "10-alike.conf").write_text(json.dumps({**conf, "ipam": static("10.2.0.2/24")}))
        setup.add(conf)
        (OF_NET / "10.1.0.5").write_text("gone\r\nnet1")
        setup.container.ip("link set dev net1 mtu 1501")
        metrics = read_metrics(user)
    master = {"master": "eth0"}
    assert metrics == {
        "build_info": [({"version": __version__}, 1)],
        "attachments": [({**master, "mode": "l2", "flag": "bridge"}, 1)],
        "attachments_with_problems": [(master, 1)],
        "master_up": [(master, 1)],
        "addresses_used": [({"network": "net"}, 2)],
        "addresses_free": [({"network": "net"}, 3)],
        "leftovers": [({"kind": "lease"}, 1), ({"kind": "record"}, 0)],
        "not_seen": [({}, 0)],
    }


def test_numbers_have_no_names_that_containers_give(setup: Setup, user: User) -> None:
    for number in range(3):
        setup.container.ip(f"link add name own{number} type dummy")
        setup.container.ip(f"link add link own{number} name slave{number} type ipvlan mode l3")
    metrics = read_metrics(user)
    assert metrics["attachments"] == [({"master": "", "mode": "l3", "flag": "bridge"}, 3)]
    assert "master_up" not in metrics


def test_numbers_are_readable_whatever_a_network_is_called(user: User) -> None:
    name = 'q"uo\\te\nnl\r\x1b[31m é\ud800'
    with configure({**LEASED, "name": name}):
        alike = json.dumps({**LEASED, "name": name.replace("\r", "\b")})
        (NETWORKS / "91-show.conf").write_text(alike)
        ((labels, _),) = read_metrics(user)["addresses_free"]
    assert labels == {"network": 'q"uo\\te?nl??[31m é?'}


def read_metrics(user: User) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Return what show prints as OpenMetrics, as a parser of Prometheus reads it."""
    text = user.check_output("ipvlan show -o openmetrics")
    families = text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
    return {
        family.name.removeprefix("cni_ipvlan_"): [
            (sample.labels, sample.value) for sample in family.samples
        ]
        for family in families
    }


def test_leases_of_other_plugins_are_none_of_its_business(user: User, setup: Setup) -> None:
    OF_NET.mkdir(parents=True)
    (OF_NET / "10.1.0.5").write_text("pod\r\neth0")
    assert leftovers(user) == [("lease", "no interface", "pod")]
    with configure({**LEASED, "type": "bridge"}):
        assert leftovers(user) == []
    directory = LEASES / "results"
    directory.mkdir()
    config = base64.b64encode(json.dumps({**LEASED, "type": "macvlan"}).encode()).decode()
    (directory / "net-pod-eth0").write_text(json.dumps({"kind": "cniCacheV1", "config": config}))
    assert leftovers(user) == []


def test_what_another_ipvlan_plugin_made_keeps_its_lease(setup: Setup, user: User) -> None:
    setup.make_foreign_link(setup.container, "l2", "net1")
    assert problems(user) == [[]]  # nothing is amiss
    setup.container.ip("address add 10.1.0.5/24 dev net1")
    OF_NET.mkdir(parents=True)
    (OF_NET / "10.1.0.5").write_text("pod\r\nnet1")
    assert leftovers(user) == []
    assert problems(user) == [[]]


def test_a_record_whose_interface_is_gone_is_left_over(setup: Setup, user: User) -> None:
    added = setup.add()
    setup.container.ip("link delete dev net1")
    assert leftovers(user) == [("record", "no interface", "one")]
    (leftover,) = document(user)["leftovers"]
    identity = (leftover["netns"], leftover["interface"], leftover["master"])
    assert identity == (setup.container.path, "net1", "eth0")
    added.delete()
    assert leftovers(user) == []


@pytest.mark.slow
def test_an_add_that_was_killed_is_unfinished(setup: Setup, user: User, ipvlan: Executable) -> None:
    wait = f"until nsenter --net={setup.container.path} ip link show net1; do :; done >&2"
    conf = network(ipam=setup.ipam(script=f"{wait}; kill -KILL $PPID"))
    killed = Runtime(ipvlan).add(setup.container, conf, CNI_PATH=setup.fake.path)
    assert killed.status == -signal.SIGKILL
    key = AttachmentId("net", "one", "net1").key
    with Registry().attachment_lock(key, lambda: None, strict=True):
        assert problems(user) == [[]]  # as while its call is running
        assert leftovers(user) == []
    assert problems(user) == [["down", "unfinished"]]
    assert leftovers(user) == []

    setup.container.ip("link delete dev net1")
    assert leftovers(user) == [("record", "unfinished", "one")]
    (record,) = Registry().all_records()  # and beside it one of an earlier ADD
    Registry().write(record._replace(netns_identity=(1, 1), is_complete=True))
    # The link looks as if it had never been moved into its container.
    run("ip", "link", "add", "name", f"iv{key}", "link", "eth0", "type", "ipvlan", "mode", "l2")
    assert problems(user) == [["down", "unfinished"]]
    (entry,) = attachments(user)
    assert (entry["containerID"], entry["netns"]) == ("one", None)
    assert leftovers(user) == []


def test_a_labelled_interface_without_a_record_there(setup: Setup, user: User) -> None:
    setup.add()
    setup.make_foreign_link(setup.container2, "l2", "evil", up=False)
    for name in ("..", "etc", "~"):  # a label leads to no file
        label = f"cni-ipvlan/{name}/one/evil/key"
        setup.container2.run("ip", "link", "set", "dev", "evil", "alias", label)
        entry = attachments(user)[1]
        assert (entry["network"], entry["leases"]) == (name, None)
    label = setup.container.links()["net1"]["ifalias"]
    setup.container2.run("ip", "link", "set", "dev", "evil", "alias", label)
    assert problems(user) == [[], ["down", "no record"]]
    shutil.rmtree(RECORDS)
    assert problems(user)[0] == ["no record"]
