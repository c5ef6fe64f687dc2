"""What runs as root trusts nothing that others can write to, and needs little of root."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faulty
from faulty import Faults
from lab import RECORDS, SHARED_VENV, NetNS, wait_until
from runtime import Answer, Conf, call_environment, host_local, network, stdin_of
from setup import Setup

from cni_ipvlan.iproute import namespace

CONF = network(ipam=host_local("10.1.0.0/24", "fd00:1::/64", routes=[{"dst": "0.0.0.0/0"}]))
NEEDED = {"net_admin": 112, "sys_admin": 112}  # each with the error of an ADD without it
ONLY = "-all," + ",".join(f"+{name}" for name in NEEDED)

ELSEWHERE = "unshare --pid --fork --mount-proc"  # in another PID namespace


def with_capabilities(change: str, verb: str, container: NetNS | str, conf: Conf) -> Answer:
    """Call as root with another bounding set, which is what root gets at an exec.

    Such a root can't look into the home of who made the clone.
    """
    return run_with(change, (), call_environment(verb, container), stdin_of(conf))


def run_with(
    change: str, words: Sequence[str], environment: Conf, stdin: bytes = b"", first: str = ""
) -> Answer:
    caps = ("setpriv", "--bounding-set", change, "--inh-caps", "-all")
    done = subprocess.run(
        [*first.split(), *caps, f"{SHARED_VENV}/bin/ipvlan", *words],
        input=stdin,
        env=environment,
        capture_output=True,
        check=False,
    )
    return Answer(done.returncode, done.stdout, done.stderr.decode())


def test_these_capabilities_are_enough_and_add_names_one_that_is_missing(setup: Setup) -> None:
    with setup.unchanged():
        answer = with_capabilities(ONLY, "ADD", setup.container, CONF)
        conf = {**CONF, "prevResult": answer.result()}
        assert answer.stderr == ""
        for verb in ("CHECK", "DEL"):
            with_capabilities(ONLY, verb, setup.container, conf).succeeds()
    for capability, code in {**NEEDED, "net_raw": 112}.items():
        conf = {**CONF, "checkIPv4Conflict": True}
        with setup.unchanged():
            error = with_capabilities(f"-{capability}", "ADD", setup.container, conf).error()
        assert error["code"] == code
        assert f"CAP_{capability.upper()}" in error["details"]


def test_root_that_may_not_open_a_processes_namespace_learns_why(setup: Setup) -> None:
    error = with_capabilities(ONLY, "ADD", "/proc/1/ns/net", CONF).error()
    assert (error["code"], error["msg"]) == (4, "CNI_NETNS is '/proc/1/ns/net'; Permission denied")
    assert error["details"] == (
        "try: run as the host's root with all capabilities: this process lacks CAP_SYS_PTRACE"
    )


def test_what_root_may_not_see_is_not_gone(setup: Setup, tmp_path: Path) -> None:
    conf = network(cniVersion="1.0.0", ipam=host_local("10.1.0.0/24"))
    (tmp_path / "net.conf").write_text(json.dumps(conf))
    words = ("gc", "-c", str(tmp_path / "net.conf"), "--keep-existing", "--json")
    with subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE) as process:
        path = f"/proc/{process.pid}/ns/net"
        wait_until(lambda: not namespace.leads_to(path, namespace.own_identity()))
        setup.add(conf, at=NetNS(path))
        gc = {**conf, "cniVersion": "1.1.0", "cni.dev/valid-attachments": []}
        for change, first in (("-sys_ptrace", ""), ("+sys_ptrace", ELSEWHERE)):
            with setup.unchanged():
                failed = run_with(change, words, dict(os.environ), first=first)
                assert (failed.status, "not seen: " in failed.stdout.decode()) == (1, True)
                shown = run_with(change, ("show", "--json"), dict(os.environ), first=first)
                document = json.loads(shown.stdout)
                assert (document["leftovers"], document["notSeen"] != []) == ([], True)
                environment = call_environment("GC", "")
                error = run_with(change, (), environment, stdin_of(gc), first=first).error()
                assert (error["code"], "may not be opened" in error["msg"]) == (112, True)


def test_no_file_is_written_but_those_that_are_kept(setup: Setup, tmp_path: Path) -> None:
    """An audit hook reports which files are opened for writing, even for a moment."""
    trace = tmp_path / "opened"
    child = os.fork()
    if not child:
        descriptor = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

        def listen(event: str, arguments: tuple[Any, ...]) -> None:
            is_path = event == "open" and not isinstance(arguments[0], int)  # nor a descriptor
            if is_path and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                os.write(descriptor, f"{arguments[0]}\n".encode())

        sys.addaudithook(listen)
        for verb in ("ADD", "DEL"):
            faulty.call(call_environment(verb, setup.container), stdin_of(CONF), Faults())
        os._exit(0)
    os.waitpid(child, 0)

    paths = set(trace.read_text().splitlines())
    assert paths
    assert all(Path(path).is_relative_to(RECORDS) for path in paths), paths
