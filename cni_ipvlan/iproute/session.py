"""Sessions: a query whose process stays in its namespace, to make a change there afterwards.

To enter a container takes 5 ms, which that saves.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from cni_ipvlan.iproute.commands import WRITE_AND_RUN, Command, batch
from cni_ipvlan.iproute.interrupts import Interrupts
from cni_ipvlan.iproute.running import Running

# The query for all links, and when a line has been read, what writes parameters and runs ip.
_SHOW_AND_STAY = f"ip -j -d link show || exit; read -r line || exit 0; {WRITE_AND_RUN}"


def process(query: Command, change: Command | None) -> Command | None:
    """Return the process for a query that can make a change of one line afterwards, or None.

    With a ``change`` that writes kernel parameters, the query must be that for all links, and the
    process can make changes that write the same parameters.
    """
    if change is not None and change.argv[0] == "sh":
        return query._replace(argv=("sh", "-c", _SHOW_AND_STAY, *change.argv[3:]))
    return batch(query)


class Session(Running):
    """A process that stays: ``command`` is its query, and then the change that it is told.

    ``is_answered`` is whether the query's answer is known, and no change was told since.
    """

    def __init__(
        self,
        query: Command,
        process: Command,
        environment: Mapping[str, str],
        interrupts: Interrupts,
    ) -> None:
        super().__init__(query, environment, interrupts)
        self.is_answered = False
        self._staying = process
        self._input = -1

    @property
    def answer(self) -> bytes | None:
        """The line that the query has printed; None if it has not yet, or will print no more."""
        line, is_whole, _ = self.stdout.partition(b"\n")
        return bytes(line) if is_whole and self._input >= 0 else None

    def tell(self, change: Command) -> bool:
        """Tell the process to make a change; return whether it can."""
        words = self._words(change)
        if words is None:
            return False
        del self.stdout[: self.stdout.index(b"\n") + 1]
        self.command, self.is_answered = change, False
        self._started = time.monotonic()
        with suppress(BrokenPipeError):  # it does not listen
            os.write(self._input, words)
        self.end_input()
        return True

    def _words(self, change: Command) -> bytes | None:
        """Return what makes the process make a change; None if it can't, or can't any more."""
        staying = self._staying
        if not self.is_answered or self.completed or change.netns != staying.netns:
            return None
        if staying.argv[0] == "sh":
            words = b"\n" + change.stdin if change.argv[3:] == staying.argv[3:] else b""
        else:
            line = batch(change)
            words = line.stdin if line and {*line.argv} <= {*staying.argv} else b""
        # Writing more could have to wait for a reader.
        return words if 0 < len(words) <= select.PIPE_BUF else None

    @contextmanager
    def with_stdin(self) -> Iterator[None]:
        """Set its standard input: a pipe, which stays open for a change."""
        self._stdin, self._input = os.pipe2(os.O_CLOEXEC)
        with open(self._stdin, "rb", buffering=0):
            os.write(self._input, self._staying.stdin)
            yield

    def end_input(self) -> None:
        """Close its standard input."""
        if self._input >= 0:
            os.close(self._input)
            self._input = -1

    def close(self) -> None:
        """Close its standard input, too."""
        self.end_input()
        super().close()
