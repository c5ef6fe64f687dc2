"""Run the IPAM plugin within a transaction."""

from __future__ import annotations

from shlex import join

from cni_ipvlan._namedtuple import TYPE_CHECKING, NamedTuple
from cni_ipvlan.cni import delegate
from cni_ipvlan.cni.errors import DELEGATE_FAILED, CniError
from cni_ipvlan.iproute.commands import Command

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from cni_ipvlan.cni.request import Request
    from cni_ipvlan.cni.result import Result
    from cni_ipvlan.iproute.transaction import Transaction

    T = TypeVar("T")

_PURPOSES = {
    "ADD": "allocate addresses",
    "DEL": "release the addresses",
    "CHECK": "check the addresses",
    "STATUS": "check readiness",
    "GC": "release addresses without a valid attachment",
}
_HAS_LEASE = "duplicate allocation is not allowed"  # host-local: the attachment has a lease
_ALLOCATE_NOTHING = ("static",)  # plugins whose result depends only on the configuration


class Ipam(NamedTuple):
    """The IPAM plugin ``name``, for a request; ``warn`` is called with its stderr.

    Both methods raise CniError: the plugin's own, or one about running it.
    """

    name: str
    request: Request
    warn: Callable[[str], None]

    def allocate(self, tx: Transaction, *, has_older: bool) -> Result | None:
        """Return what it allocates, or None if it was not run (in a dry run).

        If it fails, it is asked to release (SPEC.md, "Delegated plugins"), but not an older
        allocation of the same attachment: ``has_older`` is whether there is one.
        """
        kept = False
        version = self.request.version
        release = self._command("DEL")._replace(purpose="", only_if=lambda: not kept)
        try:
            return self._run(
                tx,
                self._command("ADD")._replace(undo=(release,)),
                lambda answer: delegate.result(self.name, answer, version),
            )
        except CniError as error:
            kept = has_older or _HAS_LEASE in error.msg
            raise

    def call(self, tx: Transaction, verb: str) -> None:
        """Delegate a verb that has no result."""
        self._run(tx, self._command(verb), lambda answer: delegate.check(self.name, answer))

    def _run(
        self, tx: Transaction, command: Command, parse: Callable[[delegate.Answer], T]
    ) -> T | None:
        completed = tx.do(command)
        if completed is None:
            return None
        stderr = completed.stderr.decode("utf-8", "replace").strip()
        if not completed.was_run:
            raise delegate.not_executed(stderr, command.argv[0])
        if stderr:
            self.warn(stderr)
        if completed.killed_because:
            raise CniError(
                DELEGATE_FAILED,
                f"the plugin {self.name!r} was killed: {completed.killed_because}",
            )
        try:
            return parse(delegate.Answer(completed.status, completed.stdout, completed.stderr))
        except CniError as error:
            from cni_ipvlan.plugin import explain

            error.add_details(f"command: {join(command.full_argv)}")
            for advice in explain.advice(self.request, self.name, error):
                error.add_details(f"try: {advice}")
            raise

    def _command(self, verb: str) -> Command:
        environment = delegate.environment(self.request, verb)
        return Command(
            (delegate.find(self.name, self.request.path),),
            f"{_PURPOSES[verb]} with {self.name}",
            stdin=self.request.stdin,
            environment=environment,
            parameters={key: environment[key] for key in environment if key.startswith("CNI_")},
            any_status=True,
            changes_nothing=self.name in _ALLOCATE_NOTHING,
        )
