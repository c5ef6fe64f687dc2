"""Facts: what the ends show.

A fact's subject is its kind, which has a rank (weights.py). PROBLEM means that it would explain
a silence; whether there is one is found out by asking.
"""

from collections.abc import Iterator, Sequence

from cni_ipvlan.cli.connectivity.world import Port, of_family
from cni_ipvlan.cli.output import OK, PROBLEM, WARNING, Finding
from cni_ipvlan.iproute import commands, queries
from cni_ipvlan.plugin.addressing import LEAST_MTU_OF_IPV6

_CONFLICT = "give one of them another address; no two networks or nodes may hand out one range"


def duplicate(text: str) -> Finding:
    """Return that an address is there twice."""
    return Finding(PROBLEM, "duplicate", text, _CONFLICT)


def _link(port: Port) -> Iterator[Finding]:
    link, master, record = port.link, port.below, port.record
    kind = f"mode {link.mode} {link.flag}" if link.is_ipvlan else f"a {link.kind or 'device'}"
    yield Finding(OK, "link", f"{_state(port)}, {kind}")
    if master:
        text = f"{_state(master)}, {master.link.mac}"
        is_narrow = link.mtu > master.link.mtu
        advice = "larger packets are lost: set the option mtu" if is_narrow else ""
        yield Finding(WARNING if is_narrow else OK, "master", text, advice)
    elif link.is_ipvlan:
        text = f"the master of {port} is not in this namespace"
        yield Finding(WARNING, "master", text, "run this where it is: on the host")
    yield from states(port.outwards)
    if record and record.is_complete and not record.has_mode_of(link):
        text = f"{port} was attached in mode {record.mode} {record.flag}; another program has "
        text += f"changed the mode of all on {master or 'its master'} to {link.mode} {link.flag}"
        back = port.set_link("type", link.kind, "mode", record.mode, record.flag)
        yield Finding(PROBLEM, "mode", text, f"if nothing needs that: {back}")


def _state(port: Port) -> str:
    return f"{port} is {'up' if port.link.is_up else 'down'}, MTU {port.link.mtu}"


def _addresses(port: Port) -> Iterator[Finding]:
    if not port.usual and not any(each.is_duplicate for each in port.link.addresses):
        text, advice = f"{port} has no address", "ADD gives it one: ipvlan check compares"
        why, cure = against_ipv6(port)
        if why:
            text, advice = f"{text}, and {why}", f"{advice}; for IPv6, before that: {cure}"
        yield Finding(PROBLEM, "address", text, advice)
    for each in port.link.addresses:
        if each.is_duplicate:
            text = f"another host on the network has {each.address}, too (IPv6 duplicate detection)"
            yield duplicate(text)
        elif each.address in port.usual and each.is_tentative:
            text = f"{each.address} can't be used yet: IPv6 duplicate detection has not ended"
            yield Finding(PROBLEM, "tentative", text, "wait; it needs the master's carrier")
        elif each.address in port.usual:
            yield Finding(OK, "address", f"{port} has {each.address}")


def against_ipv6(port: Port) -> tuple[str, str]:
    """Return why an interface can have no IPv6 address, and the command that lets it."""
    key = f"net/ipv6/conf/{port.link.name}/disable_ipv6"
    if port.side.sysctl(key):
        return f"can have no IPv6 address ({key} is 1)", port.side.write(key, 0)
    if port.link.mtu < LEAST_MTU_OF_IPV6:
        cure = port.set_link("mtu", str(LEAST_MTU_OF_IPV6))
        return f"can have no IPv6 address (its MTU is {port.link.mtu})", cure
    return "", ""


def _duplicates(port: Port) -> Iterator[Finding]:
    """Yield who else has an address; other hosts are asked from the master, for a second."""
    world, asker = port.side.world, asking(port)
    for address in port.plain:
        for other in world.holders(address):
            # Who is on the network answers for the addresses of other interfaces, too.
            beside = (each for each in other.side.ports.values() if not each.link.is_ipvlan)
            is_near = any(each in port.joined for each in (other, *beside))
            if other is not port and not other.is_loopback and is_near:
                yield duplicate(f"{address} is also an address of {other.described}")
    asked = of_family("0.0.0.0", port.usual) if asker.link.is_up else []
    argvs = (commands.arping_duplicate(each, asker.link.name) for each in asked)
    answers = world.ask(*((asker.side, argv) for argv in argvs))
    for address, done in zip(asked, answers, strict=True):
        mac = queries.answering_mac(done.stdout).lower()
        if not done.was_run:
            text = f"arping is missing, so other hosts were not asked for {address}"
            yield Finding(WARNING, "not looked", text, "install it: apt install iputils-arping")
        elif done.status == commands.DUPLICATE_ANSWERED and mac != port.link.mac:
            yield duplicate(f"another host on the network has {address}, too: {mac}")
        elif done.status == 0:
            yield Finding(OK, "duplicate", f"no other host answers for {address}")


# What an end shows.
ENDS = (_link, _addresses, _duplicates)


def several(out: Port, hop: str) -> Iterator[Finding]:
    """Yield that several on the network of ``out`` have an address: any of them may answer."""
    near = [each for each in out.side.world.holders(hop, out) if each in out.joined]
    found = {each.side: each.described for each in near if each.link.is_up}
    if len(found) > 1:
        yield duplicate(f"{hop} is an address of {' and of '.join(found.values())}")


def asking(port: Port) -> Port:
    """Return the interface from which ARP is asked: an ipvlan loses answers, so its master."""
    return (port.below if port.link.is_ipvlan else None) or port


def states(way: Sequence[Port]) -> Iterator[Finding]:
    """Yield what is down or without carrier, of interfaces in the order in which packets pass."""
    down = [each for each in way if not each.link.is_up]
    for each in sorted(way, key=lambda each: len(each.chain)):  # none comes up before its lower one
        ports = (port for port in each.side.ports.values() if port.upper is each)
        if each in down:
            yield Finding(PROBLEM, "down", f"{each} is down", f"bring it up: {each.set_link('up')}")
        elif each.link.kind in ("bridge", "bond") and not any(ports):
            add = each.side.shell("ip", "link", "set", "dev", "PORT", "master", each.link.name)
            yield Finding(PROBLEM, "down", f"{each} has no ports", f"give it one: {add}")
    bare = [each for each in way if not each.link.has_carrier]
    if bare and not down:
        text = f"{bare[-1]} is without carrier"
        yield Finding(PROBLEM, "carrier", text, "check its cable, or its switch port")
