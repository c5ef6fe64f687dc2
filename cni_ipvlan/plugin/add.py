"""ADD: attach a container, with the commands a person would type."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

from cni_ipvlan.cni.errors import INVALID_CONFIGURATION, INVALID_ENVIRONMENT, CniError
from cni_ipvlan.cni.request import Request, pod
from cni_ipvlan.config.netconf import NetConf
from cni_ipvlan.iproute import commands, namespace
from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.iproute.namespace import Namespace
from cni_ipvlan.iproute.runner import CommandError
from cni_ipvlan.iproute.running import Running
from cni_ipvlan.plugin import configure, features, ipam, links, master, modes
from cni_ipvlan.plugin.codes import COMMAND_FAILED, INTERFACE_NAME_TAKEN
from cni_ipvlan.plugin.find_master import find_master
from cni_ipvlan.plugin.master import Master
from cni_ipvlan.plugin.node import Call, Node, id_of
from cni_ipvlan.start.namedtuple import TYPE_CHECKING
from cni_ipvlan.state.attachment import Record

if TYPE_CHECKING:
    from cni_ipvlan.cni.result import Result
    from cni_ipvlan.plugin.addressing import Addressing


def add(node: Node, request: Request, deliver: Callable[[Result], None]) -> None:
    """Attach a container; ``deliver`` gets the result while everything can still be undone."""
    conf = node.configuration(request)
    if not conf.ipam_type and conf.prev_result is None:
        raise CniError(
            INVALID_CONFIGURATION, "ipam must be given, with a type, unless the plugin is chained"
        )
    with (
        _explained(node) as masters,
        node.attachment(request, strict=True),
        node.call(request) as call,
    ):
        tx, netns = call.tx, call.container()
        has_record = _check_not_attached(call)
        session = configure.query_links(tx, request.ifname, netns)
        parent = find_master(tx, conf, netns)
        links.check_name_is_free(call, netns, tx.finish(session).stdout)
        chosen = features.configured(conf)
        with ExitStack() as held:
            for feature in chosen:
                parent = feature.prepare(call, parent, conf, held)
            master.check_master(parent, conf)
            if not parent.link.is_up:
                call.warn(master.is_down(parent))
            masters.append(parent)
            # Recorded before it is created, it needs no lock while the kernel creates it.
            record = _record(request, conf, netns, parent)
            moving: Running | None = None
            tx.on_failure(lambda: _withdraw(call, record, has_moved=moving is not None))
            waiting = node.while_locked(f"the master {parent.link.name}")
            modes.reserve_mode(tx, call.registry, parent, record, waiting)
        moving = _create_link(call, conf, parent, netns, record)
        addressing = _allocate(call, conf, parent, netns, moving, has_record=has_record)
        for feature in chosen:
            addressing = feature.extend(tx, addressing, parent, conf)
        link, present = configure.configure(call, conf, netns, parent, addressing)
        result = addressing.result(link, request.netns, present)
        _check_same(request, netns)
        for feature in chosen:
            record = feature.apply(call, parent, record, addressing)
        record = record._replace(parent_netns=link.parent_netns)
        record = node.registry.finish(record, link.ifindex)
        deliver(result)


def _check_not_attached(call: Call) -> bool:
    """Raise CniError if the attachment exists already; return whether there is a record of it.

    What a killed ADD left is removed, as DEL does: its result was never delivered.
    """
    records = call.registry.records_of(call.attachment)
    complete = [record for record in records if record.is_complete]
    found = next(filter(None, (links.find(call.tx, record) for record in complete)), None)
    where = f"{found[1].name} in {found[0].path}" if found else ""
    if complete and not found:
        from cni_ipvlan.plugin import inventory

        moved = inventory.labelled(call.tx, call.registry, call.attachment)
        where = next((each.describe() for each in moved), "")
    if where:
        raise CniError(
            INTERFACE_NAME_TAKEN,
            f"the container already has an interface {call.request.ifname!r}, added before",
            f"it is {where}\ntry: delete that attachment first",
        )
    if len(complete) < len(records):
        from cni_ipvlan.plugin.delete import detach

        detach(call)
    else:
        for below in (False, True):
            features.release(call, call.attachment, records, below=below)
    return bool(complete)


def _record(request: Request, conf: NetConf, netns: Namespace, parent: Master) -> Record:
    return Record(
        *id_of(request),
        request.netns,
        netns.identity,
        conf.mode,
        conf.flag,
        pod=pod(request.environment),
        master=parent.key,
        vlan=parent.own_vlan,
    )


def _create_link(
    call: Call, conf: NetConf, parent: Master, netns: Namespace, record: Record
) -> Running:
    """Create the link, and start to move it into the container.

    That takes 20 ms, in which the kernel waits for its readers (RCU).
    """
    tx, attachment = call.tx, record.attachment
    temporary = links.temporary_name(attachment.key)
    tx.run(
        Command(
            commands.link_add_ipvlan(parent.link.name, temporary, conf.mode, conf.flag, conf.mtu),
            f"create an ipvlan interface of {parent.link.name}",
            netns=parent.netns,
            undo=(links.removal(tx, temporary, parent.netns),),
        )
    )
    undo = [links.removal_after_move(tx, attachment, netns, parent.netns)]
    named = ("name", record.ifname, "alias", attachment.label)
    if conf.link_in_container:
        argv = commands.link_set(temporary, *named)
        purpose = f"name it {record.ifname}"
    else:
        argv = commands.link_set(temporary, "netns", netns.path, *named)
        purpose = f"move it into the container as {record.ifname}"
        undo.insert(0, links.removal(tx, temporary, netns))
    return tx.start(Command(argv, purpose, netns=parent.netns, undo=tuple(undo)))


def _withdraw(call: Call, record: Record, *, has_moved: bool) -> None:
    """Remove the record after everything else was undone; the master keeps its mode if need be.

    That is if its link was moved, and neither is there nor was seen to go. An earlier ADD's record
    with routes of the host stays, as its addresses may still be allocated.
    """
    tx, names = call.tx, (links.temporary_name(record.attachment.key), record.ifname)
    if links.is_there(tx, record):
        raise CniError(COMMAND_FAILED, "an interface of the attachment remains; DEL removes it")
    is_unseen = has_moved and not any(commands.link_delete(name) in tx.undone for name in names)
    own = record._replace(host_routes=())
    for key in call.registry.remove(own, is_unseen=is_unseen):
        modes.settle(call, key, is_ending=not record.has_container)


def _allocate(
    call: Call,
    conf: NetConf,
    parent: Master,
    netns: Namespace,
    moving: Running,
    *,
    has_record: bool,
) -> Addressing:
    """Let the IPAM plugin allocate addresses while the link is moved, and wait for both."""
    tx = call.tx
    asking: AbstractContextManager[None] = nullcontext()
    if ipam.needs_link(conf.ipam_type):
        from cni_ipvlan.plugin import dhcp

        tx.finish(moving)
        asking = dhcp.asking(call, parent, netns)
    with asking:
        allocating = None
        if conf.ipam_type:
            allocating = ipam.allocate(call, conf.ipam_type, has_older=has_record)

        # Importing these takes time, too.
        from cni_ipvlan.plugin.addressing import addressing_of, check_not_of_host

        addressing = addressing_of(conf, parent, allocating() if allocating else None)
        check_not_of_host(tx, parent, addressing.addresses)
        tx.finish(moving)
    return addressing


def _check_same(request: Request, netns: Namespace) -> None:
    """Raise CniError if CNI_NETNS leads to another namespace now, where the link is not."""
    if not namespace.leads_to(request.netns, netns.identity):
        raise CniError(
            INVALID_ENVIRONMENT,
            f"CNI_NETNS is {request.netns!r}; it leads to another namespace than at the start",
            "the container may have ended meanwhile",
            subject="CNI_NETNS",
        )


@contextmanager
def _explained(node: Node) -> Iterator[list[Master]]:
    """On a failure, search for conflicting interfaces, after all locks are released."""
    masters: list[Master] = []
    try:
        yield masters
    except CniError as failure:
        cause = failure.__cause__
        if masters and isinstance(cause, CommandError):
            from cni_ipvlan.plugin import explain

            for each in explain.elsewhere(cause, node.begin(), node.registry, masters[0]):
                failure.add_private(f"found: {each}")
        raise
