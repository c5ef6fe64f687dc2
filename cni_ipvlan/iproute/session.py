"""Sessions: a query whose process stays in its namespace, to make a change there afterwards.

To enter a container takes 5 ms, which that saves.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

from cni_ipvlan.iproute.commands import WRITE_AND_RUN, Argv, Command, batch
from cni_ipvlan.iproute.interrupts import Interrupts
from cni_ipvlan.iproute.running import Running, closing

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
        self._is_told = False
        self._staying = process
        self._input = -1
        self._unwritten = b""

    @property
    def argv(self) -> Argv:
        """The process's, which differs from its query's."""
        return self._staying.entered_argv

    @property
    def answer(self) -> bytes | None:
        """The line that the query has printed; None if it has not yet."""
        line, is_whole, _ = self.stdout.partition(b"\n")
        return bytes(line) if is_whole and not self._is_told else None

    @property
    def fds(self) -> list[tuple[int, int]]:
        """The same, and its standard input while there is something to write."""
        return super().fds + ([(self._input, select.POLLOUT)] if self._unwritten else [])

    def tell(self, change: Command) -> bool:
        """Tell the process to make a change; return whether it can."""
        words = self._words(change)
        if words is None:
            return False
        del self.stdout[: self.stdout.index(b"\n") + 1]
        self.command, self._is_told, self.is_answered = change, True, False
        self._started = time.monotonic()
        self._unwritten = words
        self._write()
        return True

    def _words(self, change: Command) -> bytes | None:
        """Return what makes the process make a change; None if it can't, or can't any more."""
        staying = self._staying
        if not self.is_answered or self.completed or change.netns != staying.netns:
            return None
        if staying.argv[0] == "sh":
            return b"\n" + change.stdin if staying.argv[3:] == change.argv[3:] else None
        one = change if change.batch_lines else batch(change)
        is_fit = one is not None and len(one.batch_lines) == 1 and {*one.argv} <= {*staying.argv}
        return one.stdin if one and is_fit else None

    @contextmanager
    def with_stdin(self) -> Iterator[None]:
        """Set its standard input: a pipe, which stays open for a change."""
        self._stdin, self._input = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._input, False)
        with closing(self._stdin):
            os.write(self._input, self._staying.stdin)
            yield

    def poll(self, ready: Collection[int]) -> None:
        """Write what it is told, too."""
        if self._input in ready:
            self._write()
        super().poll(ready)

    def close(self) -> None:
        """Close its standard input, too."""
        self._unwritten = b""
        self.end_input()
        super().close()

    def end_input(self) -> None:
        """Close its standard input, unless a change is still to be written, which closes it."""
        if self._input >= 0 and not self._unwritten:
            os.close(self._input)
            self._input = -1

    def _write(self) -> None:
        try:
            written = os.write(self._input, self._unwritten)
        except BlockingIOError:
            return
        except BrokenPipeError:  # it does not listen
            written = len(self._unwritten)
        self._unwritten = self._unwritten[written:]
        self.end_input()
