"""Configure a new link in the container: add addresses, bring it up, add routes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.config.netconf import NetConf
from cni_ipvlan.iproute import commands, queries
from cni_ipvlan.iproute.commands import Command, Undo, batch
from cni_ipvlan.iproute.namespace import Namespace
from cni_ipvlan.iproute.queries import Link
from cni_ipvlan.iproute.runner import CommandError
from cni_ipvlan.iproute.running import Running
from cni_ipvlan.iproute.transaction import Transaction
from cni_ipvlan.plugin import on_demand
from cni_ipvlan.plugin.codes import ADDRESS_IN_USE, COMMAND_FAILED
from cni_ipvlan.plugin.ipam import needs_link
from cni_ipvlan.plugin.master import Master
from cni_ipvlan.plugin.node import Call
from cni_ipvlan.start.namedtuple import TYPE_CHECKING

if TYPE_CHECKING:
    from cni_ipvlan.plugin.addressing import Addressing

_DUPLICATE_DETECTION_SECONDS = 5
_BATCH_SIZE = 16  # of questions by ARP, each a process
_DUPLICATE_ADVICE = (
    "try: give the container another address, or keep that one out of the IPAM plugin's range; "
    "ip neighbour or the switch's MAC table says who has it"
)


def query_links(tx: Transaction, name: str, netns: Namespace) -> Running:
    """Start the query for all links in a container, whose process stays to configure one."""
    change = batch(*_with_show([_announce_command(name)], name, netns))
    return tx.start(Command(commands.link_show(), netns=netns), then=change)


def configure(
    call: Call, conf: NetConf, netns: Namespace, master: Master, addressing: Addressing
) -> Link:
    """Configure the link of a master; return it as the kernel reports it, or a dry run expects it.

    Raises CniError if another host uses an address.
    """
    tx, name = call.tx, call.request.ifname
    if addressing.is_conflict_likely:
        check_ipv4_conflict(tx, master, addressing)
    if addressing.has_ipv6:
        _switch_off(tx, commands.IPV6_OFF, "enable IPv6 on", ("lo", name), netns)
    if addressing.leads_through_host:
        links = ("all", name)
        _switch_off(tx, commands.ACCEPT_REDIRECTS, "ignore ICMP redirects on", links, netns)
    try:
        changes = _link_changes(conf, name, master, addressing)
        completed = tx.run_batch(*_with_show(changes, name, netns))
    except CommandError as error:
        # It is asked before anything is undone.
        error.findings += on_demand.explain.explain_route(error, tx, netns)
        raise
    if completed.stderr:
        reason = completed.stderr.decode("utf-8", "replace").strip()
        call.warn(f"new addresses may not be announced to neighbours: {reason}")
    if addressing.has_ipv6:
        _wait_for_ipv6(tx, name, netns, addressing)
        if changes := [*_source_changes(name, netns, addressing)]:
            tx.run_batch(*changes)
        completed = tx.run(Command(commands.address_show(name), netns=netns))
    if completed.is_assumed:
        return master.link._replace(name=name, mtu=conf.mtu or master.link.mtu)
    link = queries.links(completed.stdout)[0]
    _check_addresses(call, addressing, link)
    return link


def _link_changes(
    conf: NetConf, name: str, master: Master, addressing: Addressing
) -> list[Command]:
    changes = [
        _announce_command(name),
        *(
            Command(commands.address_add(each.address, name), f"add the address {each.address}")
            for each in addressing.addresses
        ),
        Command(commands.link_set(name, "up"), "bring it up"),
    ]
    if needs_link(conf.ipam_type):
        # It is up already. It is not taken down, since DHCP could not release the address then.
        argv = commands.link_set(name, *commands.ANNOUNCE)
        changes.append(Command(argv, "announce its addresses"))
    for address in addressing.neighbours:
        argv = commands.neighbour_replace(address, master.link.mac, name)
        changes.append(Command(argv, f"let it reach {address}, the host's"))
    for route in addressing.routes_to_add:  # now, before a router's advertisement adds the same one
        argv = commands.route_add(name=name, **route._asdict())
        changes.append(Command(argv, f"add the route to {route.dst}"))
    return changes


def _source_changes(name: str, netns: Namespace, addressing: Addressing) -> Iterator[Command]:
    """Yield changes that have IPv6 packets for the host sent from an address that it can answer.

    It has no route to one of a router's advertisement. An address can be the source when it is no
    longer tentative.
    """
    source = next((each.ip for each in addressing.addresses if each.is_ipv6), "")
    hosts = {each for each in addressing.neighbours if ":" in each}
    for route in addressing.routes_to_add:
        if not hosts.isdisjoint((route.gateway, route.dst.partition("/")[0])):
            argv = commands.route_replace(name=name, source=source, **route._asdict())
            purpose = f"have it send to {route.dst} from {source}"
            yield Command(argv, purpose, netns, accept=commands.OPTIONAL)


def _wait_for_ipv6(tx: Transaction, name: str, netns: Namespace, addressing: Addressing) -> None:
    addresses = [each.ip for each in addressing.addresses if each.is_ipv6]
    argv = commands.wait_for_ipv6(name, _DUPLICATE_DETECTION_SECONDS, addresses)
    purpose = "wait for IPv6 duplicate address detection"
    command = Command(argv, purpose, netns, accept=commands.ANY)
    completed = tx.run(command)
    if completed.status not in (0, commands.FOUND_DUPLICATE):  # _check_addresses() names it
        raise CommandError(command, completed)


def check_ipv4_conflict(tx: Transaction, master: Master, addressing: Addressing) -> None:
    """Raise CniError if another host on the master's network uses one of the IPv4 addresses.

    The question is sent from the master, since an ipvlan interface does not get the answers to a
    question without a sender's address.
    """
    probes = [
        Command(
            commands.arping_duplicate(each.ip, master.link.name),
            f"check that no other host uses {each.address}",
            master.netns,
            accept=commands.ANY,
        )
        for each in addressing.addresses
        if not each.is_ipv6
    ]
    for first in range(0, len(probes), _BATCH_SIZE):
        for probe in [tx.start(each) for each in probes[first : first + _BATCH_SIZE]]:
            completed = tx.finish(probe)
            if completed.status == 0:
                continue
            if completed.status != commands.DUPLICATE_ANSWERED:
                raise CommandError(probe.command, completed)
            raise CniError(
                ADDRESS_IN_USE,
                f"another host on the network already uses {probe.command.argv[-1]}; "
                f"its MAC address is {queries.answering_mac(completed.stdout)}",
                "found by ARP, since the network has checkIPv4Conflict, or hostAccess for an "
                f"address that the host knows\n{_DUPLICATE_ADVICE}",
            )


def _switch_off(
    tx: Transaction, key: str, purpose: str, links: tuple[str, str], netns: Namespace
) -> None:
    """Write 0 to a kernel parameter of two links, where it is not.

    The second is the new one: a link moved to a namespace has the namespace's default.
    """
    query = commands.sysctl_read(*map(key.format, (links[0], "default")))
    values = tx.run(Command(query, netns=netns)).stdout.split()
    for link, value in zip(links, values, strict=False):
        if value != b"0":
            command = Command(commands.sysctl_write(key.format(link)), netns=netns)
            undo = (Undo(command._replace(stdin=value + b"\n")),)
            tx.run(command._replace(stdin=b"0\n", purpose=f"{purpose} {link}", undo=undo))


def _announce_command(name: str) -> Command:
    """Return a command to let the kernel announce addresses, and keep those of a link that is down.

    It may fail, since a container works without it.
    """
    keys = (commands.ARP_NOTIFY, commands.NDISC_NOTIFY, commands.KEEP_IPV6)
    return Command(
        commands.sysctl_write(*(key.format(name) for key in keys)),
        "announce new addresses to neighbours, and keep IPv6 ones if it goes down",
        stdin=b"1\n",
        accept=commands.OPTIONAL,
    )


def _with_show(changes: Sequence[Command], name: str, netns: Namespace) -> list[Command]:
    """Return changes, and then ``address show``, in a namespace."""
    show = Command(commands.address_show(name))
    return [each._replace(netns=netns) for each in (*changes, show)]


def _check_addresses(call: Call, addressing: Addressing, link: Link) -> None:
    present = {each.address: each for each in link.addresses}
    expected = [each.address for each in addressing.addresses]
    if missing := [each for each in expected if each not in present]:
        raise CniError(
            COMMAND_FAILED,
            f"cannot add addresses to the interface {link.name!r}: the kernel reported "
            f"no error, but these are missing: {', '.join(missing)}",
        )
    if duplicates := [each for each in expected if present[each].is_duplicate]:
        raise CniError(
            ADDRESS_IN_USE,
            f"another host on the network already uses {', '.join(duplicates)}",
            f"found by IPv6 duplicate address detection\n{_DUPLICATE_ADVICE}",
        )
    if tentative := [each for each in expected if present[each].is_tentative]:
        call.warn(
            f"duplicate address detection of {', '.join(tentative)} has not finished after "
            f"{_DUPLICATE_DETECTION_SECONDS} s; does the master have a carrier?"
        )
