"""The doctor on a node that is a directory: which files it runs, and what it says of them."""

import json
import os
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from people import ipvlan

from cni_ipvlan.cli import calls
from cni_ipvlan.cli.doctor import configurations, plugins
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
        for each in (self.plugins, self.configurations, self.tools):
            each.mkdir()

    def script(self, path: Path, text: str = "") -> Path:
        """Write a program that records that it was run."""
        path.write_text(
            f'#!/bin/sh\necho "$CNI_COMMAND" >>{self.directory}/{path.name}.ran\n{text}\n'
        )
        path.chmod(0o755)
        return path

    def plugin(self, name: str, *versions: str) -> Path:
        """Make a plugin that supports these versions."""
        answer = json.dumps({"cniVersion": "1.0.0", "supportedVersions": versions})
        return self.script(self.plugins / name, f"echo '{answer}'")

    def ran(self, name: str) -> list[str]:
        """Return the verbs with which a program was run."""
        file = self.directory / f"{name}.ran"
        return file.read_text().splitlines() if file.exists() else []

    def network(self, name: str = "net.conf", /, **options: Any) -> str:
        """Write a network's configuration; return its file."""
        file = self.directory / name
        file.write_text(json.dumps({**NETWORK, **options}))
        return str(file)

    def doctor(self, *arguments: str, path: str | None = None) -> list[str]:
        """Return the lines that the doctor prints, with single spaces."""
        given = (
            ("--cni-path", str(self.plugins)) if path is None else (path and ("--cni-path", path))
        )
        said = ipvlan("doctor", *given, *arguments)
        assert "internal error" not in said.err
        return [" ".join(line.split()) for line in said.out.splitlines()]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path)
    monkeypatch.setattr(configurations, "DIRECTORY", str(made.configurations))
    monkeypatch.setenv("PATH", f"{made.tools}:{os.environ['PATH']}")
    monkeypatch.delenv("CNI_PATH", raising=False)
    return made


def test_nothing_is_run_but_ipvlan_and_the_ipam_plugin_that_is_named(machine: Machine) -> None:
    for name in ("static", "host-local", "ipvlan", "bridge", "notes.sh"):
        machine.plugin(name, "1.0.0")
    other = machine.directory / "other"
    other.mkdir()
    machine.script(other / "ipvlan", "touch other.ran")

    machine.doctor("-c", machine.network(), path=f"{machine.plugins}:{other}")

    assert machine.ran("static") == ["VERSION"]
    assert machine.ran("ipvlan") == [""]
    for name in ("host-local", "bridge", "notes.sh", "other"):
        assert machine.ran(name) == []


def test_without_a_network_those_of_the_node_say_what_is_run(machine: Machine) -> None:
    for name in ("static", "host-local", "dhcp"):
        machine.plugin(name, "1.0.0")
    machine.doctor()
    assert machine.ran("static") == []

    machine.network("net.d/10-a.conf")
    machine.network("net.d/11-b.conf", type="bridge", ipam={"type": "host-local"})
    machine.network("net.d/12-c.txt", ipam={"type": "dhcp"})
    machine.network("net.d/13-d.conf", name="other")
    lines = machine.doctor()

    assert machine.ran("static") == ["VERSION"]
    assert machine.ran("host-local") == machine.ran("dhcp") == []
    assert f"ok configuration {machine.configurations}/10-a.conf: network net" in lines
    assert f"ok ipam {machine.plugins}/static supports CNI 1.0.0" in lines


def test_plugin_that_hangs_is_killed(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_SECONDS", 0.3)
    machine.script(machine.plugins / "static", "sleep 60")
    machine.script(machine.plugins / "ipvlan", "sleep 60")

    lines = machine.doctor("-c", machine.network())

    why = "it had not ended after 0.3 s"
    assert f"problem plugins {machine.plugins}/ipvlan was killed: {why}" in lines
    asked = f"{machine.plugins}/static was killed when it was asked for VERSION"
    assert f"problem ipam {asked}: {why}" in lines
    assert any("master" in line for line in lines[lines.index(f"problem ipam {asked}: {why}") :])


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


@pytest.mark.parametrize(
    ("printed", "state"),
    [
        ("ip utility, iproute2-6.15.0, libbpf 1.5.0", "ok"),
        ("ip utility, iproute2-5.10.0", "ok"),
        ("ip utility, iproute2-v5.10.0-3-g123456", "ok"),
        ("ip utility, iproute2-ss201214", "ok"),
        ("ip utility, iproute2-5.9.0", "problem"),
        ("ip utility, iproute2-4.20.0", "problem"),
        ("ip utility, iproute2-ss200127", "problem"),
        ("ip utility, iproute2-ss991023", "problem"),
        ("ip utility, iproute2-ours", "warning"),
        ("BusyBox v1.36.1 multi-call binary.", "problem"),
    ],
)
def test_iproute2_is_judged_by_its_version_or_its_date(
    machine: Machine, printed: str, state: str
) -> None:
    is_busybox = "BusyBox" in printed
    machine.script(machine.tools / "ip", f"echo '{printed}'" + " >&2; exit 1" * is_busybox)
    other = "ip is not iproute2's: " if is_busybox else ""
    wanted = f"{state} iproute2 {other}{printed}"
    assert any(line.startswith(wanted) for line in machine.doctor())


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ("RTNETLINK answers: Invalid argument", "ok kernel Linux RELEASE has ipvlan"),
        ("Error: Unknown device type.", "problem kernel Linux RELEASE has no ipvlan"),
        (
            "RTNETLINK answers: Operation not permitted",
            "warning kernel cannot find out whether the kernel has ipvlan: a capability is missing",
        ),
    ],
)
def test_kernel_without_a_list_of_modules_is_asked(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, answer: str, wanted: str
) -> None:
    unknown = kernels.Module(kernels.UNKNOWN, "no list")
    monkeypatch.setattr(kernels, "ipvlan_module", lambda: unknown)
    machine.script(machine.tools / "ip", f"echo '{answer}' >&2; exit 2")
    lines = machine.doctor()
    assert wanted.replace("RELEASE", os.uname().release) in lines
    assert not any("whether the kernel has ipvlan: the kernel" in line for line in lines)


NO_INTERPRETER = "#!/gone/bin/python3 -I\n"


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        (
            NO_INTERPRETER,
            0o755,
            "problem plugins PATH can't be executed: its interpreter /gone/bin/python3 does not",
        ),
        (IPVLAN.read_text(), 0o755, "problem plugins PATH does not run: cannot start ipvlan: "),
        ("#!/bin/sh\n", 0o644, "problem plugins PATH is not executable"),
        (
            "#!/bin/sh\necho CNI ipvlan plugin v1.1.1 >&2\n",
            0o755,
            "warning plugins PATH is a different program: CNI ipvlan plugin v1.1.1",
        ),
    ],
)
def test_ipvlan_that_is_another_program_or_does_not_run(
    machine: Machine, content: str, mode: int, said: str
) -> None:
    assert "problem plugins none of these directories has ipvlan" in machine.doctor()
    path = machine.plugins / "ipvlan"
    path.write_text(content)
    path.chmod(mode)
    assert any(line.startswith(said.replace("PATH", str(path))) for line in machine.doctor())


def test_dangling_link_is_only_a_warning_before_the_program(machine: Machine) -> None:
    other = machine.directory / "other"
    other.mkdir()
    (other / "ipvlan").symlink_to("/gone/bin/ipvlan")
    said = f"plugins {other}/ipvlan is a link to /gone/bin/ipvlan, which does not exist"
    both = f"{other}:{machine.plugins}"
    assert f"problem {said}" in [line[: len(said) + 8] for line in machine.doctor(path=both)]
    (machine.plugins / "ipvlan").symlink_to(IPVLAN)
    lines = machine.doctor(path=both)
    assert f"warning {said}" in [line[: len(said) + 8] for line in lines]
    assert f"ok plugins {machine.plugins}/ipvlan is this program" in lines


@pytest.mark.parametrize("version", ["1.1.0", None])
def test_cni_version_that_the_ipam_plugin_does_not_support(
    machine: Machine, version: str | None
) -> None:
    machine.plugin("static", "0.3.1", "0.4.0", "1.0.0")
    lines = machine.doctor("-c", machine.network(cniVersion=version))
    wanted = f"{machine.plugins}/static does not support CNI {version or '0.1.0'}, which is"
    place = next(i for i, line in enumerate(lines) if line.startswith(f"problem ipam {wanted}"))
    assert lines[place + 1] == "set cniVersion to 1.0.0, or install a newer static"


@pytest.mark.parametrize(
    "answer", ["", "[]", '{"supportedVersions": 1}', '{"supportedVersions": []}', "[" * 100000]
)
def test_ipam_plugin_that_does_not_tell_its_versions(machine: Machine, answer: str) -> None:
    (machine.directory / "answer").write_text(answer)
    machine.script(machine.plugins / "static", f"cat {machine.directory}/answer")
    lines = machine.doctor("-c", machine.network())
    assert any("/static does not answer VERSION" in line for line in lines)


def test_ipam_plugin_that_can_not_be_executed(machine: Machine) -> None:
    machine.script(machine.plugins / "static").write_text(NO_INTERPRETER)
    wanted = f"cannot execute {machine.plugins}/static: No such file or directory"
    assert f"problem ipam {wanted}" in machine.doctor("-c", machine.network())


@pytest.mark.parametrize(
    ("source", "name", "chosen"),
    [
        ("option", "--cni-path", "set by --cni-path"),
        ("variable", "CNI_PATH", "set by CNI_PATH"),
        (
            "nothing",
            "the usual directories",
            "the usual directories; --cni-path names those of your runtime",
        ),
    ],
)
def test_ipam_plugin_that_is_missing_and_who_chose_where_to_look(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, source: str, name: str, chosen: str
) -> None:
    monkeypatch.setattr(calls, "USUAL_DIRECTORIES", (str(machine.plugins),))
    if source == "variable":
        monkeypatch.setenv("CNI_PATH", str(machine.plugins))
    lines = machine.doctor("-c", machine.network(), path=None if source == "option" else "")
    place = lines.index(f"problem ipam cannot find the plugin 'static' in {name}")
    assert f"searched: {machine.plugins}" in lines[place + 1 :]
    assert (f"these are {chosen}" in lines[place + 1 :]) == (source == "nothing")
    assert f"ok plugins searched in this order: {machine.plugins} ({chosen})" in lines


def test_plugins_that_no_single_directory_has(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = machine.directory / "other"
    other.mkdir()
    (other / "ipvlan").symlink_to(IPVLAN)
    machine.plugin("static", "1.0.0")
    monkeypatch.setattr(calls, "USUAL_DIRECTORIES", (str(other), str(machine.plugins)))
    apart = (
        f"warning ipam {other}/ipvlan and {machine.plugins}/static are in different directories; "
        "most runtimes search only one"
    )
    assert apart in machine.doctor("-c", machine.network(), path="")
    both = f"{other}:{machine.plugins}"
    assert apart not in machine.doctor("-c", machine.network(), path=both)

    (machine.plugins / "ipvlan").symlink_to(IPVLAN)
    assert apart not in machine.doctor("-c", machine.network(), path="")


def test_modes_that_differ_on_one_master_are_found_across_files(machine: Machine) -> None:
    first = machine.network("net.d/10-a.conf", name="a")
    second = machine.network("net.d/11-b.conf", name="b", mode="l3")
    given = machine.network(name="c", mode="l3s")
    conflict = "$.mode: the master lo is used in mode l3 bridge here and in mode l2 bridge by a in"
    assert f"problem configuration {second}: {conflict} {first}" in "\n".join(machine.doctor())
    lines = machine.doctor("-c", given)
    conflict = conflict.replace("l3 bridge", "l3s bridge")
    assert f"problem configuration {given}: {conflict} {first}" in "\n".join(lines)
    assert not any(str(second) in line for line in lines)


def test_two_networks_on_one_master_with_overlapping_ranges(machine: Machine) -> None:
    pool = {"type": "host-local", "subnet": "10.1.0.0/24"}
    first = machine.network("net.d/10-a.conf", name="a", ipam=pool)
    machine.network("net.d/11-b.conf", name="b", ipam={**pool, "subnet": "10.2.0.0/24"})
    given = machine.network(name="c", ipam={**pool, "rangeStart": "10.1.0.250"})
    conflict = (
        f"problem configuration {given}: $.ipam: 10.1.0.250 to 10.1.0.254 overlaps with 10.1.0.1 "
        f"to 10.1.0.254 of a in {first}, on the same master; an address in use there is refused"
    )
    assert conflict in "\n".join(machine.doctor("-c", given))
    given = machine.network(name="c", ipam=pool, master="lo0")
    assert "overlaps" not in "\n".join(machine.doctor("-c", given))


def test_warning_of_validate_is_a_warning_and_keeps_nothing_from_being_examined(
    machine: Machine,
) -> None:
    pool = {"type": "host-local", "Subnet": "10.1.0.0/24", "dataDir": str(machine.directory)}
    file = machine.network(ipam=pool)
    lines = machine.doctor("-c", file)
    said = "$.ipam.Subnet: Subnet works only because the plugin ignores case; write subnet"
    assert f"warning configuration {file}: {said}" in lines
    leases = f"0 of 253 addresses of 10.1.0.0/24 are leased, in {machine.directory}/net"
    assert f"ok ipam {leases}" in lines


def test_network_does_not_conflict_with_what_it_replaces(machine: Machine) -> None:
    file = machine.network("net.d/10-a.conf")
    machine.plugin("static", "1.0.0")
    assert f"ok configuration {file}: network net" in machine.doctor("-c", file)
    given = machine.network(mode="l3")
    assert f"ok configuration {given}: network net" in machine.doctor("-c", given)


def test_file_of_the_node_that_can_not_be_read(machine: Machine) -> None:
    file = machine.configurations / "10-a.conf"
    file.write_text("{")
    said = f"configuration {file}:1: it is"
    assert any(line.startswith(f"problem {said}") for line in machine.doctor())
    lines = machine.doctor("-c", machine.network())
    assert any(line.startswith(f"warning {said}") for line in lines)


def test_json_names_the_network_of_a_finding(machine: Machine) -> None:
    machine.network("net.d/10-a.conf", name="a")
    machine.network("net.d/11-b.conf", name="b")
    found = json.loads(ipvlan("doctor", "--json", "--cni-path", str(machine.plugins)).out)
    networks = [(each["subject"], each["network"]) for each in found["findings"]]
    assert {network for subject, network in networks if subject == "ipam"} == {"a", "b"}
    assert ("iproute2", "") in networks


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--ifname net1", "--ifname needs --netns"),
        ("--ifname a/b --netns /proc/self/ns/net", "'a/b' is no interface's name"),
    ],
)
def test_ifname_is_checked(line: str, said: str) -> None:
    done = ipvlan("doctor", *line.split())
    assert (done.status, said in done.err) == (2, True)
