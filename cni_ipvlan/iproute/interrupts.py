"""The signals that end a call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cni_ipvlan.iproute import IprouteError
from cni_ipvlan.start import signal

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


class InterruptedBySignalError(IprouteError):
    """A signal asked us to stop."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        from signal import Signals

        self.signal = Signals(number).name


class Interrupts:
    """Handles SIGTERM, SIGINT, SIGHUP and SIGQUIT between commands.

    A running command is sent SIGTERM, and killed if it does not end in time; then
    ``check`` raises. Within ``deferred``, during an undo, ``is_deferring`` is true and signals
    interrupt nothing. A second signal leaves IPAM plugins only one second.
    """

    def __init__(self) -> None:
        self._signals: list[int] = []
        self.is_deferring = False

    def install(self) -> None:
        """Install the handlers, and reset the inherited signal mask.

        SIGHUP and SIGINT stay ignored if they are: nohup(1) does so, a shell for a job with &.
        """
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number in SIGNALS:
            is_ignored = signal.getsignal(number) == signal.SIG_IGN
            if not (is_ignored and number in (signal.SIGHUP, signal.SIGINT)):
                signal.signal(number, self._catch)

    @property
    def count(self) -> int:
        """How many signals were received, at most 2."""
        return min(len(self._signals), 2)

    def check(self) -> None:
        """Raise InterruptedBySignalError if a signal was received."""
        if self._signals and not self.is_deferring:
            raise InterruptedBySignalError(self._signals[0])

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Keep signals from interrupting the body."""
        outer, self.is_deferring = self.is_deferring, True
        try:
            yield
        finally:
            self.is_deferring = outer

    def _catch(self, number: int, _frame: object) -> None:
        self._signals.append(number)
