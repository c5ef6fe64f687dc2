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
from cni_ipvlan.plugin import configure, features, ipam, links, modes, on_demand
from cni_ipvlan.plugin.codes import COMMAND_FAILED, INTERFACE_NAME_TAKEN
from cni_ipvlan.plugin.find_master import find_master
from cni_ipvlan.plugin.master import Master, check_master, describe_down
from cni_ipvlan.plugin.node import Call, Node, attachment_id
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
        _explain_conflicts(node) as masters,
        node.lock_attachment(request, strict=True),
        node.call(request) as call,
    ):
        tx, netns = call.tx, call.container()
        old_records = _check_not_attached(call)
        session = configure.query_links(tx, request.ifname, netns)
        master = find_master(tx, conf, netns)
        links.check_name_is_free(call, netns, tx.finish(session).stdout)
        network_features = features.load_features(conf).values()
        with ExitStack() as locks:
            for feature in network_features:
                master = feature.prepare(call, master, conf, locks)
            check_master(master, conf)
            if not master.link.is_up:
                call.warn(describe_down(master))
            masters.append(master)
            # The record is written first, so no lock is held while the kernel creates the link.
            record = _make_record(request, conf, netns, master)
            tx.on_failure(lambda: _remove_record(call, record))
            check = node.wait_check(f"the master {master.link.name}")
            modes.reserve_mode(tx, call.registry, master, record, check)
        move = _create_link(call, conf, master, netns, record)
        addressing = _allocate(call, conf, master, netns, move, has_record=bool(old_records))
        for feature in network_features:
            addressing = feature.extend(tx, addressing, master, conf)
        link = configure.configure(call, conf, netns, master, addressing)
        result = addressing.result(link, request.netns)
        _check_netns_unchanged(request, netns)
        features.release(call, call.attachment, old_records, makes_master=False)
        for feature in network_features:
            record = feature.apply(call, master, record, addressing)
        # The old records say what there is to remove, also if this call is killed.
        old_records = [each for each in old_records if each.master != record.master]
        features.release(call, call.attachment, old_records, makes_master=True)
        record = node.registry.finish(record, link.ifindex)
        for key in call.registry.masters_with_note(each.master for each in old_records):
            modes.remove_stale_note(call, key, is_ending=False)
        deliver(result)


def _check_not_attached(call: Call) -> list[Record]:
    """Raise CniError if the attachment exists already; return records of it without an interface.

    What a killed ADD left is removed, as DEL does: its result was never delivered.
    """
    records = call.registry.records_of(call.attachment)
    complete = [record for record in records if record.is_complete]
    found = (links.find_link(call.tx, call.registry, record) for record in complete)
    existing = next(filter(None, found), None)
    description = f"{existing[1].name} in {existing[0].path}" if existing else ""
    if complete and not existing:
        moved = on_demand.inventory.search_label(call.tx, call.registry, call.attachment)
        description = next((each.describe() for each in moved), "")
    if description:
        raise CniError(
            INTERFACE_NAME_TAKEN,
            f"the container already has an interface {call.request.ifname!r}, added before",
            f"it is {description}\ntry: delete that attachment first",
        )
    if len(complete) < len(records):
        from cni_ipvlan.plugin.delete import detach

        detach(call)
        return []
    return complete


def _make_record(request: Request, conf: NetConf, netns: Namespace, master: Master) -> Record:
    return Record(
        *attachment_id(request),
        request.netns,
        netns.identity,
        conf.mode,
        conf.flag,
        pod=pod(request.environment),
        master=master.key,
        vlan=master.labelled_vlan,
        pid_namespace=namespace.pid_namespace_of(request.netns),
    )


def _create_link(
    call: Call, conf: NetConf, master: Master, netns: Namespace, record: Record
) -> Running:
    """Create the link, and start to move it into the container.

    That takes 20 ms, in which the kernel waits for its readers (RCU).
    """
    tx, attachment = call.tx, record.attachment
    temporary = links.temporary_name(attachment.key)
    tx.run(
        Command(
            commands.link_add_ipvlan(master.link.name, temporary, conf.mode, conf.flag, conf.mtu),
            f"create an ipvlan interface of {master.link.name}",
            netns=master.netns,
            undo=(links.removal_undo(tx, temporary, master.netns),),
        )
    )
    undo = [links.move_undo(tx, attachment, netns, master.netns)]
    name_and_label = ("name", record.ifname, "alias", attachment.label)
    if conf.link_in_container:
        argv = commands.link_set(temporary, *name_and_label)
        purpose = f"name it {record.ifname}"
    else:
        argv = commands.link_set(temporary, "netns", netns.path, *name_and_label)
        purpose = f"move it into the container as {record.ifname}"
        undo.insert(0, links.removal_undo(tx, temporary, netns))
    return tx.start(Command(argv, purpose, netns=master.netns, undo=tuple(undo)))


def _remove_record(call: Call, record: Record) -> None:
    """Remove the record after everything else was undone.

    An earlier ADD's record with routes of the host stays, as its addresses may still be allocated.
    """
    if links.link_exists(call.tx, call.registry, record):
        raise CniError(COMMAND_FAILED, "an interface of the attachment remains; DEL removes it")
    call.registry.remove(record._replace(host_routes=()))
    for key in call.registry.masters_with_note([record.master]):
        modes.remove_stale_note(call, key, is_ending=not record.has_container)


def _allocate(
    call: Call,
    conf: NetConf,
    master: Master,
    netns: Namespace,
    move: Running,
    *,
    has_record: bool,
) -> Addressing:
    """Let the IPAM plugin allocate addresses while the link is moved, and wait for both."""
    tx = call.tx
    dhcp_requests: AbstractContextManager[None] = nullcontext()
    if ipam.needs_link(conf.ipam_type):
        from cni_ipvlan.plugin import dhcp

        tx.finish(move)
        dhcp_requests = dhcp.enable_requests(call, master, netns)
    with dhcp_requests:
        wait_for_result = None
        if conf.ipam_type:
            wait_for_result = ipam.allocate(call, conf.ipam_type, has_allocation=has_record)

        # Importing these takes time, too, so it is done while the plugin runs.
        from cni_ipvlan.plugin.addressing import check_not_host_addresses, make_addressing

        addressing = make_addressing(conf, master, wait_for_result() if wait_for_result else None)
        check_not_host_addresses(tx, master, addressing.addresses)
        tx.finish(move)
    return addressing


def _check_netns_unchanged(request: Request, netns: Namespace) -> None:
    """Raise CniError if CNI_NETNS leads to another namespace now, where the link is not."""
    if not namespace.leads_to(request.netns, netns.identity):
        raise CniError(
            INVALID_ENVIRONMENT,
            f"CNI_NETNS is {request.netns!r}; it leads to another namespace than at the start",
            "the container may have ended meanwhile",
            subject="CNI_NETNS",
        )


@contextmanager
def _explain_conflicts(node: Node) -> Iterator[list[Master]]:
    """On a failure, name conflicting interfaces, which is done after all locks are released.

    The caller adds the master to the list that this yields.
    """
    masters: list[Master] = []
    try:
        yield masters
    except CniError as failure:
        cause = failure.__cause__
        if masters and isinstance(cause, CommandError):
            find_conflicts = on_demand.explain.find_conflicts
            for each in find_conflicts(cause, node.begin(), node.registry, masters[0]):
                failure.add_private(f"found: {each}")
        raise
