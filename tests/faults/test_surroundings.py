"""Unusual surroundings: a call works, or one CNI error names what is missing; nothing stays."""

import os
import resource
import select
import shlex
import signal
import subprocess
from collections.abc import Callable
from functools import partial

import pytest
from executable import Executable, descendants
from lab import RECORDS, sleeps_in, wait_until
from patience import extend
from runtime import Answer, Conf, call_environment, host_local, network, stdin_of
from setup import Setup

CONF = network(ipam=host_local("10.1.0.0/24"))
SHARING = [CONF, {**CONF, "hostAccess": True}, {**CONF, "vlan": 100}]
DUAL_STACK = network(ipam=host_local("10.1.0.0/24", "fd00:1::/64"))
COMMAND = Executable().path
Preparation = Callable[[], object]


def limit(kind: int, value: int) -> Preparation:
    return lambda: resource.setrlimit(kind, (value, max(value, resource.getrlimit(kind)[1])))


def call(
    verb: str,
    setup: Setup,
    conf: Conf,
    *preparations: Preparation,
    first: str = "",
    **environment: str,
) -> Answer:
    """Call with what is done in the process before, or by a shell that does ``first``."""
    argv = [COMMAND]
    if first:
        private = ["unshare", "--mount", "--propagation", "private", "sh", "-ec"]
        argv = [*private, f"{first}\nexec {shlex.quote(COMMAND)}"]
    done = subprocess.run(
        argv,
        input=stdin_of(conf),
        env=call_environment(verb, setup.container, **environment),
        preexec_fn=lambda: [prepare() for prepare in preparations] and None,
        capture_output=True,
        check=False,
        timeout=extend(120),
    )
    stderr = done.stderr.decode()
    assert "Traceback" not in stderr
    return Answer(done.returncode, done.stdout, stderr)


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
    "the /proc of another PID namespace": [],
}
FIRST = {"the /proc of another PID namespace": f"exec unshare --pid --fork {COMMAND}"}


@pytest.mark.parametrize("name", STRANGE)
def test_attachment_lives_and_ends_with(setup: Setup, name: str) -> None:
    def call_so(verb: str, conf: Conf) -> Answer:
        return call(verb, setup, conf, *STRANGE[name], first=FIRST.get(name, ""))

    with setup.unchanged():
        answer = call_so("ADD", CONF)
        assert setup.container.addresses("net1") == ["10.1.0.2/24"], answer
        assert answer.stderr == ""
        assert RECORDS.stat().st_mode & 0o77 == 0
        assert {path.stat().st_mode & 0o77 for path in RECORDS.rglob("*")} == {0}
        conf = {**CONF, "prevResult": answer.result()}
        call_so("CHECK", conf).succeeds()
        call_so("DEL", conf).succeeds()


def mount(path: str, option: str) -> str:
    return f"mkdir -p {path}; mount -t tmpfs -o {option} none {path}"


def read_only(path: str) -> str:
    return f"mount --rbind {path} {path}; mount -o remount,bind,ro {path}"


RUN = "/run/cni-ipvlan"
NO_SPACE = "No space left on device"
# How each fault is caused, and words of the error.
POOR: dict[str, tuple[str, str]] = {
    "a read-only /run": (read_only("/run"), f"Read-only file system: {RUN}"),
    "a full /run": (
        f"{mount(RUN, 'size=4k')}; head -c 4096 /dev/zero >{RUN}/filler",
        f"{NO_SPACE}: {RUN}",
    ),
    "no more files on /run": (mount(RUN, "nr_inodes=1"), f"{NO_SPACE}: {RUN}"),
    "no /run": (mount("/run", "nr_inodes=1"), f"{NO_SPACE}: {RUN}"),
    "no room for leases": (mount("/var/lib/cni", "nr_inodes=1"), NO_SPACE.replace("N", "n")),
    "no /proc": (mount("/proc", "size=4k"), "No such file or directory: /proc/self"),
    "no /dev": (mount("/dev", "size=4k"), ""),
    "no room in memory": ("", ""),
    "no processes": ("", ""),
}
LIMITED = {
    "no room in memory": [limit(resource.RLIMIT_AS, 64 << 20)],
    "no processes": [limit(resource.RLIMIT_NPROC, 0)],
}
DELETE_WORKS_WITH = {"a read-only /run", "a full /run", "no more files on /run"}


@pytest.mark.setup(host=("10.1.0.1/24",))
@pytest.mark.parametrize("name", POOR)
def test_add_works_or_undoes_everything_with(setup: Setup, name: str) -> None:
    shell, text = POOR[name]
    before = setup.node.snapshot()

    answer = call("ADD", setup, CONF, *LIMITED.get(name, []), first=shell)

    if answer.status == 0:
        assert setup.container.addresses("net1") == ["10.1.0.2/24"]
        assert not text
        call("DEL", setup, CONF).succeeds()
    else:
        error = answer.error()
        assert text in f"{error['msg']} {error.get('details')}"
    for each in (answer, call("DEL", setup, CONF, *LIMITED.get(name, []), first=shell)):
        assert each.status == 0 or each.error()["code"] != 199
    empty = setup.node.snapshot()
    empty["files"].pop(RUN, None)  # where the file system was mounted
    assert empty == before
    for conf in SHARING if name in DELETE_WORKS_WITH else ():
        call("ADD", setup, conf).result()
        call("DEL", setup, conf, first=shell).succeeds()
        assert setup.container.links().keys() == {"lo"}
        call("DEL", setup, conf).succeeds()
        assert setup.node.snapshot() == before


def test_delete_does_not_take_a_container_for_gone_without_proc(setup: Setup) -> None:
    with setup.unchanged():
        call("ADD", setup, CONF).result()
        assert call("DEL", setup, CONF, first="umount -l /proc").error()["code"] == 5
        call("DEL", setup, CONF).succeeds()


def test_add_warns_where_no_sysctl_can_be_set(setup: Setup) -> None:
    """tests/kernel/test_refusals.py has ADD where IPv6 is disabled, which fails."""
    answer = call("ADD", setup, DUAL_STACK, first=read_only("/proc/sys"))
    assert len(answer.result()["ips"]) == 2
    assert "neighbours" in answer.stderr
    assert "Read-only file system" in answer.stderr
    call("DEL", setup, DUAL_STACK, first=read_only("/proc/sys")).succeeds()


def test_a_result_without_a_reader_waits_until_a_signal_undoes_it(setup: Setup) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    filled = 0
    while select.select([], [writer], [], 0)[1]:
        filled += os.write(writer, b"x" * 4096)
    os.set_blocking(writer, True)
    with setup.unchanged():
        environment = call_environment("ADD", setup.container)
        process = Executable().start(environment, stdin_of(CONF), stdout=writer).process
        wait_until(lambda: is_waiting_for_reader(process.pid))
        assert setup.node.leases() == ["10.1.0.2"]
        assert "net1" in setup.container.links()

        process.terminate()
        _, stderr = process.communicate(timeout=extend(30))

    assert process.returncode == 1
    assert b"SIGTERM" in stderr
    os.close(writer)
    assert len(os.read(reader, filled + 1)) == filled
    os.close(reader)


def is_waiting_for_reader(process: int) -> bool:
    """Return whether a process polls, and not for a command, since it has no children."""
    has_no_children = not descendants(process)
    return has_no_children and sleeps_in(process, "sys_poll") and not descendants(process)


def test_stderr_without_a_reader_delays_nothing(setup: Setup) -> None:
    """The delegate prints more than fits into a pipe."""
    answer = """echo '{"ips": [{"address": "10.1.0.2/24"}]}'"""
    ipam = setup.ipam(script=f"head -c 1000000 /dev/zero >&2\n{answer}")
    reader, writer = os.pipe()
    environment = call_environment("ADD", setup.container, CNI_PATH=setup.fake.path)
    stdin = stdin_of(network(ipam=ipam))
    process = Executable().start(environment, stdin, stderr=writer).process
    os.close(writer)
    stdout, _ = process.communicate(timeout=extend(60))
    assert process.returncode == 0, stdout
    assert setup.container.addresses("net1") == ["10.1.0.2/24"]
    os.close(reader)


@pytest.mark.parametrize("redirection", ["3>/dev/null <&3", "</dev/zero"])
@pytest.mark.parametrize("verb", ["ADD", "DEL", "VERSION"])
def test_unreadable_stdin_is_reported(setup: Setup, verb: str, redirection: str) -> None:
    error = call(verb, setup, CONF, first=f"exec {redirection}").error()
    assert (error["code"], "standard input" in error["msg"]) == (5, True), error
