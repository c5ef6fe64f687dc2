"""Configure a new link in the container: add addresses, bring it up, add routes."""

from __future__ import annotations

from collections.abc import Sequence

from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.config.netconf import NetConf
from cni_ipvlan.iproute import commands, queries
from cni_ipvlan.iproute.commands import Command, Undo, batch
from cni_ipvlan.iproute.namespace import Namespace
from cni_ipvlan.iproute.queries import Address, Link
from cni_ipvlan.iproute.runner import CommandError
from cni_ipvlan.iproute.running import Running
from cni_ipvlan.iproute.transaction import Transaction
from cni_ipvlan.plugin.codes import ADDRESS_IN_USE
from cni_ipvlan.plugin.ipam import needs_link
from cni_ipvlan.plugin.master import Master
from cni_ipvlan.plugin.node import Call
from cni_ipvlan.start.namedtuple import TYPE_CHECKING

if TYPE_CHECKING:
    from cni_ipvlan.plugin.addressing import Addressing

_DUPLICATE_DETECTION_SECONDS = 5
_AT_ONCE = 16  # questions by ARP, each a process
_OF_ANOTHER_HOST = (
    "try: give the container another address, or keep that one out of the IPAM plugin's range; "
    "ip neighbour or the switch's MAC table says who has it"
)


def query_links(tx: Transaction, name: str, netns: Namespace) -> Running:
    """Start the query for all links in a container, whose process stays to configure one."""
    change = batch(*_and_show([_announcement(name)], name, netns))
    return tx.start(Command(commands.link_show(), netns=netns), then=change)


def configure(
    call: Call, conf: NetConf, netns: Namespace, parent: Master, addressing: Addressing
) -> tuple[Link, list[str]]:
    """Configure the link of a master; return it and its addresses as the kernel reports them.

    In a dry run, that is what is expected. Raises CniError if another host uses an address.
    """
    tx, name = call.tx, call.request.ifname
    if addressing.is_conflict_likely:
        _check_ipv4_conflict(tx, parent, addressing)
    if addressing.has_ipv6:
        _enable_ipv6(tx, name, netns)
    try:
        done = tx.run_batch(*_and_show(_changes(conf, name, parent, addressing), name, netns))
    except CommandError as error:
        from cni_ipvlan.plugin import explain

        error.findings += explain.in_container(error, tx, netns)  # before anything is undone
        raise
    if done.stderr:
        why = done.stderr.decode("utf-8", "replace").strip()
        call.warn(f"new addresses may not be announced to neighbours: {why}")
    if addressing.has_ipv6:
        _wait_for_ipv6(tx, name, netns, addressing)
        done = tx.run(*_and_show([], name, netns))
    if done.is_assumed:
        expected = parent.link._replace(name=name, mtu=conf.mtu or parent.link.mtu)
        return expected, [each.address for each in addressing.addresses]
    link = queries.links(done.stdout)[0]
    _check_duplicates(call, addressing, link.addresses)
    return link, [each.address for each in link.addresses]


def _changes(conf: NetConf, name: str, parent: Master, addressing: Addressing) -> list[Command]:
    """Return what a link needs, in order."""
    changes = [
        _announcement(name),
        *(
            Command(commands.address_add(each.address, name), f"add the address {each.address}")
            for each in addressing.addresses
        ),
        Command(commands.link_set(name, "up"), "bring it up"),
    ]
    if needs_link(conf.ipam_type):
        # It is up. Not taken down for it: DHCP could not release the address if this failed.
        announced = commands.link_set(name, *commands.ANNOUNCE)
        changes.append(Command(announced, "announce its addresses"))
    for address in addressing.neighbours:
        argv = commands.neighbour_replace(address, parent.link.mac, name)
        changes.append(Command(argv, f"let it reach {address}, the host's"))
    for route in addressing.routes:  # at once, before a router's advertisement makes the same one
        argv = commands.route_add(name=name, **route._asdict())
        changes.append(Command(argv, f"add the route to {route.dst}"))
    return changes


def _wait_for_ipv6(tx: Transaction, name: str, netns: Namespace, addressing: Addressing) -> None:
    ours = [each.ip for each in addressing.addresses if each.is_ipv6]
    argv = commands.wait_for_ipv6(name, _DUPLICATE_DETECTION_SECONDS, ours)
    purpose = "wait for IPv6 duplicate address detection"
    wait = Command(argv, purpose, netns, accept=commands.ANY)
    waited = tx.run(wait)
    if waited.status not in (0, commands.FOUND_DUPLICATE):  # which is found again now
        raise CommandError(wait, waited)


def _check_ipv4_conflict(tx: Transaction, parent: Master, addressing: Addressing) -> None:
    """Raise CniError if another host on the master's network uses one of the IPv4 addresses.

    It is asked from the master: an ipvlan interface does not get the answers to a question
    that has no sender's address.
    """
    addressing.check_count("checkIPv4Conflict")
    questions = [
        Command(
            commands.arping_duplicate(each.ip, parent.link.name),
            f"check that no other host uses {each.address}",
            parent.netns,
            accept=commands.ANY,
        )
        for each in addressing.addresses
        if not each.is_ipv6
    ]
    for first in range(0, len(questions), _AT_ONCE):
        for asked in [tx.start(each) for each in questions[first : first + _AT_ONCE]]:
            done = tx.finish(asked)
            if done.status == 0:
                continue
            if done.status != commands.DUPLICATE_ANSWERED:
                raise CommandError(asked.command, done)
            raise CniError(
                ADDRESS_IN_USE,
                f"another host on the network already uses {asked.command.argv[-1]}; "
                f"its MAC address is {queries.answering_mac(done.stdout)}",
                "found by ARP, since the network has checkIPv4Conflict, or hostAccess for an "
                f"address that the host knows\n{_OF_ANOTHER_HOST}",
            )


def _enable_ipv6(tx: Transaction, name: str, netns: Namespace) -> None:
    """Enable IPv6 if it is disabled; a link moved to a namespace has the namespace's default."""
    query = commands.sysctl_read(*map(commands.IPV6_OFF.format, ("lo", "default")))
    values = tx.run(Command(query, netns=netns)).stdout.split()
    for link, value in zip(("lo", name), values, strict=False):
        if value != b"0":
            argv = commands.sysctl_write(commands.IPV6_OFF.format(link))
            switch = Command(argv, netns=netns)
            undo = switch._replace(stdin=value + b"\n")
            purpose = f"enable IPv6 on {link}"
            tx.run(switch._replace(stdin=b"0\n", purpose=purpose, undo=(Undo(undo),)))


def _announcement(name: str) -> Command:
    """Return a command to let the kernel announce addresses, and keep those of a link that is down.

    A container works without it.
    """
    keys = (commands.ARP_NOTIFY, commands.NDISC_NOTIFY, commands.KEEP_IPV6)
    return Command(
        commands.sysctl_write(*(key.format(name) for key in keys)),
        "announce new addresses to neighbours, and keep IPv6 ones if it goes down",
        stdin=b"1\n",
        accept=commands.OPTIONAL,
    )


def _and_show(changes: Sequence[Command], name: str, netns: Namespace) -> list[Command]:
    """Return changes, and then ``address show``, in a namespace."""
    show = Command(commands.address_show(name))
    return [each._replace(netns=netns) for each in (*changes, show)]


def _check_duplicates(call: Call, addressing: Addressing, present: Sequence[Address]) -> None:
    wanted = {each.address for each in addressing.addresses}
    ours = [each for each in present if each.address in wanted]
    duplicates = [each.address for each in ours if each.is_duplicate]
    if duplicates:
        raise CniError(
            ADDRESS_IN_USE,
            f"another host on the network already uses {', '.join(duplicates)}",
            f"found by IPv6 duplicate address detection\n{_OF_ANOTHER_HOST}",
        )
    tentative = [each.address for each in ours if each.is_tentative]
    if tentative:
        call.warn(
            f"duplicate address detection of {', '.join(tentative)} has not finished after "
            f"{_DUPLICATE_DETECTION_SECONDS} s; does the master have a carrier?"
        )
