"""The command line as people use it, in this very process."""

import io
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from cni_ipvlan.cli import program
from cni_ipvlan.iproute.interrupts import Interrupts


class Said(NamedTuple):
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str

    def fine(self) -> str:
        """The output of a command that must succeed."""
        assert self.status == 0, self
        return self.out


def ipvlan(*arguments: str) -> Said:
    """Run a command; this process keeps its own handlers of signals."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", newline="") for _ in range(2))
    with (
        redirect_stdout(out),
        redirect_stderr(err),
        mock.patch.object(Interrupts, "install"),
        mock.patch.object(sys, "argv", [str(Path(sys.executable).with_name("ipvlan"))]),
    ):
        status = program.main(arguments)
    return Said(status, *map(_written, (out, err)))


def _written(stream: io.TextIOWrapper) -> str:
    stream.flush()
    stream.seek(0)
    return stream.read()


def options(**given: str | Sequence[str]) -> list[str]:
    """Return options by their names: ``prev_result="f"`` is ``--prev-result f``."""
    found = []
    for name, values in given.items():
        for value in [values] if isinstance(values, str) else values:
            found += [f"--{name.replace('_', '-')}", value]
    return found
