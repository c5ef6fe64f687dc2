"""The lab without its virtual machines: two nodes in miniature, and what can be known of the rest.

tests/vagrant has the lab itself.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
SCRIPTS = CHECKOUT / "scripts"
PROVISIONED = """
set -e
provision() {
    scripts/provision-node --system-packages --no-containerd --master eth7 \
        --subnet 10.9.0.0/16 --range 10.9.1.10-10.9.1.20 >&2
}
list() { find /opt/cni /etc/cni /etc/modules-load.d -printf '%p %y %m %l\\n' | sort; }
provision && list >/run/first
provision && list | diff /run/first - >&2
cat /etc/cni/net.d/10-ipvlan0.conflist
ls /opt/cni/bin | grep -x -e host-local -e dhcp -e static -e tuning -e ipvlan >&2
"""
NAMED = """
set -e
ip link add name lower type dummy
mac=$(ip -o link show dev lower | grep -o 'link/ether [^ ]*' | cut -d ' ' -f 2)
for turn in 1 2; do
    scripts/provision-network --now --interface "$mac" --address 10.10.10.101/24 \
        --address fd00:10::101/64 --route 10.20.2.0/24=10.10.10.102 >&2
    ip link add name slave link eth1000 type ipvlan || true # which has the same address
done
ip -o address show dev eth1000 | grep -o -e '10.10.10.101/24' -e 'fd00:10::101/64'
ip route show 10.20.2.0/24
"""

Done = subprocess.CompletedProcess[str]


def test_two_nodes_in_miniature_pass_the_lab_check() -> None:
    done = run(SCRIPTS / "lab-check", "--miniature")
    print(done.stdout)  # noqa: T201 - the table
    assert done.returncode == 0, done.stdout + done.stderr
    counts = done.stdout.splitlines()[-1]
    assert counts == "55 passed, 0 failed, 2 skipped", counts  # containerd is not there


def test_lab_check_in_a_fresh_clone_fails_when_nodes_do_not_reach_each_other(
    tmp_path: Path,
) -> None:
    for name in ("cni_ipvlan", "packaging", "scripts"):
        shutil.copytree(
            CHECKOUT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("setup.cfg", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, tmp_path)
    script = tmp_path / "scripts/lab-check"
    text = script.read_text().replace("for mode in l2 l3 l3s; do", "for mode in l2; do")
    text = text.replace("type veth peer name wire2", "type dummy && ip link add name wire2")
    script.write_text(
        text.replace('wire2 netns "${holders[2]}"', 'wire2 netns "${holders[2]}" type dummy')
    )
    done = run(script, "--miniature")
    assert done.returncode == 1
    failed = [line for line in done.stdout.splitlines() if "FAILED" in line]
    assert len(failed) == 2, done.stdout
    assert all("one reaches a container on node" in line for line in failed)


def test_provisioning_a_node_runs_twice() -> None:
    done = run(SCRIPTS / "lab-kernel", "bash", "-c", PROVISIONED)
    assert done.returncode == 0, done.stderr
    plugin = json.loads(done.stdout)["plugins"][0]
    assert (plugin["type"], plugin["master"]) == ("ipvlan", "eth7")
    assert plugin["ipam"]["ranges"] == [
        [{"subnet": "10.9.0.0/16", "rangeStart": "10.9.1.10", "rangeEnd": "10.9.1.20"}]
    ]


def test_provisioning_a_network_runs_twice_and_knows_slaves_from_their_master() -> None:
    done = run(SCRIPTS / "lab-kernel", "bash", "-c", NAMED)
    assert done.stdout.split("\n") == [
        "10.10.10.101/24",
        "fd00:10::101/64",
        "10.20.2.0/24 via 10.10.10.102 dev eth1000 ",
        "",
    ], done.stderr


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("build-deb --colour", "no option --colour"),
        ("demo foo", "no argument foo"),
        ("demo --foo", "no option --foo"),
        ("endurance --foo", "no option --foo"),
        ("endurance ten", "give a whole number"),
        ("fuzz --foo", "no option --foo"),
        ("fuzz foo", "give a whole number"),
        ("test --foo", "no option --foo"),
        ("test foo", "no part foo"),
        ("bench --foo", "unrecognized arguments: --foo"),
        ("lab-kernel --foo", "no option --foo"),
        ("lab-box --colour", "no option --colour"),
        ("lab-box --name", "needs a value"),
        ("lab-box --name 'a b'", "give NAME or OWNER/NAME"),
        ("lab-box --suite ../x", "name of a Debian release"),
        ("lab-box --size big", "give a size"),
        ("lab-check --colour", "no option --colour"),
        ("lab-check --miniature again", "no argument again"),
        ("provision-network", "--interface must be given"),
        ("provision-network --colour", "no option --colour"),
        ("provision-network --interface", "needs a value"),
        ("provision-network --interface e --name a/b", "1 to 15 letters"),
        ("provision-network --interface e --address 10.0.0.1", "ADDRESS/LENGTH"),
        ("provision-network --interface e --route 10.0.0.0/8", "ADDRESS/LENGTH=ADDRESS"),
        ("provision-node --colour", "no option --colour"),
        ("provision-node --packages", "needs a value"),
        ("provision-node --packages /nonexistent", "no such directory"),
        ("provision-node --packages scripts", "no packages"),
        ("provision-node --master 'a b'", "1 to 15 letters"),
        ("provision-node --subnet ten", "ADDRESS/LENGTH"),
        ("provision-node --range 10.0.0.1", "FIRST-LAST"),
    ],
)
def test_bad_input_is_one_sentence(command: str, words: str) -> None:
    done = run("bash", "-c", f"exec {SCRIPTS}/{command}")
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


@pytest.mark.parametrize(
    "script", ["lab-box", "provision-network --interface lo", "provision-node"]
)
def test_others_than_root_are_refused(script: str) -> None:
    # In a user namespace without a mapping, every user is nobody.
    done = run("unshare", "--user", "bash", "-c", f"exec {SCRIPTS}/{script}", directory="/")
    assert done.returncode == 1
    assert "only root" in done.stderr


@pytest.mark.parametrize(
    "script",
    [
        "demo",
        "endurance",
        "fuzz",
        "test",
        "lab-kernel",
        "build-deb",
        "lab-box",
        "lab-check",
        "provision-network",
        "provision-node",
    ],
)
def test_help_describes_the_usage(script: str) -> None:
    assert run(SCRIPTS / script, "-h").stdout == run(SCRIPTS / script, "--help").stdout
    assert run(SCRIPTS / script, "--help").stdout.startswith(f"Usage: scripts/{script}")


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
    return run("vagrant", "validate", "--ignore-provider", **environment)


def run(*argv: str | Path, directory: str = str(CHECKOUT), **variables: str) -> Done:
    return subprocess.run(
        argv,
        cwd=directory,
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
