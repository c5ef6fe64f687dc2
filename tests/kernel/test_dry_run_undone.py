"""The script of a dry run undoes what it did, whichever of its commands fails or is interrupted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from doubles import FakeIpam, Steps
from lab import Node, Space
from people import ipvlan, options
from runtime import PLUGINS, Conf, Runtime, host_local, network, static
from shells import paste_into, run_by

ROUTES = [{"dst": "10.7.0.0/16", "gw": "10.1.0.1"}, {"dst": "fd00:7::/64", "gw": "fd00:1::1"}]
IPAM = {
    "static": static("10.1.0.2/24", "fd00:1::2/64", routes=ROUTES),
    "host-local": host_local("10.1.0.0/24", "fd00:1::/64", routes=ROUTES),
}
FAULTS = {
    "fails": "exit 1",
    "fails after its work": 'real "$@"; exit 1',
    "is ended after its work": 'real "$@"; kill -{signal} 0; sleep 5',
}


@pytest.fixture
def container(node: Node) -> Space:
    """Have IPv6 off, so that it is switched on, and without duplicate address detection."""
    node.master()
    made = node.container()
    for scope in ("all", "default"):
        made.sysctl(f"net/ipv6/conf/{scope}/disable_ipv6", 1)
    made.sysctl("net/ipv6/conf/default/accept_dad", 0)
    made.ip("link set dev lo up")
    return made


@pytest.mark.parametrize(
    ("ipam", "fault"),
    [("static", "fails"), *(("host-local", fault) for fault in list(FAULTS)[1:])],
)
def test_whatever_fails_everything_is_undone(
    node: Node, container: Space, tmp_path: Path, ipam: str, fault: str
) -> None:
    steps = Steps(tmp_path, f"{PLUGINS}/{ipam}")
    conf = network(ipam=IPAM[ipam])
    given = about(tmp_path, conf, container, steps)
    script = ipvlan("add", "--dry-run", *given).fine()
    before = everything(node, container)
    steps.forget()
    assert run_by("dash", script, **steps.environment)[0] == 0
    taken = [step for step in steps.taken if "arp_notify" not in step.words]  # which may fail
    assert everything(node, container) != before
    run_by("dash", ipvlan("del", "--dry-run", *given).fine())
    container.sysctl("net/ipv6/conf/lo/disable_ipv6", 1)
    assert everything(node, container) == before

    for number, step in enumerate(taken):
        steps.forget()
        signal = ("INT", "TERM", "HUP")[number % 3]
        steps.at(step.number, FAULTS[fault].replace("{signal}", signal))
        shell = ("dash", "bash", "dash in a pipe", "bash in a pipe")[number % 4]
        status, out = run_by(shell, script, **steps.environment)
        assert status != 0, step
        assert "failed; undoing what was done\n" in out
        assert everything(node, container) == before, (step, out)
    assert len(taken) > (8 if ipam == "static" else 9)


def about(tmp_path: Path, conf: Conf, container: Space, steps: Steps) -> list[str]:
    (tmp_path / "net.conf").write_text(json.dumps(conf))
    return options(
        config=str(tmp_path / "net.conf"),
        netns=container.path,
        container_id="one",
        cni_path=steps.environment["CNI_PATH"],
    )


def everything(node: Node, container: Space) -> dict[str, Any]:
    switch = {
        scope: container.sysctl(f"net/ipv6/conf/{scope}/disable_ipv6") for scope in ("lo", "all")
    }
    return {**node.snapshot(), "switch": switch}


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_a_lease_that_was_there_before_is_kept(
    node: Node, container: Space, tmp_path: Path, shell: str
) -> None:
    steps = Steps(tmp_path, f"{PLUGINS}/host-local")
    given = about(tmp_path, network(ipam=IPAM["host-local"]), container, steps)
    script = ipvlan("add", "--dry-run", *given).fine()
    assert run_by(shell, script)[0] == 0
    container.ip("link delete dev net1")
    before = everything(node, container)

    status, out = run_by(shell, script)

    assert status == 1
    assert "duplicate allocation is not allowed" in out
    assert everything(node, container) == before
    assert node.leases() == ["10.1.0.2", "fd00:1::2"]


def test_what_an_earlier_add_allocated_is_kept_if_the_plugin_fails(
    node: Node, container: Space, runtime: Runtime, tmp_path: Path, fake_ipam: FakeIpam
) -> None:
    conf = network(ipam=fake_ipam.conf)
    fake_ipam.answers("ADD", {"ips": [{"address": "10.1.0.2/24"}]})
    runtime.add(container, conf, CNI_PATH=fake_ipam.path).result()
    container.ip("link delete dev net1")
    (tmp_path / "net.conf").write_text(json.dumps(conf))
    given = options(
        config=str(tmp_path / "net.conf"),
        netns=container.path,
        container_id="one",
        cni_path=fake_ipam.path,
    )
    fake_ipam.on("ADD", "exit 1")

    assert run_by("dash", ipvlan("add", "--dry-run", *given).fine())[0] == 1
    assert fake_ipam.calls == ["ADD", "ADD"]
    runtime.add(container, conf, CNI_PATH=fake_ipam.path).error()
    assert fake_ipam.calls == ["ADD", "ADD", "ADD"]


def test_an_interface_of_that_name_is_kept(node: Node, container: Space, tmp_path: Path) -> None:
    steps = Steps(tmp_path, f"{PLUGINS}/host-local")
    given = about(tmp_path, network(ipam=IPAM["host-local"]), container, steps)
    script = ipvlan("add", "--dry-run", *given).fine()
    container.ip("link add name net1 type dummy")
    before = everything(node, container)

    for shell in ("dash", "bash"):
        assert run_by(shell, script)[0] != 0
        assert everything(node, container) == before


@pytest.mark.parametrize("program", ["bash", "dash"])
def test_ctrl_c_at_a_terminal_undoes_everything_and_the_shell_lives_on(
    node: Node, container: Space, tmp_path: Path, fake_ipam: FakeIpam, program: str
) -> None:
    fake_ipam.on("ADD", "sleep 60")
    conf = tmp_path / "net.conf"
    conf.write_text(json.dumps(network(ipam=fake_ipam.conf)))
    given = options(config=str(conf), netns=container.path, cni_path=fake_ipam.path)
    script = ipvlan("add", "--dry-run", *given).fine()
    before = everything(node, container)

    status, out = paste_into(program, script, lambda: fake_ipam.wait_for("ADD"))

    assert status != 0
    assert "failed; undoing what was done" in out
    assert fake_ipam.calls == ["ADD", "DEL"]
    assert everything(node, container) == before


HOSTILE = {
    "no JSON": "$(touch {mark})",
    "no addresses": {"ips": []},
    "an address that is a command": {"ips": [{"address": "10.1.0.2/24; touch {mark}"}]},
    "a substitution": {"ips": [{"address": "$(touch {mark})/24"}]},
    "two words": {"ips": [{"address": "10.1.0.2/24 broadcast 10.1.0.9"}]},
    "a route with a device": {
        "ips": [{"address": "10.1.0.2/24"}],
        "routes": [{"dst": "10.2.0.0/16 dev lo"}],
    },
    "an attribute that is a word": {
        "ips": [{"address": "10.1.0.2/24"}],
        "routes": [{"dst": "10.2.0.0/16", "mtu": "1400 dev lo"}],
    },
    "a gateway with a zone": {
        "ips": [{"address": "fd00::2/64", "gateway": "fe80::1%`touch {mark}`"}]
    },
    "no address at all": {"ips": [{"address": "0.0.0.0/24"}]},
}


@pytest.mark.parametrize("answer", HOSTILE)
def test_an_answer_that_add_would_refuse_is_refused_and_not_run(
    node: Node, container: Space, tmp_path: Path, fake_ipam: FakeIpam, answer: str
) -> None:
    text = json.dumps(HOSTILE[answer]).replace("{mark}", str(tmp_path / "mark"))
    fake_ipam.on("ADD", f"cat <<'END'\n{text}\nEND")
    conf = tmp_path / "net.conf"
    conf.write_text(json.dumps(network(ipam=fake_ipam.conf)))
    given = options(config=str(conf), netns=container.path, cni_path=fake_ipam.path)
    script = ipvlan("add", "--dry-run", *given).fine()
    before = everything(node, container)

    status, out = run_by("dash", script)

    assert status == 1
    assert "ipvlan: the plugin 'fake' " in out or "0.0.0.0" in out
    assert fake_ipam.calls == ["ADD", "DEL"]
    assert everything(node, container) == before
    assert not (tmp_path / "mark").exists()


def test_ipv6_on_an_interface_with_too_small_an_mtu_is_refused(
    node: Node, container: Space, tmp_path: Path
) -> None:
    conf = tmp_path / "net.conf"
    conf.write_text(json.dumps(network(mtu=1279, ipam=IPAM["host-local"])))
    given = options(config=str(conf), netns=container.path, cni_path=PLUGINS)
    before = everything(node, container)

    status, out = run_by("dash", ipvlan("add", "--dry-run", *given).fine())

    assert status == 2  # as add itself has it for bad input
    assert "IPv6 addresses need 1280 or more" in out
    assert everything(node, container) == before
