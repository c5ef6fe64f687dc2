"""A container never gets an address that the host has on the master: it would cut the host off."""

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import ipvlan
from lab import LEASES
from runtime import Conf, host_local, network, static
from sampling import pair_each
from setup import Setup


@pytest.mark.setup(host=("10.1.0.3/28",))
def test_an_add_that_gets_it_from_ipam_is_refused_and_gives_it_back(setup: Setup) -> None:
    directory = LEASES / "networks" / "net"
    directory.mkdir(parents=True)
    (directory / "last_reserved_ip.0").write_text("10.1.0.2")  # so that the host's is the next
    options: Conf = {"ipam": host_local("10.1.0.0/28")}

    error = setup.expect_error(106, "exclude the host's from the IPAM plugin's range", **options)

    assert error["msg"] == EQUAL.format("10.1.0.3/28")
    assert setup.node.leases() == []
    setup.add(**options)
    assert setup.node.leases() == ["10.1.0.4"]


@pytest.mark.slow
def test_it_is_the_same_in_any_mode_and_spelling(setup: Setup) -> None:
    setup.node.make_master("eth1")
    setup.host.ip("link property add dev eth0 altname uplink")
    setup.host.ip("address add 10.1.0.1/24 dev eth1")
    setup.host.ip("address add 10.1.0.3/24 dev eth0")
    for mode, host_address, address in (
        ("l2", "10.1.0.2/32", "10.1.0.2/24"),
        ("l3", "fd00:1::2/64", "fd00:1:0:0::2/120"),
        ("l3s", "::1.2.3.4/128", "::102:304/64"),
    ):
        setup.host.ip(f"address add {host_address} dev eth0 nodad")
        setup.expect_error(106, master="uplink", mode=mode, ipam=static("10.1.0.9/24", address))
    for other in ("10.1.0.1/24", "10.1.0.255/16"):  # another master's
        setup.expect_error(106, ipam=static(other))
    setup.expect_error(106, vlan=100, ipam=static("10.1.0.3/24"))
    setup.add(ipam=static("10.1.0.4/24"))


CONTAINED = (
    "the range of {} contains {}, which is the host's own on eth0; a container may get it",
    "set rangeStart and rangeEnd so that the host's address is not between",
)
EQUAL = "{} is the host's own address or broadcast; the container would take its packets"
GATEWAY = (
    "the gateway 10.1.0.7 is the host's own address on eth0, which its ipvlan containers can't "
    "reach"
)
DEFAULT = [{"dst": "0.0.0.0/0"}]


def pool(**options: Any) -> Conf:
    return {"type": "host-local", "subnet": "10.1.0.0/24", **options}


def make_problem(path: str, words: tuple[str, str], *values: str) -> tuple[str, str]:
    """Return what doctor says, and what validate does."""
    message = words[0].format(*values)
    return message, f"$.ipam{path}: {message}; {words[1]}"


def make_refusal(address: str, number: int = 0) -> tuple[str, str]:
    message = EQUAL.format(address)
    return message, f"$.ipam.addresses[{number}]: on this machine, {message}"


# Networks on a host with 10.1.0.7 and fd00:1::7, and 10.5.0.1 elsewhere; what is wrong with them.
VERDICTS: list[tuple[Conf, tuple[str, str]]] = [
    (pool(), make_problem("", CONTAINED, "10.1.0.0/24", "10.1.0.7")),
    (
        host_local("10.2.0.0/24", "fd00:1::/64"),
        make_problem(".ranges[1][0]", CONTAINED, "fd00:1::/64", "fd00:1::7"),
    ),
    (static("10.1.0.9/24", "10.1.0.7/16"), make_refusal("10.1.0.7/16", 1)),
    (static("fd00:1:0::7/64"), make_refusal("fd00:1:0::7/64")),
    (static("10.5.0.1/24"), make_refusal("10.5.0.1/24")),  # of another interface
    (static("10.1.0.2/24", gateway="10.1.0.7", routes=DEFAULT), (GATEWAY, "")),
    (static("10.1.0.2/24", gateway="10.1.0.1", routes=DEFAULT), ("", "")),
    (pool(rangeStart="10.1.0.8"), ("", "")),
    (pool(subnet="fd00::/16"), ("", "")),  # the host's is too far from the first
    (pool(rangeEnd="10.1.0.6"), ("", "")),
    (pool(gateway="10.1.0.7"), ("", "")),  # which it gives to nobody, and no route uses
    (static("10.1.0.2/24"), ("", "")),
]


@pytest.fixture
def addressed(setup: Setup) -> Setup:
    setup.host.ip("link property add dev eth0 altname uplink")
    setup.host.ip("link set dev lo up")
    for address in ("10.1.0.7/24 dev eth0", "fd00:1::7/64 nodad dev eth0", "10.5.0.1/24 dev lo"):
        setup.host.ip(f"address add {address}")
    setup.host.ip("route add default dev eth0")
    return setup


def validate(directory: Path, **options: Any) -> tuple[int, str]:
    """Validate a network; return the status, and the text after the file's name."""
    conf = directory / "net.conf"
    conf.write_text(json.dumps(network(**options)))
    result = ipvlan("validate", str(conf))
    return result.status, result.out.removeprefix(f"{conf}:1: ")


FINE = (0, "1 network: no problems\n")


@pytest.mark.slow
def test_validate_and_doctor_report_it(addressed: Setup, tmp_path: Path) -> None:
    def run_doctor(**options: Any) -> str:
        (tmp_path / "net.conf").write_text(json.dumps(network(**options)))
        text = ipvlan("doctor", "-c", str(tmp_path / "net.conf"), "--json").out
        findings = [each for each in json.loads(text)["findings"] if each["subject"] == "addresses"]
        return "".join(each["text"] for each in findings if each["state"] == "problem")

    for (ipam, (by_doctor, by_validate)), master in pair_each(VERDICTS, ["eth0", "uplink", None]):
        expected = (1, f"{by_validate}\n") if by_validate else FINE
        assert validate(tmp_path, ipam=ipam, master=master) == expected
        assert run_doctor(ipam=ipam, master=master) == by_doctor
    (ipam,) = (ipam for ipam, verdict in VERDICTS if verdict[0] == GATEWAY)
    for fine in ({"mode": "l3"}, {"hostAccess": True}):
        assert run_doctor(ipam=ipam, **fine) == ""


def test_validate_does_not_compare_what_is_elsewhere(
    addressed: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    addressed.node.make_master("eth1")
    previous = {"cniVersion": "1.0.0", "interfaces": [{"name": "eth0"}]}
    changes: list[dict[str, Any]] = [
        {"master": "eth9"},  # which another machine may have
        {"master": "eth1"},
        {"linkInContainer": True},
        {"prevResult": previous, "master": None},
    ]
    for options in changes:
        assert validate(tmp_path, ipam=pool(), **options) == FINE
    assert validate(tmp_path, ipam=pool()) != FINE
    (tmp_path / "ip").symlink_to("/bin/false")  # without one that works, the file alone is seen
    monkeypatch.setenv("PATH", str(tmp_path))
    assert validate(tmp_path, ipam=pool()) == FINE
