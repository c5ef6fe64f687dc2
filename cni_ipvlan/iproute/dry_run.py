"""The same story, told and not executed: queries run, changes are written down."""

from __future__ import annotations

from shlex import join

from cni_ipvlan._namedtuple import TYPE_CHECKING, NamedTuple
from cni_ipvlan.iproute import causes
from cni_ipvlan.iproute.commands import in_namespace
from cni_ipvlan.iproute.runner import CommandError
from cni_ipvlan.iproute.transaction import Transaction, nothing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeVar

    from cni_ipvlan.iproute.commands import Argv
    from cni_ipvlan.iproute.namespace import Namespace
    from cni_ipvlan.iproute.runner import Completed, Runner
    from cni_ipvlan.iproute.transaction import Change, Program, Undo

    T = TypeVar("T")


class Step(NamedTuple):
    """One change that would be made, as a whole argument vector.

    ``is_needed`` is false where the plugin goes on if it fails, ``was_run`` true
    for a program that changes nothing and so was really asked.
    """

    argv: Argv
    namespace: str
    purpose: str
    stdin: bytes = b""
    parameters: Mapping[str, str] | None = None
    undo: tuple[Argv, ...] = ()
    is_needed: bool = True
    was_run: bool = False


class Script:
    """What a rehearsal writes down: the steps in order, and what it had to assume."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.assumptions: list[str] = []


class Rehearsal(Transaction):
    """A transaction that changes nothing. What may not be looked at is assumed to be empty."""

    def __init__(self, runner: Runner, script: Script) -> None:
        super().__init__(runner)
        self._script = script

    def read(
        self, argv: Argv, *, inside: Namespace | None = None, absent_ok: bool = False
    ) -> bytes:
        """Run a query; one that is not permitted shows nothing."""
        try:
            return super().read(argv, inside=inside, absent_ok=absent_ok)
        except CommandError as error:
            self._assume(error, "nothing")
            return nothing(argv)

    def look(
        self,
        argv: Argv,
        parse: Callable[[bytes], T],
        *,
        unseen: T,
        inside: Namespace | None = None,
    ) -> T:
        """Run a query; one that is not permitted comes to ``unseen``."""
        try:
            output = super().read(argv, inside=inside)
        except CommandError as error:
            self._assume(error, "what is expected there")
            return unseen
        return parse(output)

    def _assume(self, error: CommandError, shown: str) -> None:
        if causes.explain(error.argv, error.answer).kind != causes.NOT_PERMITTED:
            raise error
        self._script.assumptions.append(
            f"{join(error.argv)} shows {shown} (it is not permitted to look)"
        )

    def read_all(self, queries: Sequence[Argv], *, inside: Namespace | None = None) -> list[bytes]:
        """Run queries, each for itself: one may be permitted and another not."""
        return [self.read(argv, inside=inside) for argv in queries]

    def run_all(
        self,
        changes: Sequence[Change],
        query: Argv,  # noqa: ARG002 - Transaction's
        parse: Callable[[bytes], T],  # noqa: ARG002 - Transaction's
        *,
        foreseen: T,
        inside: Namespace | None = None,
    ) -> T:
        """Write changes down, and return what is foreseen."""
        for change in changes:
            self._write_down(change.argv, inside, change.purpose)
        return foreseen

    def on_unwind(self, action: Callable[[], None]) -> None:
        """There will be nothing to clean up."""

    def run(
        self,
        argv: Argv,
        *,
        purpose: str,
        inside: Namespace | None = None,
        stdin: bytes = b"",
        undo: tuple[Undo, ...] = (),
        absent_ok: bool = False,  # noqa: ARG002 - Transaction's
    ) -> None:
        """Write a change down."""
        self._write_down(argv, inside, purpose, stdin, undo)

    def try_run(
        self, argv: Argv, *, purpose: str, inside: Namespace | None = None, stdin: bytes = b""
    ) -> str:
        """Write a change down that may fail."""
        self._write_down(argv, inside, purpose, stdin)
        self._script.steps[-1] = self._script.steps[-1]._replace(is_needed=False)
        return ""

    def ask(
        self,
        program: Program,
        parse: Callable[[Completed], T],
        *,
        foreseen: T,
        purpose: str,
        undo: tuple[Undo, ...] = (),
    ) -> T:
        """Run a program that changes nothing; of others, write the call down."""
        self._script.steps.append(
            Step(
                program.argv,
                "",
                purpose,
                program.stdin,
                program.parameters,
                tuple(each.whole() for each in undo),
                was_run=program.changes_nothing,
            )
        )
        if program.changes_nothing:
            return super().ask(program, parse, foreseen=foreseen, purpose=purpose)
        return foreseen

    def wait(
        self,
        argv: Argv,  # noqa: ARG002 - Transaction's
        until: Callable[[bytes], bool],  # noqa: ARG002 - Transaction's
        *,
        purpose: str,
        seconds: float,  # noqa: ARG002 - Transaction's
        in_shell: Argv,
        inside: Namespace | None = None,
    ) -> bytes:
        """Write the wait down; nothing is there to be waited for."""
        self._write_down(in_shell, inside, purpose)
        return b""

    def _write_down(
        self,
        argv: Argv,
        inside: Namespace | None,
        purpose: str,
        stdin: bytes = b"",
        undo: tuple[Undo, ...] = (),
    ) -> None:
        self._script.steps.append(
            Step(
                in_namespace(inside, argv),
                inside.path if inside else "",
                purpose,
                stdin,
                undo=tuple(each.whole() for each in undo),
            )
        )
