"""CHECK: compare an attachment with the result of its ADD and with its configuration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cni_ipvlan.cni.errors import INVALID_CONFIGURATION, CniError, Failures
from cni_ipvlan.cni.request import Request
from cni_ipvlan.cni.result import Interface, Result, Route
from cni_ipvlan.config.netconf import NetConf
from cni_ipvlan.iproute import commands, namespace, queries
from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.iproute.namespace import Namespace
from cni_ipvlan.iproute.queries import Link
from cni_ipvlan.iproute.running import Running
from cni_ipvlan.iproute.transaction import Transaction
from cni_ipvlan.plugin import features, ipam
from cni_ipvlan.plugin.addressing import is_connected
from cni_ipvlan.plugin.codes import CHECK_FAILED
from cni_ipvlan.plugin.find_master import matching
from cni_ipvlan.plugin.master import Master
from cni_ipvlan.plugin.node import Call, Node
from cni_ipvlan.start.namedtuple import TYPE_CHECKING
from cni_ipvlan.state.attachment import parse_label

if TYPE_CHECKING:
    from cni_ipvlan.plugin.shared import Feature

_IPV6_PRIORITY = 1024  # IP6_RT_PRIO_USER, <linux/ipv6_route.h>
_HIGHEST_MTU = 65535 - 15
_HIGHEST_ADVMSS = 65535 - 40


def check(node: Node, request: Request) -> None:
    """Compare an attachment with the result of its ADD and with its configuration."""
    conf = node.configuration(request)
    if conf.prev_result is None:
        raise CniError(INVALID_CONFIGURATION, "CHECK needs prevResult in the configuration")
    with node.call(request) as call:
        netns = call.container()
        checking = ipam.ask(call, conf.ipam_type, "CHECK")
        found, failures = list(_differences(call, conf, netns)), Failures()
        with failures.noted():
            if found:
                text = f"the interface {request.ifname!r} is not as ADD left it: {'; '.join(found)}"
                raise CniError(CHECK_FAILED, text, "try: delete the attachment and add it again")
        with failures.noted():
            checking()
    failures.raise_any()


def _differences(call: Call, conf: NetConf, netns: Namespace) -> Iterator[str]:
    """Yield every difference, as a phrase each."""
    tx, request = call.tx, call.request
    previous = conf.prev_result or Result()
    index, reported = _reported_interface(previous, request.ifname, netns)
    if reported is None:
        yield f"prevResult has no interface {request.ifname!r} in the namespace {request.netns}"
        return
    master_netns = netns if conf.link_in_container else None
    asked = _ask_for_master(tx, conf, master_netns)
    chosen = features.configured(conf)
    shown, answers, routes = _shown(call, previous, netns, chosen)
    found = queries.links(shown)
    if not found:
        output = tx.run(Command(commands.link_show(kind="ipvlan"), netns=netns)).stdout
        own = (each for each in queries.links(output) if call.attachment.has_label(each.alias))
        renamed = next(own, None)
        missing = f"there is no interface {request.ifname!r}"
        yield f"it was renamed to {renamed.name!r}" if renamed else missing
        return
    link = found[0]
    named = parse_label(link.alias)
    if named is not None and not call.attachment.has_label(link.alias):
        yield f"it belongs to the container {named.container_id!r} of {named.network!r}"
        return
    if link.kind != "ipvlan":
        yield f"it is of kind {link.kind or 'physical or built-in'}, not ipvlan"
        return
    yield from _link_differences(link, conf, reported)
    yield from _mac_differences(tx, link, reported, master_netns)
    if asked is not None:
        answer = tx.finish(asked).stdout
        yield from _master_differences(link, conf, answer, master_netns, netns)
    if not conf.master or conf.vlan:  # the default route may have changed
        records = call.registry.records_of(call.attachment)
        if records and link.parent_index not in (0, records[0].master[1]):
            yield "it has another master"
    ours, present = _ours(previous, index), {each.address for each in link.addresses}
    absent = (each.address for each in ours.addresses if each.address not in present)
    yield from (f"the address {each} is missing" for each in absent)
    yield from _route_differences(previous, routes)
    for feature, answer in zip(chosen, answers, strict=True):
        yield from feature.differences(call, link, ours, answer)


def _shown(
    call: Call, previous: Result, netns: Namespace, chosen: Sequence[Feature]
) -> tuple[bytes, list[bytes], bytes]:
    """Return what ip prints of the interface, for features, and of routes if they matter."""
    ifname = call.request.ifname
    of_features = [feature.asked(ifname) for feature in chosen]
    asked = [commands.address_show(ifname), *filter(None, of_features)]
    if previous.routes:
        # Not of one interface: some versions of ip leave out its routes by several next hops.
        asked.append(commands.route_show("table", "all"))
    parts = (Command(argv, netns=netns, accept=commands.ABSENT) for argv in asked)
    output = call.tx.run_batch(*parts).stdout.lstrip() or b"[]"
    shown, *lines = output.split(b"\n")
    answers = [lines.pop(0) if argv and lines else b"" for argv in of_features]
    return shown, answers, b"".join(lines)


def _reported_interface(
    previous: Result, ifname: str, netns: Namespace
) -> tuple[int, Interface | None]:
    """Return the container's interface in prevResult; its sandbox may be any path to it."""
    for index, interface in enumerate(previous.interfaces):
        if interface.name == ifname and namespace.leads_to(interface.sandbox, netns.identity):
            return index, interface
    return -1, None


def _link_differences(link: Link, conf: NetConf, reported: Interface) -> Iterator[str]:
    if link.mode != conf.mode:
        yield f"its mode is {link.mode}, not {conf.mode}"
    if link.flag != conf.flag:
        yield f"its flag is {link.flag}, not {conf.flag}"
    # A later plugin in the chain (tuning) may have changed the MTU and reported that.
    mtu = reported.mtu or conf.mtu
    if conf.mtu and link.mtu != mtu:
        yield f"its MTU is {link.mtu}, not {mtu}"
    if not link.is_up:
        yield "it is down"


def _mac_differences(
    tx: Transaction, link: Link, reported: Interface, master_netns: Namespace | None
) -> list[str]:
    """Compare the MAC address with prevResult's, unless a bond has it now.

    A bond's may change at each failover (fail_over_mac). The kernel changes those of its VLANs and
    ipvlan links, too.
    """
    if not reported.mac or reported.mac.lower() == link.mac:
        return []
    there = queries.links(tx.run(Command(commands.link_show(), netns=master_netns)).stdout)
    if any(each.kind in ("bond", "team") and each.mac == link.mac for each in there):
        return []
    return [f"its MAC address is {link.mac}, not {reported.mac}"]


def _ask_for_master(
    tx: Transaction, conf: NetConf, master_netns: Namespace | None
) -> Running | None:
    """Start to ask for the configured master, or for all links if it may be one of several."""
    if conf.vlan or not (conf.master or conf.masters):  # which VLAN it was is recorded
        return None
    show = commands.link_show(conf.master or None)
    return tx.start(Command(show, netns=master_netns, accept=commands.ABSENT))


def _master_differences(
    link: Link, conf: NetConf, output: bytes, master_netns: Namespace | None, netns: Namespace
) -> list[str]:
    found = queries.links(output)
    if conf.masters:
        found = matching(found, conf)
    names = " or ".join(map(repr, conf.masters or (conf.master,)))
    if not found:
        return [f"its master {names} does not exist any more"]
    master = next((each for each in found if Master(each, master_netns).carries(link, netns)), None)
    if master is None:
        return [f"its master is not {names}"]
    if link.mtu <= master.mtu:
        return []
    return [f"its MTU is {link.mtu}, the master's is {master.mtu}: larger packets are lost"]


def _ours(previous: Result, index: int) -> Result:
    """Leave out other interfaces' addresses, theirs as in ADD only if prevResult has them."""
    others = {*range(len(previous.interfaces))} - {index}
    ours = (each for each in previous.addresses if each.interface not in others)
    return previous._replace(addresses=tuple(ours))


def _route_differences(previous: Result, routes: bytes) -> list[str]:
    # Other plugins of the chain may have made some, for other interfaces of the container.
    own = {each.name for each in previous.interfaces if each.sandbox}
    present: dict[str, list[queries.Route]] = {}  # by destination, as there may be thousands
    for each in queries.routes(routes):
        if each.device in own:
            present.setdefault(each.dst, []).append(each)
    return [
        f"the route to {route.dst}{f' via {route.gateway}' if route.gateway else ''} is missing"
        for route in previous.routes
        if not any(_is_same(route, each) for each in present.get(route.dst, ()))
        and not is_connected(route, previous.addresses)
    ]


def _is_same(wanted: Route, present: queries.Route) -> bool:
    """Compare two routes to one destination.

    Only attributes that are set in the result count: sbr moves routes to other tables. The kernel
    substitutes some values. Both families: table 0 means main (fib_new_table(), fib6_new_table()),
    and ip_metrics_convert() in net/ipv4/metrics.c caps the metrics. IPv4: 0.0.0.0 means no gateway
    (rtm_to_fib_config()). IPv6: inet6_rtm_newroute() replaces priority 0 and ignores the scope.
    """
    is_ipv6 = ":" in wanted.dst
    has_default_priority = is_ipv6 and wanted.priority == 0
    expected = (
        (None if wanted.gateway in ("", "0.0.0.0") else wanted.gateway, present.gateway),
        (queries.MAIN_TABLE if wanted.table == 0 else wanted.table, present.table),
        (_IPV6_PRIORITY if has_default_priority else wanted.priority, present.priority),
        (None if is_ipv6 else wanted.scope, present.scope),
        (wanted.mtu and min(_HIGHEST_MTU, wanted.mtu), present.mtu or 0),
        (wanted.advmss and min(_HIGHEST_ADVMSS, wanted.advmss), present.advmss or 0),
    )
    return all(value is None or value == actual for value, actual in expected)
