"""Unusual surroundings: a call works, or one CNI error names what is missing; nothing stays."""

import os
import re
import resource
import select
import shlex
import signal
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any, NamedTuple

import pytest
from executable import Executable, descendants
from lab import MEMORY, Node, Space, sleeps_in, wait_until
from patience import patient
from runtime import PLUGINS, Answer, call_environment, host_local, network, stdin_of

CONF = network(ipam=host_local("10.1.0.0/24"))
BOTH = network(ipam=host_local("10.1.0.0/24", "fd00:1::/64"))
Preparation = Callable[[], object]


def limit(kind: int, value: int) -> Preparation:
    return lambda: resource.setrlimit(kind, (value, max(value, resource.getrlimit(kind)[1])))


class Place(NamedTuple):
    """A way to call: with what is done in the process before, or with a shell that does it."""

    node: Node
    container: Space
    command: str
    directory: Path

    def call(
        self,
        verb: str,
        conf: dict[str, Any],
        *preparations: Preparation,
        shell: str = "",
        **environment: str,
    ) -> Answer:
        argv = [self.command]
        if shell:
            private = ["unshare", "--mount", "--propagation", "private", "sh", "-ec"]
            argv = [*private, f"{shell}\nexec {shlex.quote(self.command)}"]
        done = subprocess.run(
            argv,
            input=stdin_of(conf),
            env=call_environment(verb, self.container, **environment),
            preexec_fn=lambda: [prepare() for prepare in preparations] and None,
            capture_output=True,
            check=False,
            timeout=patient(120),
        )
        stderr = done.stderr.decode()
        assert "Traceback" not in stderr
        return Answer(done.returncode, done.stdout, stderr)

    def start(
        self, conf: dict[str, Any], path: str = PLUGINS, stdout: int = PIPE, stderr: int = PIPE
    ) -> Popen[bytes]:
        """Start an ADD, which has read its configuration."""
        environment = call_environment("ADD", self.container, CNI_PATH=path)
        process = Popen([self.command], stdin=PIPE, stdout=stdout, stderr=stderr, env=environment)
        assert process.stdin is not None
        with process.stdin as stdin:
            stdin.write(stdin_of(conf))
        process.stdin = None
        return process


@pytest.fixture
def place(node: Node, ipvlan: Executable, tmp_path: Path) -> Place:
    node.master()
    return Place(node, node.container(), ipvlan.path, tmp_path)


STRANGE: dict[str, list[Preparation]] = {
    "signals ignored": [
        partial(signal.signal, number, signal.SIG_IGN)
        for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    ],
    "signals blocked, 20 files, umask 0777": [
        partial(signal.pthread_sigmask, signal.SIG_BLOCK, range(1, 32)),
        limit(resource.RLIMIT_NOFILE, 20),
        partial(os.umask, 0o777),
    ],
    "1,000,000 files, 1 MiB of stack, no core, umask 0, nice, own session": [
        limit(resource.RLIMIT_NOFILE, 1_000_000),
        limit(resource.RLIMIT_STACK, 1 << 20),
        limit(resource.RLIMIT_CORE, 0),
        *(partial(os.umask, 0), partial(os.nice, 19), os.setsid),
    ],
}


@pytest.mark.parametrize("name", STRANGE)
def test_attachment_lives_and_ends_with(place: Place, name: str) -> None:
    preparations = STRANGE[name]
    before = place.node.snapshot()

    answer = place.call("ADD", CONF, *preparations)

    assert place.container.addresses("net1") == ["10.1.0.2/24"], answer
    assert answer.stderr == ""
    assert MEMORY.stat().st_mode & 0o77 == 0
    assert {path.stat().st_mode & 0o77 for path in MEMORY.rglob("*")} == {0}
    conf = {**CONF, "prevResult": answer.result()}
    place.call("CHECK", conf, *preparations).succeeds()
    place.call("DEL", conf, *preparations).succeeds()
    assert place.node.snapshot() == before


def mounted(path: str, option: str) -> str:
    return f"mkdir -p {path}; mount -t tmpfs -o {option} none {path}"


def read_only(path: str) -> str:
    return f"mount --rbind {path} {path}; mount -o remount,bind,ro {path}"


RUN = "/run/cni-ipvlan"
NO_SPACE = "No space left on device"
# How each of them is made, and words of the error.
POOR: dict[str, tuple[str, str]] = {
    "a read-only /run": (read_only("/run"), f"Read-only file system: {RUN}"),
    "a full /run": (f"{mounted(RUN, 'size=4k')}; head -c 4096 /dev/zero >{RUN}/filler", NO_SPACE),
    "no more files on /run": (mounted(RUN, "nr_inodes=1"), f"{NO_SPACE}: {RUN}"),
    "no /run": (mounted("/run", "nr_inodes=1"), f"{NO_SPACE}: {RUN}"),
    "no room for leases": (mounted("/var/lib/cni", "nr_inodes=1"), NO_SPACE.replace("N", "n")),
    "no /proc": (mounted("/proc", "size=4k"), ""),
    "no /dev": (mounted("/dev", "size=4k"), ""),
    "no room in memory": ("", ""),
    "no processes": ("", ""),
}
LIMITED = {
    "no room in memory": [limit(resource.RLIMIT_AS, 64 << 20)],
    "no processes": [limit(resource.RLIMIT_NPROC, 0)],
}
DELETE_WORKS_WITH = {"a read-only /run", "a full /run", "no more files on /run"}


@pytest.mark.parametrize("name", POOR)
def test_add_works_or_undoes_everything_with(place: Place, name: str) -> None:
    shell, text = POOR[name]
    before = place.node.snapshot()

    answer = place.call("ADD", CONF, *LIMITED.get(name, []), shell=shell)

    if answer.status == 0:
        assert place.container.addresses("net1") == ["10.1.0.2/24"]
        assert not text
        place.call("DEL", CONF).succeeds()
    else:
        error = answer.error()
        assert error["code"] != 199, error
        assert text in f"{error['msg']} {error.get('details')}"
    empty = place.node.snapshot()
    empty["files"].pop(RUN, None)  # where the file system was mounted
    assert empty == before
    if name in DELETE_WORKS_WITH:
        place.call("ADD", CONF).result()
        place.call("DEL", CONF, shell=shell).succeeds()
        assert place.container.links().keys() == {"lo"}
        place.call("DEL", CONF).succeeds()
        assert place.node.snapshot() == before


def test_add_warns_where_no_sysctl_can_be_set_and_fails_if_ipv6_is_off(place: Place) -> None:
    answer = place.call("ADD", BOTH, shell=read_only("/proc/sys"))

    assert len(answer.result()["ips"]) == 2
    assert "neighbours" in answer.stderr
    assert "Read-only file system" in answer.stderr
    place.call("DEL", BOTH, shell=read_only("/proc/sys")).succeeds()

    for name in ("all", "default"):
        place.container.sysctl(f"net/ipv6/conf/{name}/disable_ipv6", 1)
    before = place.node.snapshot()

    error = place.call("ADD", BOTH, shell=read_only("/proc/sys")).error()

    assert "IPv6" in error["msg"]
    assert "Read-only file system" in f"{error}"
    assert place.node.snapshot() == before


# Messages of tools that are not iproute2, or very old.
TOOLS = {
    "busybox": ("ip: invalid option -- 'j'\nBusyBox v1.36.1 multi-call binary.", 1),
    "iproute2 4.9": ('Option "-j" is unknown, try "ip -help".', 255),
    "a wrapper that says nothing": ("", 0),
    "another program": ("usage: ip ADDRESS", 2),
    "a library is missing": ("ip: error while loading shared libraries: libbpf.so.1", 127),
}


@pytest.mark.parametrize("name", [*TOOLS])
@pytest.mark.parametrize("verb", ["ADD", "DEL", "STATUS"])
def test_an_unsuitable_ip_is_reported(place: Place, name: str, verb: str) -> None:
    message, status = TOOLS[name]
    tool = place.directory / "ip"
    tool.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{message}\nEND\nexit {status}\n")
    tool.chmod(0o755)
    conf = network(cniVersion="1.1.0" if verb == "STATUS" else "1.0.0")
    before = place.node.snapshot()

    answer = place.call(verb, conf, PATH=f"{place.directory}:{os.environ['PATH']}")

    error = answer.error()
    assert error["code"] in {50, 100, 113}, error
    assert re.search(r"\bip\b", error["msg"])
    assert message in error["details"]
    if name in ("busybox", "iproute2 4.9"):
        assert "iproute2 5.10 or newer" in f"{error}"
    assert place.node.snapshot() == before


def test_a_result_without_a_reader_waits_until_a_signal_undoes_it(place: Place) -> None:
    before = place.node.snapshot()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    filled = 0
    while select.select([], [writer], [], 0)[1]:
        filled += os.write(writer, b"x" * 4096)
    os.set_blocking(writer, True)
    process = place.start(CONF, stdout=writer)
    wait_until(lambda: waits_for_its_reader(process.pid))
    assert place.node.leases() == ["10.1.0.2"]
    assert "net1" in place.container.links()

    process.terminate()
    _, stderr = process.communicate(timeout=patient(30))

    assert process.returncode == 1
    assert b"SIGTERM" in stderr
    assert place.node.snapshot() == before
    os.close(writer)
    assert len(os.read(reader, filled + 1)) == filled
    os.close(reader)


def waits_for_its_reader(process: int) -> bool:
    """Whether it polls, but not for a command: none runs before or after the check."""
    idle = not descendants(process)
    return idle and sleeps_in(process, "sys_poll") and not descendants(process)


def test_stderr_without_a_reader_delays_nothing(place: Place) -> None:
    """A delegate's megabytes fit in no pipe."""
    plugin = place.directory / "chatty"
    plugin.write_text(
        "#!/bin/sh\nhead -c 1000000 /dev/zero >&2\n"
        """echo '{"ips": [{"address": "10.1.0.2/24"}]}'\n"""
    )
    plugin.chmod(0o755)
    reader, writer = os.pipe()
    conf = network(ipam={"type": "chatty"})
    process = place.start(conf, str(place.directory), stderr=writer)
    os.close(writer)

    stdout, _ = process.communicate(timeout=patient(60))

    assert process.returncode == 0, stdout
    assert place.container.addresses("net1") == ["10.1.0.2/24"]
    os.close(reader)


@pytest.mark.parametrize("redirection", ["3>/dev/null <&3", "</dev/zero"])
@pytest.mark.parametrize("verb", ["ADD", "DEL", "VERSION"])
def test_unreadable_stdin_is_reported(place: Place, verb: str, redirection: str) -> None:
    script = f"exec {shlex.quote(place.command)} {redirection}"
    environment = call_environment(verb, place.container)

    done = subprocess.run(["sh", "-c", script], env=environment, capture_output=True, check=False)

    error = Answer(done.returncode, done.stdout, done.stderr.decode()).error()
    assert error["code"] == 5
    assert "standard input" in error["msg"]
    assert b"Traceback" not in done.stderr
