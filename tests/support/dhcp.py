"""The daemon of the IPAM plugin dhcp, of Debian's package or another."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lab import wait_until
from runtime import PLUGINS

SOCKET = Path("/run/cni/dhcp.sock")


@contextmanager
def program(*argv: str, log: Path = Path("/dev/null")) -> Iterator[None]:
    with log.open("w") as output, subprocess.Popen(argv, stdout=output, stderr=output) as process:
        try:
            yield
        finally:
            process.kill()


@contextmanager
def daemon(log: Path, *options: str) -> Iterator[None]:
    with ExitStack() as stack:
        stack.callback(SOCKET.unlink, missing_ok=True)
        stack.enter_context(program(f"{PLUGINS}/dhcp", "daemon", *options, log=log))
        wait_until(SOCKET.exists)
        yield
