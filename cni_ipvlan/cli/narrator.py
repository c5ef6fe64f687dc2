"""What ``-v`` prints: each command before it runs, then its time; waits, too."""

from __future__ import annotations

from shlex import join
from typing import TYPE_CHECKING

from cni_ipvlan.cli.output import echo_err, styled
from cni_ipvlan.log import one_line

if TYPE_CHECKING:
    from cni_ipvlan.iproute.commands import Command
    from cni_ipvlan.iproute.running import Completed
    from cni_ipvlan.log import Log


class Narrator:
    """Prints on stderr what a call does, and logs it in ``log``, too.

    Commands may run side by side, so each has a number, with which all of its lines begin.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._running: dict[int, Command] = {}
        self._last = 0

    def command(self, command: Command, completed: Completed | None) -> None:
        """Print a command, as ``set -x`` does, or its time, and its status if it failed."""
        # A process that stays is asked one query, and may make a change later.
        shown = command.parts[0] if command.stays else command
        if completed is None:
            self._begin(shown)
        else:
            self._end(shown, completed)
        self._log.command(command, completed)

    def wait(self, text: str) -> None:
        """Print that the call has to wait."""
        echo_err(styled(one_line(text), err=True, fg="yellow"))
        self._log.wait(text)

    def warn(self, text: str) -> None:
        """Print a warning."""
        self._log.warn(text)

    def _begin(self, command: Command) -> None:
        self._last += 1
        self._running[self._last] = command
        purpose = f"  # {command.purpose}" if command.purpose else ""
        words = styled(one_line(f"+ {join(command.entered_argv)}"), err=True, fg="cyan")
        self._print(self._last, f"{words}{one_line(purpose)}")
        for line in command.batch_lines:
            self._print(self._last, f"    {one_line(line)}")
        for undo in command.undo:
            self._print(self._last, f"    undo: {one_line(join(undo.full_argv))}")

    def _end(self, command: Command, completed: Completed) -> None:
        numbers = (number for number, each in self._running.items() if each is command)
        number = next(numbers, None)
        if number is None:
            return  # a process that stayed, whose query was answered, and that had no more to do
        del self._running[number]
        time = f"{completed.seconds * 1000:.1f} ms"
        failed = styled(f", status {completed.status}", err=True, fg="red")
        self._print(number, f"  {time}{failed if completed.status else ''}")

    def _print(self, number: int, text: str) -> None:
        echo_err(f"[{number}] {text}")
