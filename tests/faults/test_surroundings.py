"""Unusual surroundings: a call works, or one CNI error names what is missing; nothing stays."""

from __future__ import annotations

import os
import re
import resource
import select
import shlex
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from executable import Executable, descendants
from lab import MEMORY, Node, Space, sleeps_in, wait_until
from runtime import Answer, call_environment, host_local, network, stdin_of

CONF = network(ipam=host_local("10.1.0.0/24"))
BOTH = network(ipam=host_local("10.1.0.0/24", "fd00:1::/64"))
TRAPPED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def ignore(*numbers: int) -> Callable[[], None]:
    def prepare() -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)

    return prepare


def block(*numbers: int) -> Callable[[], None]:
    def prepare() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, numbers)

    return prepare


def nice() -> None:
    os.nice(19)


def limit(kind: int, value: int) -> Callable[[], None]:
    def prepare() -> None:
        resource.setrlimit(kind, (value, max(value, resource.getrlimit(kind)[1])))

    return prepare


def mask(value: int) -> Callable[[], None]:
    def prepare() -> None:
        os.umask(value)

    return prepare


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
        prepare: Callable[[], None] | None = None,
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
            preexec_fn=prepare,
            capture_output=True,
            check=False,
            timeout=120,
        )
        stderr = done.stderr.decode()
        assert "Traceback" not in stderr
        return Answer(done.returncode, done.stdout, stderr)


@pytest.fixture
def place(node: Node, ipvlan: Executable, tmp_path: Path) -> Place:
    node.master()
    return Place(node, node.container(), ipvlan.path, tmp_path)


@pytest.mark.parametrize(
    "prepare",
    [
        pytest.param(ignore(signal.SIGCHLD), id="SIGCHLD ignored"),
        pytest.param(ignore(signal.SIGPIPE, *TRAPPED), id="signals ignored"),
        pytest.param(block(*range(1, 32)), id="signals blocked"),
        pytest.param(limit(resource.RLIMIT_NOFILE, 20), id="20 files"),
        pytest.param(limit(resource.RLIMIT_NOFILE, 1_000_000), id="1,000,000 files"),
        pytest.param(limit(resource.RLIMIT_STACK, 1 << 20), id="1 MiB of stack"),
        pytest.param(limit(resource.RLIMIT_CORE, 0), id="no core"),
        pytest.param(mask(0o777), id="umask 0777"),
        pytest.param(mask(0), id="umask 0"),
        pytest.param(nice, id="nice"),
        pytest.param(os.setsid, id="own session"),
    ],
)
def test_attachment_lives_and_ends_with(place: Place, prepare: Callable[[], None]) -> None:
    before = place.node.snapshot()

    answer = place.call("ADD", CONF, prepare)

    assert place.container.addresses("net1") == ["10.1.0.2/24"], answer
    assert answer.stderr == ""
    assert MEMORY.stat().st_mode & 0o77 == 0
    conf = {**CONF, "prevResult": answer.result()}
    place.call("CHECK", conf, prepare).succeeds()
    place.call("DEL", conf, prepare).succeeds()
    assert place.node.snapshot() == before


FULL = (
    "mkdir -p /run/cni-ipvlan; mount -t tmpfs -o size=4k none /run/cni-ipvlan; "
    "head -c 4096 /dev/zero >/run/cni-ipvlan/filler"
)
# How each of them is made, and words of the error.
POOR = {
    "no room in memory": ("", limit(resource.RLIMIT_AS, 64 << 20), ""),
    "a read-only /run": (
        "mount --rbind /run /run; mount -o remount,bind,ro /run",
        None,
        "Read-only file system: /run/cni-ipvlan",
    ),
    "a full /run": (
        FULL,
        None,
        "No space left on device",
    ),
    "no more files on /run": (
        "mkdir -p /run/cni-ipvlan; mount -t tmpfs -o nr_inodes=1 none /run/cni-ipvlan",
        None,
        "No space left on device: /run/cni-ipvlan",
    ),
    "no /run": (
        "mount -t tmpfs -o nr_inodes=1 none /run",
        None,
        "No space left on device: /run/cni-ipvlan",
    ),
    "no room for leases": (
        "mount -t tmpfs -o nr_inodes=1 none /var/lib/cni",
        None,
        "no space left on device",
    ),
    "no processes": ("", limit(resource.RLIMIT_NPROC, 0), ""),
    "no /proc": ("mount -t tmpfs none /proc", None, ""),
    "no /dev": ("mount -t tmpfs none /dev", None, ""),
}


@pytest.mark.parametrize("name", POOR)
def test_add_works_or_undoes_everything_with(place: Place, name: str) -> None:
    shell, prepare, text = POOR[name]
    before = place.node.snapshot()

    answer = place.call("ADD", CONF, prepare, shell)

    if answer.status == 0:
        assert place.container.addresses("net1") == ["10.1.0.2/24"]
        assert not text
        place.call("DEL", CONF).succeeds()
    else:
        error = answer.error()
        assert error["code"] != 199, error
        assert text in f"{error['msg']} {error.get('details')}"
    empty = place.node.snapshot()
    empty["files"].pop("/run/cni-ipvlan", None)  # where the file system was mounted
    assert empty == before


@pytest.mark.parametrize("name", ["a read-only /run", "a full /run", "no more files on /run"])
def test_delete_needs_no_room(place: Place, name: str) -> None:
    before = place.node.snapshot()
    place.call("ADD", CONF).result()

    place.call("DEL", CONF, None, POOR[name][0]).succeeds()

    assert place.container.links().keys() == {"lo"}
    place.call("DEL", CONF).succeeds()
    assert place.node.snapshot() == before


READ_ONLY_SYSCTLS = "mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys"


def test_add_warns_where_no_sysctl_can_be_set(place: Place) -> None:
    answer = place.call("ADD", BOTH, None, READ_ONLY_SYSCTLS)

    assert len(answer.result()["ips"]) == 2
    assert "neighbours" in answer.stderr
    assert "Read-only file system" in answer.stderr
    place.call("DEL", BOTH, None, READ_ONLY_SYSCTLS).succeeds()


def test_add_undoes_everything_where_ipv6_is_off_and_cannot_be_switched_on(place: Place) -> None:
    for name in ("all", "default"):
        place.container.sysctl(f"net/ipv6/conf/{name}/disable_ipv6", 1)
    before = place.node.snapshot()

    error = place.call("ADD", BOTH, None, READ_ONLY_SYSCTLS).error()

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


@pytest.mark.parametrize("name", TOOLS)
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
    process = subprocess.Popen(
        [place.command],
        stdin=subprocess.PIPE,
        stdout=writer,
        stderr=subprocess.PIPE,
        env=call_environment("ADD", place.container),
    )
    assert process.stdin is not None
    process.stdin.write(stdin_of(CONF))
    process.stdin.close()
    process.stdin = None
    wait_until(lambda: waits_for_its_reader(process.pid))
    assert place.node.leases() == ["10.1.0.2"]
    assert "net1" in place.container.links()

    process.terminate()
    _, stderr = process.communicate(timeout=30)

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
    process = subprocess.Popen(
        [place.command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=writer,
        env=call_environment("ADD", place.container, CNI_PATH=str(place.directory)),
    )
    os.close(writer)

    stdout, _ = process.communicate(stdin_of(network(ipam={"type": "chatty"})), timeout=60)

    assert process.returncode == 0, stdout
    assert place.container.addresses("net1") == ["10.1.0.2/24"]
    os.close(reader)


@pytest.mark.parametrize("verb", ["ADD", "DEL", "VERSION"])
@pytest.mark.parametrize("redirection", ["3>/dev/null <&3", "</dev/zero"])
def test_unreadable_stdin_is_reported(place: Place, verb: str, redirection: str) -> None:
    script = f"exec {shlex.quote(place.command)} {redirection}"
    environment = call_environment(verb, place.container)

    done = subprocess.run(["sh", "-c", script], env=environment, capture_output=True, check=False)

    error = Answer(done.returncode, done.stdout, done.stderr.decode()).error()
    assert error["code"] == 5
    assert "standard input" in error["msg"]
    assert b"Traceback" not in done.stderr
