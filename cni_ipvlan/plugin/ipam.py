"""The IPAM plugin, asked within a transaction."""

from __future__ import annotations

from shlex import join

from cni_ipvlan._namedtuple import TYPE_CHECKING, NamedTuple
from cni_ipvlan.cni import delegate
from cni_ipvlan.cni.errors import DELEGATE_FAILED, CniError
from cni_ipvlan.iproute.transaction import Program

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from cni_ipvlan.cni.request import Request
    from cni_ipvlan.cni.result import Result
    from cni_ipvlan.iproute.runner import Completed
    from cni_ipvlan.iproute.transaction import Transaction, Undo

    T = TypeVar("T")

_PURPOSES = {
    "ADD": "allocate addresses",
    "DEL": "release the addresses",
    "CHECK": "check the addresses",
    "STATUS": "ask for readiness",
    "GC": "release the addresses of no valid attachment",
}
_ALLOCATE_NOTHING = ("static",)  # plugins that answer from the configuration alone


class Ipam(NamedTuple):
    """The plugin of that name, for a request; ``warn`` is told what it writes to stderr.

    Both methods raise CniError: the plugin's own, or what is wrong with it.
    """

    name: str
    request: Request
    warn: Callable[[str], None]

    def allocate(self, tx: Transaction, foreseen: Result) -> Result:
        """Return what it allocates; ``foreseen`` is for who does not ask it."""
        return self._ask(
            tx,
            "ADD",
            lambda answer: delegate.result(self.name, answer, self.request.version),
            foreseen,
            (self._program("DEL").as_undo(),),
        )

    def call(self, tx: Transaction, command: str) -> None:
        """Delegate a command that has no result."""
        self._ask(tx, command, lambda answer: delegate.check(self.name, answer), None)

    def _ask(
        self,
        tx: Transaction,
        command: str,
        parse: Callable[[delegate.Answer], T],
        foreseen: T,
        undo: tuple[Undo, ...] = (),
    ) -> T:
        program = self._program(command)

        def read(completed: Completed) -> T:
            said = completed.stderr.decode("utf-8", "replace").strip()
            if said:
                self.warn(said)
            if completed.killed_because:
                raise CniError(
                    DELEGATE_FAILED,
                    f"the plugin {self.name!r} was killed: {completed.killed_because}",
                )
            answer = delegate.Answer(completed.status, completed.stdout, completed.stderr)
            try:
                return parse(answer)
            except CniError as error:
                error.add_details(f"command: {join(program.whole())}")
                advice = delegate.advice(self.request, self.name, error)
                if advice:
                    error.add_details(f"try: {advice}")
                raise

        purpose = f"{_PURPOSES[command]} with {self.name}"
        return tx.ask(program, read, foreseen=foreseen, purpose=purpose, undo=undo)

    def _program(self, command: str) -> Program:
        call = delegate.call(self.request, self.name, command)
        parameters = {
            key: value for key, value in call.environment.items() if key.startswith("CNI_")
        }
        changes_nothing = self.name in _ALLOCATE_NOTHING
        return Program(call.argv, call.environment, call.stdin, parameters, changes_nothing)
