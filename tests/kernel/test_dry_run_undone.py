"""The script of a dry run undoes what it did, whichever of its commands fails or is interrupted."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from doubles import Steps
from runtime import PLUGINS, Conf, host_local, static
from sampling import pair_each, sample
from setup import Setup
from shells import paste_script

UNATTENDED = ("dash", "bash", "dash in a pipe", "bash in a pipe")

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


def read_state(setup: Setup) -> Any:
    switches = [f"net/ipv6/conf/{scope}/disable_ipv6" for scope in ("lo", "all")]
    return [setup.node.snapshot(), *map(setup.container.sysctl, switches)]


@contextmanager
def unchanged(setup: Setup) -> Iterator[None]:
    before = read_state(setup)
    yield
    assert read_state(setup) == before


@pytest.mark.parametrize("ipam", IPAM)
@pytest.mark.setup(ipv6=False)
def test_whatever_fails_everything_is_undone(setup: Setup, tmp_path: Path, ipam: str) -> None:
    steps = Steps(tmp_path, f"{PLUGINS}/{ipam}")
    options: Conf = {"ipam": IPAM[ipam], "vlan": 9, "CNI_PATH": steps.environment["CNI_PATH"]}
    script = setup.dry_run(**options)
    before = read_state(setup)
    steps.reset()
    assert script.run(**steps.environment)[0] == 0
    records = [each for each in steps.records if not re.search("arp_notify|link show", each.words)]
    assert read_state(setup) != before
    assert setup.dry_run("del", **options).run()[0] == 0
    setup.container.sysctl("net/ipv6/conf/lo/disable_ipv6", 1)
    assert read_state(setup) == before
    assert len(records) > (8 if ipam == "static" else 9)

    for number, (step, fault) in enumerate(sample(pair_each(records, list(FAULTS)), 3)):
        steps.reset()
        steps.plan(step.number, FAULTS[fault].format(signal=("INT", "TERM", "HUP")[number % 3]))
        shell = UNATTENDED[number % len(UNATTENDED)]
        status, out = script.run(shell, **steps.environment)
        assert status != 0, (step, fault)
        assert "failed; undoing what was done\n" in out, (step, fault, shell)
        assert read_state(setup) == before, (step, fault, out)


@pytest.mark.parametrize("shell", ["dash", "bash"])
@pytest.mark.setup(ipv6=False)
def test_what_was_there_before_is_kept(setup: Setup, shell: str) -> None:
    script, with_vlan = (setup.dry_run(ipam=IPAM["host-local"], vlan=vlan) for vlan in (0, 9))
    assert script.run(shell)[0] == 0
    setup.container.ip("link delete dev net1")
    with unchanged(setup):
        status, out = script.run(shell)
    assert (status, "duplicate allocation is not allowed" in out) == (1, True)
    assert setup.node.leases() == ["10.1.0.2", "fd00:1::2"]
    setup.container.ip("link add name net1 type dummy")
    with unchanged(setup):
        assert 0 not in [each.run(shell)[0] for each in (script, with_vlan)]


@pytest.mark.setup(ipv6=False)
def test_what_an_earlier_add_allocated_is_kept_if_the_plugin_fails(setup: Setup) -> None:
    added = setup.add(ipam=setup.ipam(ips=["10.1.0.2/24"]))
    setup.container.ip("link delete dev net1")
    setup.ipam(script="exit 1")
    assert setup.dry_run(conf=added.conf).run()[0] == 1
    assert setup.fake.calls == ["ADD", "ADD"]
    setup.expect_error(109, conf=added.conf)
    assert setup.fake.calls == ["ADD", "ADD", "ADD"]


@pytest.mark.parametrize("program", ["bash", "dash"])
@pytest.mark.setup(ipv6=False)
def test_ctrl_c_undoes_everything_and_the_shell_lives_on(setup: Setup, program: str) -> None:
    script = setup.dry_run(ipam=setup.ipam(script="sleep 60")).text
    with unchanged(setup):
        status, out = paste_script(program, script, lambda: setup.fake.wait_for("ADD"))
    assert status != 0
    assert "failed; undoing what was done" in out
    assert setup.fake.calls == ["ADD", "DEL"]


HOSTILE = [
    "$(touch {mark})",
    {"ips": []},
    {"ips": [{"address": "10.1.0.2/24; touch {mark}"}]},
    {"ips": [{"address": "$(touch {mark})/24"}]},
    {"ips": [{"address": "10.1.0.2/24 broadcast 10.1.0.9"}]},
    {"ips": [{"address": "10.1.0.2/24"}], "routes": [{"dst": "10.2.0.0/16 dev lo"}]},
    {"ips": [{"address": "10.1.0.2/24"}], "routes": [{"dst": "10.2.0.0/16", "mtu": "1400 dev lo"}]},
    {"ips": [{"address": "fd00::2/64", "gateway": "fe80::1%`touch {mark}`"}]},
    {"ips": [{"address": "0.0.0.0/24"}]},
]


@pytest.mark.setup(ipv6=False)
def test_an_answer_that_add_refuses_is_refused_and_not_run(setup: Setup, tmp_path: Path) -> None:
    script = setup.dry_run(ipam=setup.ipam())
    for answer in sample(HOSTILE, 2):
        text = json.dumps(answer).replace("{mark}", str(tmp_path / "mark"))
        setup.ipam(script=f"cat <<'END'\n{text}\nEND")
        with unchanged(setup):
            status, out = script.run()
        assert status == 1, answer
        assert "ipvlan: the plugin 'fake' " in out or "0.0.0.0" in out
        assert not (tmp_path / "mark").exists(), answer
    assert setup.fake.calls.count("ADD") == setup.fake.calls.count("DEL") >= 2


@pytest.mark.setup(ipv6=False)
def test_ipv6_on_an_interface_with_too_small_an_mtu_is_refused(setup: Setup) -> None:
    script = setup.dry_run(mtu=1279, ipam=IPAM["host-local"])
    with unchanged(setup):
        status, out = script.run()
    assert (status, "IPv6 addresses need 1280 or more" in out) == (2, True)  # as add has it
