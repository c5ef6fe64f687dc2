"""The ipvlan links of a place: those there are, those that a killed call left, their end.

A place is a network namespace, None the plugin's own. Never is a link touched
that is of another kind.
"""

from __future__ import annotations

from cni_ipvlan._namedtuple import TYPE_CHECKING
from cni_ipvlan.iproute import commands, namespace, queries
from cni_ipvlan.iproute.commands import in_namespace
from cni_ipvlan.iproute.runner import CommandError
from cni_ipvlan.iproute.transaction import Undo, is_absent
from cni_ipvlan.state.registry import KEY_CHARACTERS, network_key

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from cni_ipvlan.iproute.namespace import Namespace
    from cni_ipvlan.iproute.runner import Runner
    from cni_ipvlan.iproute.transaction import Transaction

_PREFIX = "iv"  # with the characters of a key it makes 15 bytes, as many as a name may have


def temporary_name(key: str) -> str:
    """Return the name that an attachment's link has until it is in the container."""
    return _PREFIX + key


def delete(
    tx: Transaction, names: Collection[str], place: Namespace | None, expected: str = ""
) -> None:
    """Delete the links of these names; ``expected`` is there for who may not look."""
    unseen = [expected] if expected else []
    for name in tx.look(commands.link_show_kind("ipvlan"), _names, unseen=unseen, inside=place):
        if name in names:
            tx.run(
                commands.link_delete(name),
                inside=place,
                purpose=f"remove the interface {name}",
                absent_ok=True,
            )


def delete_temporary(tx: Transaction, name: str) -> None:
    """Delete a link that a killed call left on the host."""
    if namespace.own_has_link(name):
        delete(tx, (name,), None)


def left_behind(tx: Transaction, network: str) -> Iterator[str]:
    """Yield the keys of a network's attachments whose link is, or still is, on the host."""
    prefix = _PREFIX + network_key(network)
    for name in _names(tx.read(commands.link_show_kind("ipvlan"))):
        if name.startswith(prefix) and len(name) == len(_PREFIX) + KEY_CHARACTERS:
            yield name.removeprefix(_PREFIX)


def is_in(tx: Transaction, name: str, place: Namespace) -> bool:
    """Whether a link of that name is in a place."""
    return name in _names(tx.read(commands.link_show_kind("ipvlan"), inside=place))


def undo(runner: Runner, name: str, place: Namespace | None) -> Undo:
    """Delete a link that a step may have left, if it is there."""

    def is_there() -> bool:
        answer = runner.run(in_namespace(place, commands.link_show_kind("ipvlan")))
        if answer.status:
            if is_absent(answer):
                return False
            raise CommandError(answer)
        return name in _names(answer.stdout)

    return Undo(commands.link_delete(name), place, only_if=is_there)


def _names(output: bytes) -> list[str]:
    return [link.name for link in queries.links(output)]
