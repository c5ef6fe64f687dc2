"""The lab without its virtual machines (tests/vagrant has those): two nodes in miniature."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import sampling
from doubles import write_program
from installing import CHECKOUT, copy_checkout, needs_system_packages, run

SCRIPTS = CHECKOUT / "scripts"
# What the scripts write below /usr/local is gone afterwards on this machine's own kernel, too.
OWN_USR_LOCAL = """
set -e
mount -t tmpfs tmpfs /usr/local
mkdir /usr/local/bin
export PATH=/usr/local/bin:$PATH
replace() { cat >"/usr/local/bin/$1" && chmod 755 "/usr/local/bin/$1"; }
provision() { scripts/provision-node --system-packages "$@" >&2; }
"""
PROVISIONED = """
provision --master 'a b' --range 10.10.10.9-10.10.10.8 || echo $?
find /etc/cni/net.d/*.conflist || echo no network
mount -t tmpfs tmpfs /usr/lib/cni
replace apt-get <<'TEXT'
#!/bin/bash
[[ $* != *' install '* ]] || { umount /usr/lib/cni && echo "$*" >/run/installed; }
TEXT
set -- --master eth7 --subnet 10.9.0.0/16 --range 10.9.1.10-10.9.1.20
list() { find /opt/cni /etc/cni /etc/modules-load.d -printf '%p %y %m %l\\n' | sort; }
provision "$@" && list >/run/first
grep -o 'install .*' /run/installed
provision "$@" && list | diff /run/first - >&2
for name in host-local static dhcp; do
    test ! -L /opt/cni/bin/$name
    cmp /usr/lib/cni/$name /opt/cni/bin/$name
done
ipvlan show >&2
cat /etc/cni/net.d/10-ipvlan0.conflist
"""
PRINTED = """\
2
no network
install --yes --no-install-recommends containernetworking-plugins
"""
NAMED = """
replace systemctl </bin/true
ip link add name lower up type dummy
scripts/provision-network --interface lower --name lo >&2 || ip link show up dev lower | grep -c ,UP
mac=$(ip -o link show dev lower | grep -o 'link/ether [^ ]*' | cut -d ' ' -f 2)
scripts/provision-network --interface "$mac" --address 10.10.10.101/24 \
    --address fd00:10::101/64 --route 10.20.2.0/24=10.10.10.102 >&2
ip link add name slave link eth1000 type ipvlan # which has the same address
ip address flush dev eth1000
at_boot=$(sed -n 's/^ExecStart=//p' /etc/systemd/system/lab-network.service)
(cd / && env -i $at_boot) >&2
ip -o address show dev eth1000 | grep -o -e '10.10.10.101/24' -e 'fd00:10::101/64'
ip route show 10.20.2.0/24
"""

Done = subprocess.CompletedProcess[str]


@pytest.mark.slow
def test_two_nodes_in_miniature_pass_the_lab_check(tmp_path: Path) -> None:
    script, modes = SCRIPTS / "lab-check", ["l2", "l3", "l3s"]
    argv: list[str | Path] = [script, "--miniature"]
    if os.geteuid() == 0:  # or it can't be replaced by one that checks less
        modes = sampling.sample(modes, 1)
        text = script.read_text().replace("in l2 l3 l3s;", f"in {' '.join(modes)};")
        write_program(tmp_path / "lab-check", text)
        mount = 'mount --bind "$1" "$2" && shift && exec "$@"'
        argv = ["unshare", "--mount", "sh", "-c", mount, "sh", tmp_path / "lab-check", *argv]
    done = run(*argv)
    print(done.stdout)  # noqa: T201 - the table
    assert done.returncode == 0, done.stdout + done.stderr
    counts = done.stdout.splitlines()[-1]
    passed = 4 + 17 * len(modes)
    assert counts == f"{passed} passed, 0 failed, 2 skipped", counts  # containerd is not there


@pytest.mark.skipif(not sampling.is_long(), reason="a check of the check, with --long")
def test_lab_check_in_a_fresh_clone_fails_when_no_node_reaches_another(tmp_path: Path) -> None:
    copy_checkout(tmp_path)
    script = tmp_path / "scripts/lab-check"
    text = script.read_text().replace("for mode in l2 l3 l3s; do", "for mode in l2; do")
    text = text.replace("type veth peer name wire2", "type dummy && ip link add name wire2")
    script.write_text(
        text.replace('wire2 netns "${processes[2]}"', 'wire2 netns "${processes[2]}" type dummy')
    )
    done = run(script, "--miniature")
    assert done.returncode == 1
    failed = [line for line in done.stdout.splitlines() if "FAILED" in line]
    assert len(failed) == 2, done.stdout
    assert all("one reaches a container on node" in line for line in failed)


@pytest.mark.slow
@needs_system_packages
def test_provisioning_a_node_refuses_a_bad_range_installs_what_it_lacks_and_runs_twice() -> None:
    done = in_lab(PROVISIONED)
    assert done.returncode == 0, done.stderr
    assert "rangeEnd is 10.10.10.8, before rangeStart 10.10.10.9" in done.stderr
    assert 'master is "a b"' in done.stderr
    assert done.stdout.startswith(PRINTED)
    plugin = json.loads(done.stdout.removeprefix(PRINTED))["plugins"][0]
    assert (plugin["type"], plugin["master"]) == ("ipvlan", "eth7")
    assert plugin["ipam"]["ranges"] == [
        [{"subnet": "10.9.0.0/16", "rangeStart": "10.9.1.10", "rangeEnd": "10.9.1.20"}]
    ]


def test_network_is_set_up_at_boot_and_slaves_are_told_from_their_master() -> None:
    done = in_lab(NAMED)
    assert done.stdout.split("\n") == [
        "1",  # it is up again
        "10.10.10.101/24",
        "fd00:10::101/64",
        "10.20.2.0/24 via 10.10.10.102 dev eth1000 ",
        "",
    ], done.stderr


@pytest.mark.skipif(not shutil.which("vagrant"), reason="there is no vagrant")
def test_vagrantfile_is_valid_and_checks_its_variables(tmp_path: Path) -> None:
    assert vagrant(tmp_path).returncode == 0
    for variable, value in (("LAB_NODES", "0"), ("LAB_NODES", "two"), ("LAB_MEMORY", "1")):
        done = vagrant(tmp_path, **{variable: value})
        assert done.returncode != 0
        assert f'{variable} is "{value}"' in done.stderr


def vagrant(home: Path, **variables: str) -> Done:
    environment = {
        "VAGRANT_HOME": str(home),
        "VAGRANT_DOTFILE_PATH": str(home / "dot"),
        "VAGRANT_CHECKPOINT_DISABLE": "1",
        **variables,
    }
    validate = ("vagrant", "validate", "--ignore-provider")
    return run(*validate, cwd=CHECKOUT, env={**os.environ, **environment})


def in_lab(script: str) -> Done:
    return run(SCRIPTS / "lab-kernel", "bash", "-c", OWN_USR_LOCAL + script, cwd=CHECKOUT)
