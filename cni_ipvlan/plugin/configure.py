"""From a new link in the container to an interface that works: addresses, up, routes."""

from __future__ import annotations

from cni_ipvlan._namedtuple import TYPE_CHECKING
from cni_ipvlan.cni.errors import ADDRESS_IN_USE, CniError
from cni_ipvlan.iproute import commands, queries
from cni_ipvlan.iproute.transaction import Change, Undo

if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_ipvlan.cni.result import Route
    from cni_ipvlan.iproute.namespace import Namespace
    from cni_ipvlan.iproute.queries import Address, Link
    from cni_ipvlan.iproute.transaction import Transaction
    from cni_ipvlan.plugin.addressing import Addressing

_DUPLICATE_DETECTION_SECONDS = 5.0


def configure(
    tx: Transaction,
    name: str,
    container: Namespace,
    addressing: Addressing,
    foreseen: Link,
    warn: Callable[[str], None],
) -> tuple[Link, list[str]]:
    """Configure a link; return it as the kernel has it then, and its addresses.

    ``foreseen`` is the link as it should come out, for who makes no changes.
    Raises CniError when another host has one of the addresses.
    """
    if addressing.has_ipv6:
        _enable_ipv6(tx, name, container)
    _announce(tx, name, container, warn)
    changes = [
        Change(commands.address_add(each.address, name), f"add the address {each.address}")
        for each in addressing.addresses
    ]
    changes.append(Change(commands.link_set_up(name), "bring it up"))
    if addressing.has_ipv6:
        _change(tx, changes, name, container, addressing, foreseen)
        _wait_for_ipv6(tx, name, container, addressing, warn)
        changes = []
    changes += [_route(route, name) for route in addressing.routes]
    link, present = _change(tx, changes, name, container, addressing, foreseen)
    duplicates = addressing.duplicates(present)
    if duplicates:
        raise CniError(
            ADDRESS_IN_USE,
            f"another host on the network already uses {', '.join(duplicates)}",
            "found by IPv6 duplicate address detection",
        )
    return link, [each.address for each in present]


def _enable_ipv6(tx: Transaction, name: str, container: Namespace) -> None:
    """Switch IPv6 on where it is off; a link that came into a namespace has its default."""
    switches = (commands.ipv6_off("lo"), commands.ipv6_off("default"))
    values = tx.read(commands.sysctl_read(*switches), inside=container).split()
    for link, value in zip(("lo", name), values, strict=False):
        if value != b"0":
            switch = commands.sysctl_write(commands.ipv6_off(link))
            tx.run(
                switch,
                inside=container,
                stdin=b"0\n",
                purpose=f"switch IPv6 on for {link}",
                undo=(Undo(switch, container, value + b"\n"),),
            )


def _announce(
    tx: Transaction, name: str, container: Namespace, warn: Callable[[str], None]
) -> None:
    """Have the neighbours told of the addresses; a container without it still works."""
    why = tx.try_run(
        commands.sysctl_write(commands.arp_notify(name), commands.ndisc_notify(name)),
        inside=container,
        purpose="have neighbours told of new addresses",
        stdin=b"1\n",
    )
    if why:
        warn(f"neighbours will not be told of new addresses: {why}")


def _change(
    tx: Transaction,
    changes: list[Change],
    name: str,
    container: Namespace,
    addressing: Addressing,
    foreseen: Link,
) -> tuple[Link, list[Address]]:
    return tx.run_all(
        changes,
        commands.address_show(name),
        lambda output: (queries.links(output)[0], queries.addresses(output)),
        foreseen=(foreseen, [queries.Address(each.address) for each in addressing.addresses]),
        inside=container,
    )


def _wait_for_ipv6(
    tx: Transaction,
    name: str,
    container: Namespace,
    addressing: Addressing,
    warn: Callable[[str], None],
) -> None:
    output = tx.wait(
        commands.address_show(name),
        lambda answer: not addressing.tentative(queries.addresses(answer)),
        purpose="wait for IPv6 duplicate address detection",
        seconds=_DUPLICATE_DETECTION_SECONDS,
        in_shell=commands.wait_for_ipv6(name, _DUPLICATE_DETECTION_SECONDS),
        inside=container,
    )
    tentative = addressing.tentative(queries.addresses(output))
    if tentative:
        warn(
            f"duplicate address detection of {', '.join(tentative)} has not ended after "
            f"{_DUPLICATE_DETECTION_SECONDS:.0f} s; is the master's carrier missing?"
        )


def _route(route: Route, name: str) -> Change:
    argv = commands.route_add(
        route.dst,
        name,
        gateway=route.gateway,
        table=route.table,
        priority=route.priority,
        scope=route.scope,
        mtu=route.mtu,
        advmss=route.advmss,
    )
    return Change(argv, f"add the route to {route.dst}")
