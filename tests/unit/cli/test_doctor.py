"""The doctor on a node that is a directory: which files it runs, and what it says of them."""

import json
import os
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from command_line import ipvlan
from doubles import write_program

from cni_ipvlan.cli import calls, configs
from cni_ipvlan.cli.doctor import node
from cni_ipvlan.iproute import machine as kernels

IPVLAN = Path(sysconfig.get_path("scripts"), "ipvlan")
STATIC = {"type": "static", "addresses": [{"address": "10.1.0.2/24"}]}
NETWORK = {"cniVersion": "1.0.0", "name": "net", "type": "ipvlan", "master": "lo", "ipam": STATIC}


class Machine:
    """Directories for plugins, configurations and tools, and what the doctor says of them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.plugins = directory / "plugins"
        self.configurations = directory / "net.d"
        self.tools = directory / "tools"
        self.plugins.mkdir()
        self.configurations.mkdir()

    def script(self, path: Path, text: str = "") -> Path:
        file = self.directory / f"{path.name}.ran"
        return write_program(path, f"#!/bin/sh\necho \"$CNI_COMMAND\" >>'{file}'\n{text}\n")

    def plugin(self, name: str, *versions: str) -> Path:
        answer = json.dumps({"cniVersion": "1.0.0", "supportedVersions": versions})
        return self.script(self.plugins / name, f"echo '{answer}'")

    def calls_of(self, name: str) -> list[str]:
        file = self.directory / f"{name}.ran"
        return file.read_text().splitlines() if file.exists() else []

    def network(self, name: str = "net.conf", /, **options: Any) -> str:
        file = self.directory / name
        file.write_text(json.dumps({**NETWORK, **options}))
        return str(file)

    def doctor(self, *arguments: str, path: str | None = None) -> list[str]:
        """Return the lines that the doctor prints, with single spaces."""
        path = str(self.plugins) if path is None else path
        options = ("--cni-path", path) if path else ()
        result = ipvlan("doctor", *options, *arguments)
        assert "internal error" not in result.err
        return [" ".join(line.split()) for line in result.out.splitlines()]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    result = Machine(tmp_path)
    monkeypatch.setattr(configs, "DIRECTORY", str(result.configurations))
    monkeypatch.setenv("PATH", f"{result.tools}:{os.environ['PATH']}")
    monkeypatch.delenv("CNI_PATH", raising=False)
    return result


def test_nothing_is_run_but_ipvlan_and_the_ipam_plugins_that_are_named(machine: Machine) -> None:
    for name in ("static", "host-local", "dhcp", "ipvlan"):
        machine.plugin(name, "1.0.0")
    other = machine.directory / "other"
    machine.script(other / "ipvlan")
    machine.doctor(path=f"{machine.plugins}:{other}")
    assert (machine.calls_of("ipvlan"), machine.calls_of("static")) == ([""], [])
    machine.doctor("-c", machine.network(ipam={"type": "dhcp"}))
    assert (machine.calls_of("dhcp"), machine.calls_of("static")) == (["VERSION"], [])

    machine.network("net.d/10-a.conf")
    machine.network("net.d/11-b.conf", type="bridge", ipam={"type": "host-local"})
    machine.network("net.d/12-c.txt", ipam={"type": "dhcp"})
    machine.network("net.d/13-d.conf", name="other")
    lines = machine.doctor()

    assert [machine.calls_of(name) for name in ("static", "dhcp")] == [["VERSION"], ["VERSION"]]
    assert machine.calls_of("host-local") == []
    assert f"ok configuration {machine.configurations}/10-a.conf: network net" in lines
    assert f"ok ipam {machine.plugins}/static supports CNI 1.0.0" in lines


def test_plugin_that_hangs_is_killed(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "_SECONDS", 0.3)
    machine.script(machine.plugins / "static", "sleep 60")
    machine.script(machine.plugins / "ipvlan", "sleep 60")
    lines = machine.doctor("-c", machine.network())
    reason = "it had not ended after 0.3 s"
    assert f"problem plugins {machine.plugins}/ipvlan does not run: {reason}" in lines
    message = f"{machine.plugins}/static does not answer VERSION, so it may not support CNI 1.0.0"
    problem = f"problem ipam {message}: {reason}"
    assert problem in lines
    assert any("master" in line for line in lines[lines.index(problem) :])


def test_findings_are_printed_as_they_are_made(machine: Machine) -> None:
    go = machine.directory / "go"
    machine.script(machine.plugins / "static", f"while [ ! -e {go} ]; do sleep 0.02; done")
    argv = (IPVLAN, "doctor", "-c", machine.network(), "--cni-path", machine.plugins)
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        while " network net" not in (line := running.stdout.readline()):
            assert line
        assert running.poll() is None
        go.touch()
        assert "/static does not answer VERSION" in running.stdout.read()


def test_iproute2_is_judged_by_its_version(machine: Machine) -> None:
    for version, state in (
        *((fine, "ok") for fine in ("5.10.0", "v5.10.0-3-g123456")),
        *((other, "problem") for other in ("5.9.0", "ss200127", "ours")),
    ):
        printed = f"ip utility, iproute2-{version}"
        machine.script(machine.tools / "ip", f"echo '{printed}'")
        output = "" if state == "ok" else "ip -V prints: "
        assert f"\n{state} iproute2 {output}{printed}" in "\n".join(machine.doctor())
    machine.script(machine.tools / "ip", "echo BusyBox v1.36.1 >&2; exit 1")
    other = "\nproblem iproute2 ip -V prints: BusyBox v1.36.1"
    assert other in "\n".join(machine.doctor())


def test_kernel_without_lists_is_asked(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = kernels.Module(kernels.UNKNOWN, "no list")
    monkeypatch.setattr(kernels, "ipvlan_module", lambda: unknown)
    linux = f"Linux {os.uname().release}"
    cannot = "kernel cannot create ipvlan interfaces with ip:"
    for answer, expected in (
        ("Invalid argument", f"ok kernel {linux} has ipvlan"),
        ("Error: Unknown device type.", f"problem {cannot} the kernel has no ipvlan"),
        ("Operation not permitted", f"warning {cannot} "),
    ):
        machine.script(machine.tools / "ip", f"echo '{answer}' >&2; exit 2")
        assert expected in "\n".join(machine.doctor())


NO_INTERPRETER = "#!/gone/bin/python3 -I\n"


@pytest.mark.parametrize(
    ("content", "mode", "text"),
    [
        (NO_INTERPRETER, 0o755, "problem plugins PATH does not run: cannot execute PATH: No such"),
        (IPVLAN.read_text(), 0o755, "problem plugins PATH does not run: cannot start ipvlan: "),
        ("#!/bin/sh\n", 0o644, "problem plugins PATH is not executable"),
        ("#!/bin/sh\necho v1.1 >&2", 0o755, "warning plugins PATH is a different program: v1.1"),
    ],
)
def test_ipvlan_that_does_not_run(machine: Machine, content: str, mode: int, text: str) -> None:
    assert "problem plugins none of these directories has ipvlan" in machine.doctor()
    path = machine.plugins / "ipvlan"
    path.write_text(content)
    path.chmod(mode)
    assert text.replace("PATH", str(path)) in "\n".join(machine.doctor())


def test_cni_version_that_the_ipam_plugin_does_not_support(machine: Machine) -> None:
    machine.plugin("static", "0.3.1", "0.4.0", "1.0.0")
    for version in ("1.1.0", None):
        output = "\n".join(machine.doctor("-c", machine.network(cniVersion=version)))
        message = f"{machine.plugins}/static does not support CNI {version or '0.1.0'}, which is"
        after = output.partition(f"problem ipam {message}")[2].splitlines()
        assert after[1] == "set cniVersion to 1.0.0, or install a newer static"


@pytest.mark.parametrize("answer", ["", "[]", '{"supportedVersions": []}'])
def test_ipam_plugin_that_does_not_tell_its_versions_or_run(machine: Machine, answer: str) -> None:
    path = machine.script(machine.plugins / "static", f"echo '{answer}'")
    output = "\n".join(machine.doctor("-c", machine.network()))
    assert "/static does not answer VERSION" in output
    path.write_text(NO_INTERPRETER)
    (problem,) = (each for each in machine.doctor("-c", machine.network()) if "VERSION" in each)
    assert problem.startswith("problem ipam")
    assert problem.endswith("No such file or directory")


def test_ipam_plugin_that_is_missing(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "USUAL_DIRECTORIES", (str(machine.plugins),))
    which = "give those of your runtime with --cni-path"
    for name, options, path, variable in (
        ("--cni-path", "set by --cni-path", None, ""),
        ("CNI_PATH", "set by CNI_PATH", "", str(machine.plugins)),
        ("the usual directories", f"the usual directories; {which}", "", ""),
    ):
        monkeypatch.setenv("CNI_PATH", variable)
        lines = machine.doctor("-c", machine.network(), path=path)
        index = lines.index(f"problem ipam cannot find the plugin 'static' in {name}")
        assert f"searched: {machine.plugins}" in lines[index + 1 :]
        assert (which in lines[index + 1 :]) == (which in options)
        assert f"ok plugins searched in this order: {machine.plugins} ({options})" in lines


def test_plugins_that_no_directory_has(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    other = machine.directory / "other"
    other.mkdir()
    (other / "ipvlan").symlink_to(IPVLAN)
    machine.plugin("static", "1.0.0")
    monkeypatch.setattr(calls, "USUAL_DIRECTORIES", (str(other), str(machine.plugins)))
    separate = (
        f"warning ipam {other}/ipvlan and {machine.plugins}/static are in different directories; "
        "most runtimes search only one"
    )
    assert separate in machine.doctor("-c", machine.network(), path="")
    paths = f"{other}:{machine.plugins}"
    assert separate not in machine.doctor("-c", machine.network(), path=paths)

    (machine.plugins / "ipvlan").symlink_to(IPVLAN)
    assert separate not in machine.doctor("-c", machine.network(), path="")

    # Debian's containerd and Podman search the directory of Debian's plugins first.
    (machine.plugins / "ipvlan").unlink()
    machine.script(machine.plugins / "ipvlan", "echo v1.1 >&2; exit 1")
    lines = machine.doctor(path="")
    output = f"warning plugins {machine.plugins}/ipvlan does not run: v1.1"
    advice = "a runtime that searches there first calls that one; "
    advice += "give those of your runtime with --cni-path"
    assert f"ok plugins {other}/ipvlan is this program" in lines
    assert lines[lines.index(output) + 1] == advice
    assert output not in machine.doctor(path=paths)


def test_what_differs_on_one_master_is_found_across_files(machine: Machine) -> None:
    first = machine.network("net.d/10-a.conf", name="a")
    file = machine.network(name="a", mode="l3")  # which replaces it
    assert f"ok configuration {file}: network a" in machine.doctor("-c", file)
    second = machine.network("net.d/11-b.conf", name="b", mode="l3")
    file = machine.network(name="c", mode="l3s")
    conflict = "$.mode: the master lo is used in mode l3 bridge here and in mode l2 bridge by a in"
    assert f"problem configuration {second}: {conflict} {first}" in "\n".join(machine.doctor())
    output = "\n".join(machine.doctor("-c", file))
    conflict = conflict.replace("l3 bridge", "l3s bridge")
    assert f"problem configuration {file}: {conflict} {first}" in output
    assert second not in output


def test_warning_of_validate_keeps_nothing_from_being_examined(machine: Machine) -> None:
    pool = {"type": "host-local", "subnet": "10.1.0.0/24", "dataDir": "/tmp/\0"}
    file = machine.network(ipam={**pool, "gateway": "10.2.0.1"})
    lines = machine.doctor("-c", file)
    text = "$.ipam.gateway: gateway is 10.2.0.1, outside the subnet 10.1.0.0/24"
    assert f"warning configuration {file}: {text}" in lines
    assert r"ok ipam 0 of 254 addresses of 10.1.0.0/24 are leased, in /tmp/\x00/net" in lines


def test_file_of_the_node_that_can_not_be_read(machine: Machine) -> None:
    file = machine.configurations / "10-a.conf"
    file.write_text("{")
    text = f"configuration {file}:1: it is"
    assert f"\nproblem {text}" in "\n".join(machine.doctor())
    assert f"\nwarning {text}" in "\n".join(machine.doctor("-c", machine.network()))
    other_file = machine.network(mode="l9")
    text = "\n".join(machine.doctor("-c", other_file))
    assert f"\nproblem configuration {other_file}: $.mode: " in text


def test_json_names_the_network_of_a_finding(machine: Machine) -> None:
    machine.network("net.d/10-a.conf", name="a")
    machine.network("net.d/11-b.conf", name="b")
    document = json.loads(ipvlan("doctor", "--json", "--cni-path", str(machine.plugins)).out)
    networks = [(each["subject"], each["network"]) for each in document["findings"]]
    assert {network for subject, network in networks if subject == "ipam"} == {"a", "b"}
    assert ("iproute2", "") in networks


def test_ifname_needs_a_namespace() -> None:
    done = ipvlan("doctor", "--ifname", "net1")
    assert (done.status, "--ifname needs --netns" in done.err) == (2, True)
