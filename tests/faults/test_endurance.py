"""Many calls, one after the other and all at once: nothing fails, nothing stays, nothing grows.

The short form by default; scripts/endurance sets the numbers of the long one.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from executable import Executable
from lab import LEASES, Node, Space
from runtime import Runtime, call_environment, host_local, network, stdin_of

ROUNDS = int(os.environ.get("ENDURANCE_ROUNDS", "6"))
STORM = int(os.environ.get("ENDURANCE_STORM", "12"))
STORMS = int(os.environ.get("ENDURANCE_STORMS", "1"))

CONF = network(ipam=host_local("10.0.0.0/8", routes=[{"dst": "0.0.0.0/0"}]))
# What the kernel keeps or caches is less than this, for any number of rounds.
FEW_FILES = 64
FEW_KIB = 16 * 1024


def test_rounds_leave_nothing(node: Node, runtime: Runtime) -> None:
    node.master()
    container = node.container()
    rounds(runtime, container, 2)  # what is loaded and cached once
    before, held = node.snapshot(), resources()

    began = time.monotonic()
    rounds(runtime, container, ROUNDS)

    tell(f"{ROUNDS} rounds of ADD, CHECK, DEL", began, held)
    assert node.snapshot() == before
    assert_no_growth(held)


def test_storms_leave_nothing(node: Node, ipvlan: Executable) -> None:
    node.master()
    containers = [node.container() for _ in range(STORM)]
    storm(ipvlan, containers[:2], "ADD")
    storm(ipvlan, containers[:2], "DEL")
    before, held = node.snapshot(), resources()

    began = time.monotonic()
    for _ in range(STORMS):
        results = storm(ipvlan, containers, "ADD")
        addresses = {ip["address"] for result in results for ip in result["ips"]}
        assert len(addresses) == STORM
        storm(ipvlan, containers, "DEL")

    tell(f"{STORMS} storms of {STORM} ADD, then {STORM} DEL", began, held)
    assert node.snapshot() == before
    assert_no_growth(held)


def rounds(runtime: Runtime, container: Space, count: int) -> None:
    for number in range(count):
        about = {"CNI_CONTAINERID": f"c{number}"}
        result = runtime.add(container, CONF, **about).result()
        runtime.check(container, CONF, result, **about).succeeds()
        runtime.delete(container, CONF, **about).succeeds()
        if number % 100 == 99:
            sys.stderr.write(f"{number + 1} rounds: {resources()}\n")


def storm(ipvlan: Executable, containers: list[Space], verb: str) -> list[dict[str, Any]]:
    """Call for all containers at once; return the results of ADD."""
    calls = [
        ipvlan.start(
            call_environment(verb, container, CNI_CONTAINERID=f"c{number}"), stdin_of(CONF)
        )
        for number, container in enumerate(containers)
    ]
    outputs = [call.process.communicate(timeout=900) for call in calls]
    failed = [
        output for call, output in zip(calls, outputs, strict=True) if call.process.returncode
    ]
    assert not failed, f"{len(failed)} of {len(calls)} failed, the first: {failed[0]}"
    return [json.loads(stdout) for stdout, _ in outputs if stdout]


def resources() -> dict[str, int]:
    """Return what a leak would make grow, without what the kernel may drop at any time."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3\n")
    memory = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return {
        "open files": int(Path("/proc/sys/fs/file-nr").read_text().split()[0]),
        "processes": sum(map(is_program, Path("/proc").iterdir())),
        "KiB in use": int(memory["MemTotal"].split()[0]) - int(memory["MemFree"].split()[0]),
        "KiB of files": used_kib(Path("/run")) + used_kib(LEASES),
        "files": sum(1 for _ in (*Path("/run").rglob("*"), *LEASES.rglob("*"))),
    }


def is_program(entry: Path) -> bool:
    """Whether an entry of /proc is a process, and no thread of the kernel's own."""
    try:
        return entry.name.isdecimal() and bool((entry / "cmdline").read_bytes())
    except (FileNotFoundError, ProcessLookupError):
        return False


def used_kib(path: Path) -> int:
    status = os.statvfs(path)
    return (status.f_blocks - status.f_bfree) * status.f_frsize // 1024


def assert_no_growth(before: dict[str, int]) -> None:
    after = resources()
    grown = {name: after[name] - before[name] for name in before}
    assert grown["files"] == 0, grown
    assert grown["processes"] <= 0, grown
    assert grown["KiB of files"] <= 8, grown
    assert grown["open files"] <= FEW_FILES, grown
    assert grown["KiB in use"] <= FEW_KIB, grown


def tell(what: str, began: float, before: dict[str, int]) -> None:
    """Print the figures of a run, for docs/reliability.md."""
    seconds = time.monotonic() - began
    sys.stderr.write(f"{what}: {seconds:.0f} s; before {before}, after {resources()}\n")
