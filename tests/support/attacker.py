"""Parts of attacks, and how to see whether they succeed."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lab import RECORDS, NetNS, run

NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
_STAY = "\necho\nexec sleep infinity"


def find_files_with(container_id: str) -> list[Path]:
    files = filter(Path.is_file, sorted(RECORDS.rglob("*")))
    return [path for path in files if container_id.encode() in path.read_bytes()]


def is_running(process: int) -> bool:
    """Return whether a process runs; one that has ended and is not reaped does not."""
    try:
        return "(zombie)" not in Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextmanager
def start_user_namespaces(count: int, script: str = "") -> Iterator[Sequence[int]]:
    """Have namespaces of an unprivileged user, and run a script in each; yield process IDs."""
    argv = (*NOBODY, "unshare", "--user", "--map-root-user", "--net", "--mount", "sh", "-ec")
    with ExitStack() as stack:
        processes = []
        for _ in range(count):
            process = subprocess.Popen((*argv, script + _STAY), stdout=subprocess.PIPE)
            stack.callback(process.communicate)
            stack.callback(process.kill)  # before the other
            processes.append(process)
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == b"\n", script
        yield [process.pid for process in processes]


def forge_link(container: NetNS, mode: str) -> None:
    """Do what a pod with NET_ADMIN may: put its link onto its own interface "eth0"."""
    container.ip("link delete dev net1")
    container.ip("link add name eth0 type dummy")
    container.ip(f"link add link eth0 name net1 type ipvlan mode {mode}")


def forge_from_nested(container: NetNS, nested: NetNS, master: NetNS, mode: str) -> None:
    """Show in a container a link whose parent is elsewhere and has the index of a master eth0."""
    link = master.links()["eth0"]
    nested.ip(f"link add index {link['ifindex']} address {link['address']} name up type dummy")
    nested.ip("link set dev up up")
    nested.ip(f"link add link up name forged type ipvlan mode {mode}")
    run("nsenter", f"--net={nested.path}", "ip", "link", "set", "forged", "netns", container.path)
    container.ip("link set dev forged up")
