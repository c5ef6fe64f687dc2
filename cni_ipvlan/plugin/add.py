"""ADD: attach a container, with the commands a person would type."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

from cni_ipvlan.cni.errors import INVALID_CONFIGURATION, INVALID_ENVIRONMENT, CniError
from cni_ipvlan.cni.request import Request, pod
from cni_ipvlan.config.netconf import NetConf
from cni_ipvlan.iproute import commands, namespace
from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.iproute.namespace import Namespace
from cni_ipvlan.iproute.runner import CommandError
from cni_ipvlan.iproute.running import Running
from cni_ipvlan.iproute.transaction import Transaction
from cni_ipvlan.plugin import configure, features, links, master, modes, preflight
from cni_ipvlan.plugin.codes import COMMAND_FAILED, INTERFACE_NAME_TAKEN
from cni_ipvlan.plugin.find_master import find_master
from cni_ipvlan.plugin.ipam import Ipam, needs_link
from cni_ipvlan.plugin.master import Master
from cni_ipvlan.plugin.node import Node, id_of
from cni_ipvlan.start.namedtuple import TYPE_CHECKING
from cni_ipvlan.state.attachment import AttachmentId, Record

if TYPE_CHECKING:
    from cni_ipvlan.cni.result import Result
    from cni_ipvlan.plugin.addressing import Addressing


def add(node: Node, request: Request, deliver: Callable[[Result], None]) -> None:
    """Attach a container; ``deliver`` gets the result while everything can still be undone."""
    conf = node.configuration(request)
    if not conf.ipam_type and conf.prev_result is None:
        raise CniError(
            INVALID_CONFIGURATION,
            "ipam must be given, with a type, unless the plugin is chained",
        )
    with (
        _explained(node) as masters,
        node.attachment(request, strict=True),
        node.container(request) as container,
        ExitStack() as locks,  # that are held until all is done, or their part is undone
        node.transaction() as tx,
        _explained_in_place(tx, container),
    ):
        has_record = _check_not_attached(node, tx, request)
        visiting = tx.start(configure.visit(request.ifname, container))
        parent = find_master(tx, conf, container)
        record = _record(request, conf, container)
        preflight.check_name_is_free(
            node.registry, id_of(request), container, tx.finish(visiting).stdout
        )
        chosen = features.configured(conf)
        for feature in chosen:
            parent = feature.prepare(node, tx, parent, conf, record)
        master.check_master(parent, conf)
        if not parent.link.is_up:
            node.warn(master.is_down(parent))
        masters.append(parent)

        # Recorded before it is created, it needs no lock while the kernel creates it.
        tx.on_failure(lambda: _withdraw(node, tx, record))
        moving = _create_link(node, tx, conf, parent, container, record)
        addressing = _allocate(
            node, tx, request, conf, parent, container, moving, has_record=has_record
        )
        is_conflict_likely = conf.check_ipv4_conflict
        for feature in chosen:
            addressing = feature.extend(addressing, parent, conf)
            is_conflict_likely |= feature.check_permitted(tx, parent, addressing)
        if is_conflict_likely:
            configure.check_ipv4_conflict(tx, parent, addressing)
        expected = parent.slave_link(request.ifname, conf)
        is_up = needs_link(conf.ipam_type)
        link, present = configure.configure(
            tx, request.ifname, container, addressing, expected, visiting, node.warn, is_up=is_up
        )
        result = addressing.result(link, request.netns, present)
        _check_same(request, container)
        for feature in chosen:
            feature.apply(node, tx, parent, record, addressing, locks)
        record = record._replace(parent_netns=link.parent_netns)
        record = node.registry.complete(record, link.ifindex)
        deliver(result)


def _check_not_attached(node: Node, tx: Transaction, request: Request) -> bool:
    """Raise CniError if the attachment exists already; return whether there is a record of it.

    What a killed ADD left is removed, as DEL does: its result was never delivered.
    """
    attachment = id_of(request)
    records = node.registry.records_of(attachment)
    complete = [record for record in records if record.is_complete]
    place = _place_of(node, tx, attachment, complete) if complete else ""
    if place:
        raise CniError(
            INTERFACE_NAME_TAKEN,
            f"the container already has an interface {request.ifname!r}, added before",
            f"it is {place}\ntry: delete that attachment first",
        )
    if len(complete) < len(records):
        from cni_ipvlan.plugin.delete import detach

        detach(node, tx, request)
    else:
        for below in (False, True):
            features.release(node, tx, attachment, below=below)
    return bool(complete)


def _place_of(
    node: Node, tx: Transaction, attachment: AttachmentId, records: Sequence[Record]
) -> str:
    """Return where an attachment's interface is: where it is recorded, or was moved since."""
    found = next(filter(None, (links.find(tx, record) for record in records)), None)
    if found:
        place, link = found
        return f"{link.name} in {place.path}"
    from cni_ipvlan.plugin import inventory

    labelled = inventory.labelled(tx, node.registry, attachment)
    return next((each.describe() for each in labelled), "")


def _record(request: Request, conf: NetConf, container: Namespace) -> Record:
    return Record(
        *id_of(request),
        request.netns,
        container.identity,
        conf.mode,
        conf.flag,
        pod=pod(request.environment),
    )


def _create_link(
    node: Node,
    tx: Transaction,
    conf: NetConf,
    parent: Master,
    container: Namespace,
    record: Record,
) -> Running:
    """Create the link, and start to move it into the container.

    That takes 20 ms, in which the kernel waits for its readers (RCU).
    """
    attachment = record.attachment
    waiting = node.while_locked(f"the master {parent.link.name}")
    modes.reserve_mode(tx, node.registry, parent, record, waiting)
    temporary = links.temporary_name(attachment.key)
    tx.run(
        Command(
            commands.link_add_ipvlan(parent.link.name, temporary, conf.mode, conf.flag, conf.mtu),
            f"create an ipvlan interface of {parent.link.name}",
            inside=parent.home,
            undo=(links.removal(tx, temporary, parent.home),),
        )
    )
    tx.on_failure(lambda: _keep_mode(node, tx, record, waiting))
    undo = [links.removal_after_move(tx, attachment, container, parent.home)]
    if conf.link_in_container:
        argv = commands.link_set_name(temporary, record.ifname, attachment.label)
        purpose = f"name it {record.ifname}"
    else:
        argv = commands.link_set_netns(temporary, container, record.ifname, attachment.label)
        purpose = f"move it into the container as {record.ifname}"
        undo.insert(0, links.removal(tx, temporary, container))
    return tx.start(Command(argv, purpose, inside=parent.home, undo=tuple(undo)))


def _withdraw(node: Node, tx: Transaction, record: Record) -> None:
    """Remove the record, but not one of an earlier ADD, whose addresses may still be allocated."""
    if links.is_there(tx, record):
        raise CniError(COMMAND_FAILED, "an interface of the attachment remains; DEL removes it")
    node.registry.withdraw(record)


def _keep_mode(node: Node, tx: Transaction, record: Record, waiting: Callable[[], None]) -> None:
    """Keep the master's mode if the link that was created was not seen to be removed again."""
    names = (links.temporary_name(record.attachment.key), record.ifname)
    if any(commands.link_delete(name) in tx.undone for name in names) or links.is_there(tx, record):
        return
    is_ending = not namespace.leads_to(record.netns, record.netns_identity)
    for place in node.registry.withdraw(record, is_unseen=True):
        modes.settle(tx, node.registry, place, waiting, is_ending=is_ending)


def _allocate(
    node: Node,
    tx: Transaction,
    request: Request,
    conf: NetConf,
    parent: Master,
    container: Namespace,
    moving: Running,
    *,
    has_record: bool,
) -> Addressing:
    """Let the IPAM plugin allocate addresses while the link is moved, and wait for both."""
    asking: AbstractContextManager[None] = nullcontext()
    if needs_link(conf.ipam_type):
        from cni_ipvlan.plugin import dhcp

        tx.finish(moving)
        asking = dhcp.asking(tx, request.ifname, container)
    with asking:
        ipam = Ipam(conf.ipam_type, request, node.warn)
        allocating = ipam.allocate(tx, has_older=has_record) if conf.ipam_type else None

        # Importing these takes time, too.
        from cni_ipvlan.plugin.addressing import addressing_of, check_not_of_host

        allocated = (allocating() or node.ipam_result) if allocating else None
        addressing = addressing_of(conf, parent, allocated)
        check_not_of_host(tx, parent, addressing.addresses)
        tx.finish(moving)
    return addressing


def _check_same(request: Request, container: Namespace) -> None:
    """Raise CniError if CNI_NETNS leads to another namespace now, where the link is not."""
    if not namespace.leads_to(request.netns, container.identity):
        raise CniError(
            INVALID_ENVIRONMENT,
            f"CNI_NETNS is {request.netns!r}; it leads to another namespace than at the start",
            "the container may have ended meanwhile",
            subject="CNI_NETNS",
        )


@contextmanager
def _explained_in_place(tx: Transaction, container: Namespace) -> Iterator[None]:
    """On a failure, examine the container before the changes are undone."""
    try:
        yield
    except CommandError as error:
        from cni_ipvlan.plugin import explain

        error.found += explain.in_container(error, tx, container)
        raise


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
