"""Many calls, one after the other and all at once: nothing fails, nothing stays, nothing grows."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest
from executable import Executable
from lab import LEASES, RECORDS, NetNS, Node, find_leases, run, wait_until
from runtime import Answer, Conf, call_environment, host_local, network, stdin_of
from sampling import is_long, seed
from setup import Setup

ROUNDS = int(os.environ.get("ENDURANCE_ROUNDS", "5"))
STORM = int(os.environ.get("ENDURANCE_STORM", "6"))
STORMS = int(os.environ.get("ENDURANCE_STORMS", "1"))

CONF = network(ipam=host_local("10.0.0.0/8", routes=[{"dst": "0.0.0.0/0"}]))
# With several processors, the kernel counts files by steps of this size for each of them.
STEP = 0 if os.cpu_count() == 1 else 32
# How much each figure may grow in any number of rounds.
MOST = {
    "open files": 4 + 2 * STEP * (os.cpu_count() or 1),
    "processes": 0,
    "KiB of files": 8,
    "files": 0,
    "KiB in use": 4 << 10,
}
# Lines of /proc/meminfo. What is not free is more than these, as each processor keeps pages for its
# next use (13 MB of them, or none).
IN_USE = ("AnonPages", "SUnreclaim", "KernelStack", "PageTables", "Percpu", "Shmem", "VmallocUsed")


def test_rounds_leave_nothing(setup: Setup) -> None:
    rounds(setup, 1)  # what is loaded and cached once
    with assert_nothing_grows(setup.node, f"{ROUNDS} rounds of ADD, CHECK, DEL"):
        rounds(setup, ROUNDS)


# Containers come and go together; what they share on the host is there while one of them is.
@pytest.mark.setup(host=("10.255.0.1/8",))
@pytest.mark.parametrize("shared", [{"hostAccess": True}, {"vlan": 100}], ids=str)
def test_storms_leave_nothing(setup: Setup, ipvlan: Executable, shared: Conf) -> None:
    containers = [setup.make_container() for _ in range(STORM)]
    conf = stdin_of({**CONF, **shared})
    for verb in ("ADD", "DEL"):
        call_all(ipvlan, conf, {verb: containers[:1]})

    first_half, second_half = containers[: STORM // 2], containers[STORM // 2 :]
    with assert_nothing_grows(setup.node, f"{STORMS} storms of {STORM} ADD and DEL"):
        for _ in range(STORMS):
            results = call_all(ipvlan, conf, {"ADD": containers})
            addresses = {ip["address"] for each in results for ip in each.result()["ips"]}
            assert len(addresses) == STORM
            call_all(ipvlan, conf, {"DEL": first_half})
            call_all(ipvlan, conf, {"DEL": second_half, "ADD": first_half})
            call_all(ipvlan, conf, {"DEL": first_half})


# A power cut ends all processes at one moment, and only what is on disk is kept.
STORM_SCRIPT = """
for container in "$@"; do
    export CNI_CONTAINERID="${container##*/}" CNI_NETNS="$container"
    while :; do
        for verb in ADD DEL; do CNI_COMMAND=$verb "$COMMAND" <"$CONF" >/dev/null 2>&1; done
    done &
done
wait
"""


@pytest.mark.slow
@pytest.mark.timeout(3600 if is_long() else 300)
def test_a_power_cut_loses_no_address(setup: Setup, ipvlan: Executable, tmp_path: Path) -> None:
    conf = network(ipam=host_local("10.1.0.0/24"))
    foreign_lease = LEASES / "networks/other/10.1.0.9"  # of a network of another plugin
    foreign_lease.parent.mkdir(parents=True)
    foreign_lease.write_text("one\r\neth0")
    file = tmp_path / "net.conf"
    file.write_bytes(stdin_of(conf))
    cut, random = 0, Random(seed())  # noqa: S311
    for _ in range(200 if is_long() else 5):
        containers = [setup.make_container() for _ in range(3)]
        environment = call_environment("", containers[0], COMMAND=ipvlan.path, CONF=str(file))
        isolation = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
        argv = (*isolation, "sh", "-c", STORM_SCRIPT, "sh", *(each.path for each in containers))
        with subprocess.Popen(argv, env={**os.environ, **environment}) as process:
            wait_until(lambda: len(find_leases()) > 1)
            time.sleep(random.uniform(0, 0.5))
            process.kill()
        cut += len(find_leases()) > 1
        restart(setup, containers)
        added = setup.add(conf)
        run(ipvlan.path, "gc", "-c", str(file), "--keep-existing")
        address = setup.container.addresses("net1")[0].partition("/")[0]
        contents = {path.name: path.read_bytes() for path in find_leases()}
        assert contents.keys() == {foreign_lease.name, address}, contents
        added.delete()
        assert find_leases() == [foreign_lease]
    assert cut > 0  # otherwise nothing was tried


def restart(setup: Setup, containers: Sequence[NetNS]) -> None:
    """Remove what does not outlive a restart of the node."""
    for each in containers:
        setup.node.remove(each)
    for name, link in setup.host.links().items():
        if link.get("linkinfo", {}).get("info_kind") == "ipvlan":
            setup.host.ip(f"link delete dev {name}")
    shutil.rmtree(RECORDS, ignore_errors=True)


def rounds(setup: Setup, count: int) -> None:
    for number in range(count):
        added = setup.add(CONF, CNI_CONTAINERID=f"c{number}")
        added.check()
        added.delete()
        if number % 100 == 99:
            sys.stderr.write(f"{number + 1} rounds: {resources()}\n")


def call_all(ipvlan: Executable, conf: bytes, verbs: Mapping[str, Sequence[NetNS]]) -> list[Answer]:
    """Call the plugin for all containers at once; return the answers, none of which may fail."""
    calls = [
        ipvlan.start(call_environment(verb, each, CNI_CONTAINERID=Path(each.path).name), conf)
        for verb, containers in verbs.items()
        for each in containers
    ]
    results = [call.end(900) for call in calls]
    failed = [answer for answer in results if answer.status]
    assert not failed, f"{len(failed)} of {len(calls)} failed, the first: {failed[0]}"
    return results


@contextmanager
def assert_nothing_grows(node: Node, subject: str) -> Iterator[None]:
    """Print a run's figures, for docs/reliability.md; assert that nothing is more than it was."""
    state, before = node.snapshot(), resources()
    start = time.monotonic()
    yield
    seconds, after = time.monotonic() - start, resources()
    sys.stderr.write(f"{subject}: {seconds:.0f} s; before {before}, after {after}\n")
    assert node.snapshot() == state
    grown = {name: after[name] - before[name] for name in MOST}
    assert {name: growth for name, growth in grown.items() if growth > MOST[name]} == {}


def resources() -> dict[str, int]:
    """Return what a leak would make grow, without what the kernel may drop at any time."""
    memory = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return {
        "open files": int(Path("/proc/sys/fs/file-nr").read_text().split()[0]),
        "processes": sum(map(is_program, Path("/proc").iterdir())),
        "KiB in use": sum(int(memory[name].split()[0]) for name in IN_USE),
        "KiB of files": used_kib(Path("/run")) + used_kib(LEASES),
        "files": sum(1 for _ in (*Path("/run").rglob("*"), *LEASES.rglob("*"))),
    }


def is_program(entry: Path) -> bool:
    """Return whether an entry of /proc is a process, and not a thread of the kernel."""
    try:
        return entry.name.isdecimal() and bool((entry / "cmdline").read_bytes())
    except (FileNotFoundError, ProcessLookupError):
        return False


def used_kib(path: Path) -> int:
    status = os.statvfs(path)
    return (status.f_blocks - status.f_bfree) * status.f_frsize // 1024
