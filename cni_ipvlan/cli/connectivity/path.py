"""Facts: the path that packets take, hop by hop."""

from collections.abc import Iterator, Sequence

from cni_ipvlan.cli.connectivity import facts, hops, routing
from cni_ipvlan.cli.connectivity.hops import HOP_CHECKS, Hop
from cni_ipvlan.cli.connectivity.topology import Port, Side, is_near, of_family
from cni_ipvlan.cli.output import PROBLEM, Finding
from cni_ipvlan.iproute import commands, queries
from cni_ipvlan.iproute.queries import Neighbour, RouteLookup


class Path:
    """The path from a side to an address, as the kernel tells it hop by hop.

    ``route`` is the first one, by the interface ``device`` if that is given; ``port`` is the
    interface by which packets should leave. ``findings`` say what is wrong; ``sides`` and ``ports``
    are what the path leads through.
    """

    def __init__(
        self, start: Side, source: str, target: str, device: str = "", port: Port | None = None
    ) -> None:
        self._topology, self.port = start.topology, port
        self.source, self.target = source, target
        self.sides = [start]
        self.findings: list[Finding] = []
        self.hops: list[Hop] = []
        self.route = self._get_route(start, {"from": source, "oif": device})
        self.source = source or self.route.source
        # A packet whose sender names an interface is sent by it, even without a route.
        query = ("ip", "route", "get", "fibmatch", target, *(("from", source) if source else ()))
        if device and start.run((*query, "oif", device)).status:
            self.findings += _explain_failure(start, None, self, "")
        else:
            self._send(start, self.route)
        # Where a route is missing, the default route leads elsewhere.
        if {"route", "forwarding"} & {each.subject for each in self.findings}:
            for hop in self.hops:
                self.findings += self._check_detour(hop.sender, target, hop.entry, is_lost=True)
        name = self.route.device or "lo"
        if port and port.side.netns and self.hops and name not in (port.link.name, "lo"):
            self.findings.append(routing.report_detour(port, name, target, self.source))
        self.ports = [each for hop in self.hops for each in hop.ports]
        self.ports += port.chain if port else []

    def enter(self, entry: Port) -> None:
        """Look at the side where packets come in, behind routers that are not seen."""
        self.sides.append(entry.side)
        self._get_route(entry.side, {"from": self.source, "iif": entry.link.name}, entry)

    def _get_route(
        self, side: Side, words: dict[str, str], entry: Port | None = None
    ) -> RouteLookup:
        route = side.get_route(self.target, **words)
        if not route.device:
            self.findings += _explain_failure(side, entry, self, route.error)
        elif (
            route.is_local
            and not side.has_address(self.target)
            and self._topology.find_holders(self.target)
        ):
            self.findings.append(routing.report_own(side, self.target, route))
        return route

    def _send(self, side: Side, route: RouteLookup, entry: str = "") -> None:
        if route.is_local or route.device not in side.ports:
            return
        sender, next_hop = side.ports[route.device], route.gateway or self.target
        if sender.is_loopback:
            self.findings.append(routing.report_local_route(side, self.target, self.source))
            return
        # Whatever the route, a host and what is on its master don't hear each other. In mode l2 one
        # that leads elsewhere may come back by the network, and what a gateway gets with flag vepa
        # or from a container on another master.
        for _, master in routing.find_separated(side, self.target, sender):
            is_other = master is not sender and any(e.sender.parent is sender for e in self.hops)
            if not (route.gateway and (is_other or self.is_from_vepa(side))):
                sender, next_hop = master, self.target
                break
        if any((each.sender, each.next_hop) == (sender, next_hop) for each in self.hops):
            self.findings.append(routing.report_loop(self.target, side, self.sides[-2]))
            return
        if sender.is_l3:  # which has no neighbours
            holders = self._topology.find_holders(self.target, sender)
            siblings = (each for each in holders if each.shares_master(sender))
            receiver = None if sender.link.flag == "vepa" else next(siblings, None)
            self._follow(Hop(self.source, self.target, sender, self.target, receiver))
            if receiver is None and sender.parent:
                self._send_by_master(sender.parent, sender.link.mode)
            return
        # If several have the address, it is a matter of luck which of them gets the packets.
        findings = list(facts.check_holders(sender, next_hop))
        findings = findings or list(self._check_detour(sender, next_hop, entry))
        if findings:
            self.findings += findings
            return
        if next_hop != self.target:
            self.findings += self._check_detour(sender, self.target, entry)
        # An interface that asks for no neighbour has such an entry for each.
        states = ("nud", "all") if sender.link.has_arp else ()
        output = side.run((*commands.neighbour_show(sender.link.name, next_hop), *states)).stdout
        neighbour = next(iter(queries.neighbours(output)), Neighbour())
        receiver = self._find_receiver(sender, next_hop, neighbour)
        self._follow(Hop(self.source, self.target, sender, next_hop, receiver, neighbour, entry))

    def is_from_vepa(self, side: Side) -> bool:
        """Whether an interface in mode l3 leaves packets for its siblings to a side's routes."""
        masters = [e.sender.parent for e in self.hops if e.sender.link.flag == "vepa"]
        return any(each and each.side is side for each in masters)

    def _find_receiver(self, sender: Port, next_hop: str, neighbour: Neighbour) -> Port | None:
        """Return the interface that gets the packets, if it can be seen."""
        mac, master, segment = neighbour.mac, sender.parent, sender.segment
        holder = next(iter(self._topology.find_holders(next_hop, sender)), None)
        if holder is None:  # hostAccess's entries lead to the host, whatever addresses it has now
            is_for_host = master and neighbour.is_permanent and mac == master.link.mac
            return master if is_for_host and sender.link.is_ipvlan else None
        if holder in segment:
            return holder
        # Another one answers for it by proxy, or for a loopback or dummy of its side, though one
        # of ipvlan for its own only. Or a host outside has answered that has the same address.
        ports, others = holder.side.ports.values(), list[Port]()
        near = [each for each in segment if mac and each.link.mac == mac and each is not sender]
        if not mac or neighbour.is_permanent or any(each.link.mac == mac for each in ports):
            is_lo, is_inner = holder.is_loopback, holder.is_loopback or holder.link.kind == "dummy"
            others = [e for e in ports if e in segment and (is_lo or not e.link.is_ipvlan)]
            others = [*(others if is_inner else ()), *(() if is_lo else (holder,))]
        return next((e for e in near if e.side is holder.side), (*near, *others, None)[0])

    def _check_detour(
        self, sender: Port, address: str, entry: str, *, is_lost: bool = False
    ) -> Iterator[Finding]:
        """Yield that packets leave by ``sender``, but an address is on another one's network.

        Unless they are lost on that way, it counts only if a subnet of that one has it.
        """

        def leads_there(port: Port) -> bool:
            return bool(port.segment.keys() & self._topology.find_holders(address, port))

        # In mode l3 packets leave by their own master only.
        if leads_there(sender) or any(each.sender.parent is sender for each in self.hops):
            return
        for port in sender.side.ports.values():
            # To the host, a container's owner may show any address.
            is_better = is_near(address, port.addresses) or (is_lost and sender.side.netns)
            if not (port.addresses and is_better and leads_there(port)):
                continue
            if routing.find_route(port, address):
                words = sender.link.name, address, self.source, entry
                finding = routing.report_detour(port, *words)
                yield finding._replace(subject="detour")

    def _send_by_master(self, master: Port, mode: str) -> None:
        """Follow the routes of the host that lead by the master: others are not used."""
        side, name = master.side, master.link.name
        self.sides.append(side)
        # Its rules about the source apply, but ip route get takes no source that is not its own.
        self.findings += routing.find_blackhole(side, self.source, self.target, device=name)
        if found := routing.find_route_by_source(side, self.source, self.target, name):
            self._send(side, RouteLookup(name, found.get("gateway", "")))
            return
        route = self._get_route(side, {})
        is_elsewhere = route.device not in ("", name, "lo")
        if is_elsewhere and not side.get_route(self.target, oif=name).gateway:
            text = f"{side} has no route to {self.target} by {name}, but by {route.device}"
            add = side.command("ip", "route", "add", self.target, "dev", name)
            advice = f"in mode {mode} packets leave by their own master only: use one master for "
            advice += f"both, or a router on its network: {add} via GATEWAY"
            self.findings.append(Finding(PROBLEM, "route", text, advice))
        elif route.device or not self.is_from_vepa(side):  # which can't send to its own
            self._send(side, self._get_route(side, {"oif": name}))

    def _follow(self, hop: Hop) -> None:
        self.hops.append(hop)
        # On a network where the address should not be looked for, it does not matter what is down.
        is_detour = self.port and self.port.side is hop.sender.side and self.port is not hop.sender
        if not (is_detour and hop.receiver and hop.receiver not in hop.sender.segment):
            self.findings += facts.check_states(hop.ports)
        for check in HOP_CHECKS:
            self.findings += check(hop)
        if hop.receiver is None or any(each.subject == "host" for each in self.findings):
            return
        entry = hop.receiver
        self.sides.append(entry.side)
        # Packets that come to a master for one of its interfaces go there, past the host's routes.
        for each in self._topology.find_holders(self.target):
            if each.link.is_ipvlan and each.parent is entry:
                self.sides.append(each.side)
                self.findings += facts.check_states(each.chain)
                entry = each
        master = entry.parent if entry.link.is_ipvlan else None
        is_apart = master is not None and master.side is not entry.side and master is not hop.sender
        if is_apart and not entry.has_address(self.target):
            text = f"ipvlan hands {entry} only packets for its own addresses, and {self.target} is "
            advice = "use macvlan for a container that routes"
            if entry.side.has_address(self.target):
                add = ("ip", "address", "add", self.target, "dev", entry.link.name)
                advice = f"give it that one: {entry.side.command(*add)}"
            self.findings.append(Finding(PROBLEM, "delivery", f"{text}none", advice))
            return
        route = self._get_route(entry.side, {"from": self.source, "iif": entry.link.name}, entry)
        if route.device and not route.is_local:
            self.findings += routing.check_forwarding(entry, self.target)
            self._send(entry.side, route, entry.link.name)


def check_ttl(path: Path) -> Iterator[Finding]:
    """Yield that packets may pass fewer hops than the path has."""
    start, hop_limit = path.sides[0], f"net/ipv6/conf/{path.route.device}/hop_limit"
    key = hop_limit if ":" in path.target else "net/ipv4/ip_default_ttl"
    route = routing.show_route(start, path.route.device, path.target, path.source)
    prefix, word, rest = route.partition(" hoplimit ")
    limit, _, rest = rest.partition(" ")
    if 0 < (ttl := int(limit or start.read_sysctl(key))) < len(path.hops):
        replace = ("ip", "route", "replace", *f"{prefix} {rest}".split())
        command = start.command(*replace) if word else start.sysctl_command(key, 64)
        text = f"packets of {start} end after {ttl} hops ({f'the route: {route}' if word else key})"
        text += f", before {path.target}"
        yield Finding(PROBLEM, "ttl", text, f"let them live longer: {command}")


def check_source(request_path: Path, reply_paths: Sequence[Path]) -> Iterator[Finding]:
    """Yield that a container's route names a source to which no answer finds the way."""
    if not (request_path.hops and request_path.source):  # it may have no usable address
        return
    sender, next_hop = request_path.hops[0].sender, request_path.hops[0].next_hop
    source, target, side = request_path.source, request_path.target, sender.side
    near = [each for each in sender.addresses if is_near(next_hop, [each])]
    better = (*of_family(target, (*near, *sender.addresses)), source)[0]
    route = f"{routing.show_route(side, sender.link.name, target)} "
    subjects = (each.subject for path in reply_paths for each in path.findings)
    is_lost = (sender.link.is_ipvlan and not sender.has_address(source)) or "route" in subjects
    if side.netns and is_lost and better != source and f" src {source} " in route:
        text = f"{side} sends to {target} from {source}, as its route says: {route.strip()}"
        words = route.replace(f" src {source} ", f" src {better} ").split()
        advice = f"correct the route: {side.command('ip', 'route', 'replace', *words)}"
        yield Finding(PROBLEM, "source", text, advice)


def _explain_failure(side: Side, entry: Port | None, path: Path, answer: str) -> Iterator[Finding]:
    """Yield why a side has no route for packets, which it has got by ``entry`` if that is given."""
    target = path.target
    if entry:
        drops = _explain_drop(entry, path, answer)
    else:
        drops = [*routing.find_blackhole(side, path.source, target)]
    if drops:
        yield from drops
    elif not path.is_from_vepa(side) and (
        separated := next(routing.find_separated(side, target), None)
    ):
        port, master = separated
        yield from hops.check_host(Hop(path.source, target, master, target, port))
    else:
        yield from routing.explain_missing_route(side, target, entry or path.port)


def _explain_drop(entry: Port, path: Path, answer: str) -> list[Finding]:
    """Return why a side drops what comes in by ``entry``, whatever its routes to the target."""
    side, source, target = entry.side, path.source, path.target
    keys = [commands.RP_FILTER.format(each) for each in (entry.link.name, "all")]
    strictness = max(map(side.read_sysctl, keys))
    back = side.get_route(source, oif=entry.bind_device)
    # Linux 6.13 and newer don't say any more that it is rp_filter.
    is_silent = "Invalid argument" in answer and ":" not in source and strictness == 1
    device = side.get_route(source).device  # not bound to a VRF
    is_filtered = is_silent and device not in (entry.link.name, "lo")
    # Any rp_filter drops what comes from an address to which there is no route at all.
    is_unknown = bool(source) and not back.device and (":" in source or strictness > 0)
    if not is_unknown and (is_filtered or "cross-device" in answer):
        text = f"{side} drops what comes from {source} by {entry.link.name}, since it would "
        text += f"answer by {device or 'another interface'} ({keys[0]}, or that of all, is 1)"
        command = side.sysctl_command(keys[0], 2)
        advice = f"correct its route to {source}, or be less strict: {command}"
        return [Finding(PROBLEM, "rp_filter", text, advice)]
    if blackholes := [*routing.find_blackhole(side, source, target, entry)]:
        return blackholes
    if is_unknown:
        blackholes = [*routing.find_blackhole(side, target, source)]
        return blackholes or [*routing.explain_missing_route(side, source, entry)]
    if side is path.sides[0]:
        return [routing.report_loop(target, path.sides[-2], side)]
    if back.is_local:
        return [routing.report_own(side, source, back)]
    if not (findings := [*routing.check_forwarding(entry, target)]):
        return []
    previous, next_hop = path.sides[-2], side.get_route(target).gateway
    is_loop = previous.has_address(next_hop) and not path.is_from_vepa(previous)
    return [routing.report_loop(target, previous, side)] if is_loop else findings
