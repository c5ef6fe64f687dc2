"""CHECK: compare an attachment with the result of its ADD and with its configuration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cni_ipvlan.cni.errors import INVALID_CONFIGURATION, CniError, Failures
from cni_ipvlan.cni.request import Request
from cni_ipvlan.cni.result import Interface, Result, Route
from cni_ipvlan.config.netconf import NetConf
from cni_ipvlan.iproute import commands, namespace, queries
from cni_ipvlan.iproute.commands import Argv, Command
from cni_ipvlan.iproute.namespace import Namespace
from cni_ipvlan.iproute.queries import Link
from cni_ipvlan.iproute.running import Running
from cni_ipvlan.iproute.transaction import Transaction
from cni_ipvlan.plugin import features, ipam
from cni_ipvlan.plugin.addressing import connected_routes
from cni_ipvlan.plugin.codes import CHECK_FAILED
from cni_ipvlan.plugin.find_master import matching_links
from cni_ipvlan.plugin.master import Master
from cni_ipvlan.plugin.node import Call, Node
from cni_ipvlan.state.attachment import parse_label

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
        wait_for_plugin = ipam.start(call, conf.ipam_type, "CHECK")
        differences, failures = list(_find_differences(call, conf, netns)), Failures()
        with failures.noted():
            if differences:
                text = "; ".join(differences)
                text = f"the interface {request.ifname!r} is not as ADD left it: {text}"
                raise CniError(CHECK_FAILED, text, "try: delete the attachment and add it again")
        with failures.noted():
            wait_for_plugin()
    failures.raise_any()


def _find_differences(call: Call, conf: NetConf, netns: Namespace) -> Iterator[str]:
    tx, request = call.tx, call.request
    previous = conf.prev_result or Result()
    index, reported = _find_reported(previous, request.ifname, netns)
    if reported is None:
        yield f"prevResult has no interface {request.ifname!r} in the namespace {request.netns}"
        return
    master_netns = netns if conf.link_in_container else None
    master_query = _query_master(tx, conf, master_netns)
    network_features = features.load_features(conf).values()
    feature_queries = [each.query(request.ifname) for each in network_features]
    link_output, answers, route_output = _query_container(call, previous, netns, feature_queries)
    container_links = queries.links(link_output)
    if not container_links:
        output = tx.run(Command(commands.link_show(kind="ipvlan"), netns=netns)).stdout
        links = queries.links(output)
        renamed = next((each for each in links if call.attachment.has_label(each.alias)), None)
        absence = f"there is no interface {request.ifname!r}"
        yield f"it was renamed to {renamed.name!r}" if renamed else absence
        return
    link = container_links[0]
    owner = parse_label(link.alias)
    if owner is not None and not call.attachment.has_label(link.alias):
        yield f"it belongs to the container {owner.container_id!r} of {owner.network!r}"
        return
    if link.kind != "ipvlan":
        yield f"it is of kind {link.kind or 'physical or built-in'}, not ipvlan"
        return
    yield from _link_differences(link, conf, reported)
    yield from _mac_differences(tx, link, reported, master_netns)
    if master_query is not None:
        answer = tx.finish(master_query).stdout
        candidates, names = _select_masters(queries.links(answer), conf)
        masters = [Master(each, master_netns) for each in candidates]
        yield from _master_differences(link, masters, names, netns)
    if not conf.master:  # the default route may have changed
        records = call.registry.records_of(call.attachment)
        if records and link.parent_index not in (0, records[0].master[1]):
            yield "it has another master"
    expected = _select_addresses(previous, index)
    yield from _address_differences(expected, link)
    yield from _route_differences(previous, route_output)
    for feature, answer in zip(network_features, answers, strict=True):
        yield from feature.differences(call, link, expected, answer)


def _query_container(
    call: Call, previous: Result, netns: Namespace, feature_queries: Sequence[Argv]
) -> tuple[bytes, list[bytes], bytes]:
    """Return what ip prints of the interface, for each query, and of routes if ADD had any."""
    argvs = [commands.address_show(call.request.ifname), *filter(None, feature_queries)]
    if previous.routes:
        # Of all interfaces: for one, some versions of ip leave out routes with several next hops.
        argvs.append(commands.route_show("table", "all"))
    parts = (Command(argv, netns=netns, accept=commands.ABSENT) for argv in argvs)
    output = call.tx.run_batch(*parts).stdout.lstrip() or b"[]"
    link_output, *lines = output.split(b"\n")
    answers = [lines.pop(0) if argv and lines else b"" for argv in feature_queries]
    return link_output, answers, b"".join(lines)


def _find_reported(previous: Result, ifname: str, netns: Namespace) -> tuple[int, Interface | None]:
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
    """Compare the MAC address with prevResult's, unless a bond or a bridge has it now.

    A bond's may change at each failover (fail_over_mac), and a bridge has the lowest of its ports'.
    The kernel changes those of its VLANs and ipvlan links, too.
    """
    if not reported.mac or reported.mac.lower() == link.mac:
        return []
    links = queries.links(tx.run(Command(commands.link_show(), netns=master_netns)).stdout)
    if any(each.kind in ("bond", "bridge", "team") and each.mac == link.mac for each in links):
        return []
    return [f"its MAC address is {link.mac}, not {reported.mac}"]


def _query_master(tx: Transaction, conf: NetConf, master_netns: Namespace | None) -> Running | None:
    """Start to ask for the configured master, or for all links if it is found among these."""
    if not (conf.vlan or conf.master or conf.masters):  # then the record names it
        return None
    argv = commands.link_show(None if conf.vlan else conf.master or None)
    return tx.start(Command(argv, netns=master_netns, accept=commands.ABSENT))


def _select_masters(links: list[Link], conf: NetConf) -> tuple[list[Link], str]:
    """Return the links that the configuration means by its master, and how it names them."""
    names = " or ".join(map(repr, conf.masters or (conf.master,)))
    candidates = matching_links(links, conf) if conf.masters or conf.vlan else links
    if conf.vlan:
        is_any = not (conf.master or conf.masters)
        parents = {each.name for each in (links if is_any else candidates)}
        names = f"VLAN {conf.vlan}{'' if is_any else f' of {names}'}"
        candidates = [e for e in links if e.vlan == conf.vlan and e.parent in parents]
    return candidates, names


def _master_differences(
    link: Link, masters: list[Master], names: str, netns: Namespace
) -> list[str]:
    if not masters:
        return [f"its master {names} does not exist any more"]
    master = next((each.link for each in masters if each.carries(link, netns)), None)
    if master is None:
        return [f"its master is not {names}"]
    if link.mtu <= master.mtu:
        return []
    return [f"its MTU is {link.mtu}, the master's is {master.mtu}: larger packets are lost"]


def _select_addresses(previous: Result, index: int) -> Result:
    """Leave out the addresses of other interfaces, if prevResult has these, as ADD does."""
    other_indices = {*range(len(previous.interfaces))} - {index}
    addresses = (each for each in previous.addresses if each.interface not in other_indices)
    return previous._replace(addresses=tuple(addresses))


def _address_differences(expected: Result, link: Link) -> Iterator[str]:
    is_duplicate = {each.address: each.is_duplicate for each in link.addresses}
    for text in (each.address for each in expected.addresses):
        if text not in is_duplicate:
            yield f"the address {text} is missing"
        elif is_duplicate[text]:
            yield f"the address {text} is not used, as another host had it"


def _route_differences(previous: Result, output: bytes) -> list[str]:
    # Other plugins of the chain may have added some of them to other interfaces of the container.
    interfaces = {each.name for each in previous.interfaces if each.sandbox}
    connected = connected_routes(previous.routes, previous.addresses)
    routes: dict[str, list[queries.Route]] = {}  # by destination, as there may be thousands
    for each in queries.routes(output):
        if each.device in interfaces:
            routes.setdefault(each.dst, []).append(each)
    return [
        f"the route to {route.dst}{f' via {route.gateway}' if route.gateway else ''} is missing"
        for route in previous.routes
        if route not in connected
        and not any(_matches(route, each) for each in routes.get(route.dst, ()))
    ]


def _matches(expected: Route, actual: queries.Route) -> bool:
    """Compare two routes to one destination.

    Only attributes that are set in the result count: sbr moves routes to other tables. The kernel
    substitutes some values. Both families: table 0 means main (fib_new_table(), fib6_new_table()),
    and ip_metrics_convert() in net/ipv4/metrics.c caps the metrics. IPv6: inet6_rtm_newroute()
    replaces priority 0 and ignores the scope.
    """
    is_ipv6 = ":" in expected.dst
    has_default_priority = is_ipv6 and expected.priority == 0
    pairs = (
        (None if expected.gateway in commands.NO_GATEWAY else expected.gateway, actual.gateway),
        (queries.MAIN_TABLE if expected.table == 0 else expected.table, actual.table),
        (_IPV6_PRIORITY if has_default_priority else expected.priority, actual.priority),
        (None if is_ipv6 else expected.scope, actual.scope),
        (expected.mtu and min(_HIGHEST_MTU, expected.mtu), actual.mtu or 0),
        (expected.advmss and min(_HIGHEST_ADVMSS, expected.advmss), actual.advmss or 0),
    )
    return all(
        expected_value is None or expected_value == actual_value
        for expected_value, actual_value in pairs
    )
