"""Plugins that give out no addresses are not run as IPAM."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from command_line import User
from doubles import FakeIpam
from executable import Executable
from lab import hide_directory
from runtime import PLUGINS, Conf, call_environment, network, stdin_of
from setup import Setup

PERMITTED = Path("/etc/cni-ipvlan/ipam-types")
ADDRESSES = {"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.2/24"}]}
NEWEST = {"cniVersion": "1.1.0"}


class FakeBridge(FakeIpam):
    type = "bridge"


@pytest.fixture
def bridge(tmp_path: Path) -> FakeBridge:
    """Make an interface plugin that records its calls."""
    fake = FakeBridge(tmp_path)
    for verb in ("ADD", "CHECK"):
        fake.answer(verb, ADDRESSES)
    return fake


# All but the first give the command another name.
DISGUISES = {
    "none": "",
    "link": 'ln -s "$1" other',
    "script": """printf '#!/bin/sh\\nexec "%s" "$@"\\n' "$1" >other; chmod +x other""",
}


def test_a_call_of_itself_is_refused_at_once_and_keeps_no_pod(
    setup: Setup, ipvlan: Executable, tmp_path: Path
) -> None:
    for disguise, script in DISGUISES.items():
        (directory := tmp_path / disguise).mkdir()
        subprocess.run(("sh", "-ec", script, "sh", ipvlan.path), cwd=directory, check=True)
        conf = stdin_of(network(ipam={"type": "other" if script else "ipvlan"}))
        path = {"CNI_PATH": f"{directory}:{Path(ipvlan.path).parent}:{PLUGINS}"}
        with setup.unchanged():
            calls = [call_environment(verb, setup.container, **path) for verb in ("ADD", "DEL")]
            add, delete = (ipvlan.start(each, conf).end(20) for each in calls)

        error = add.error()
        if disguise == "none":
            assert (error["code"], "ipam" in error["msg"]) == (7, True)
        delete.succeeds()


# tests/unit/test_delegate.py has it under other names.
def test_no_verb_runs_a_bridge(setup: Setup, bridge: FakeBridge) -> None:
    bridge_conf = network(ipam=bridge.conf)
    path: Conf = {"CNI_PATH": bridge.path}
    added = setup.add(**path)

    setup.expect_error(7, conf=bridge_conf, CNI_IFNAME="net2", **path)
    added.check("not an IPAM plugin", ipam=bridge_conf["ipam"])
    assert setup.runtime.status({**bridge_conf, **NEWEST}, **path).error()["code"] == 7
    setup.runtime.gc({**bridge_conf, **NEWEST}, [("one", "net1")], **path).succeeds()
    assert "net1" in setup.container.links()
    answer = setup.runtime.delete(setup.container, bridge_conf, **path)

    answer.succeeds()
    assert "no plugin is asked to release addresses" in answer.stderr
    assert setup.container.links().keys() == {"lo"}
    assert bridge.calls == []


# tests/unit/test_delegate.py has what root may list, and each mode that others could write in.
def test_a_list_of_another_user_permits_nothing(setup: Setup) -> None:
    setup.add()
    with hide_directory(PERMITTED.parent):
        PERMITTED.write_text("static\n")
        os.chown(PERMITTED, 65534, 65534)
        setup.expect_error(7, str(PERMITTED), CNI_IFNAME="net2")
        error = setup.runtime.delete(setup.container, network()).error()
    assert (error["code"], str(PERMITTED) in error["msg"]) == (7, True)
    assert setup.container.links().keys() == {"lo"}


def test_no_replay_or_dry_run_runs_one(setup: Setup, user: User, bridge: FakeBridge) -> None:
    conf = network(ipam=bridge.conf)
    call = {"environment": call_environment("ADD", "/nonexistent"), "stdin": json.dumps(conf)}
    (user.directory / "call.json").write_text(json.dumps({"capture": 1, "time": "", **call}))
    options = f"--netns {setup.container.path} --cni-path {bridge.path}"

    status, out, err = user.run(f"ipvlan replay call.json {options}")

    assert status == 1
    assert "none is run: ipam.type is 'bridge', which is not an IPAM plugin" in err
    assert '"code": 7' in out
    file = user.write_conf(conf)
    status, out, err = user.run(f"ipvlan add -c {file} {options} --dry-run")
    assert (status, out) == (2, "")
    assert "not an IPAM plugin" in err
    assert bridge.calls == []
