"""The Command type, and pure builders of argument vectors in ip(8)'s grammar.

Every name follows its keyword (``dev X``, ``name X``), since ip reads a bare ``ma``
as an abbreviation of ``master``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain, takewhile

from cni_ipvlan.iproute.namespace import Namespace
from cni_ipvlan.start.namedtuple import NamedTuple

Argv = tuple[str, ...]

# Which failures of a command are no error: that its object is missing; any, as the caller examines
# the status; or any, as the command is optional.
ABSENT, ANY, OPTIONAL = "absent", "any", "optional"
FOUND_DUPLICATE = 3  # wait_for_ipv6()
DUPLICATE_ANSWERED = 1  # arping_duplicate()
# No interface is called so: the kernel puts the first free number for %d (__dev_alloc_name() in
# net/core/dev.c), in a request that it refuses as well as in one that makes an interface.
PROBE = "ivprobe%d"
# For link_set(): a link that is up announces its addresses, as arp_notify has it do when it comes
# up. It gets the broadcast address that it has, every ipvlan's. The kernel takes that for a change
# of its hardware address (NETDEV_CHANGEADDR): do_setlink() in net/core/rtnetlink.c,
# inetdev_event() in net/ipv4/devinet.c.
ANNOUNCE = ("broadcast", "ff:ff:ff:ff:ff:ff")
_OPTIONS = ("-4", "-6", "-j", "-d", "-N")  # of queries; changes ignore all but the families
_BATCH = ("-batch", "-")
_HEADERS_OF_IPV4, _HEADERS_OF_IPV6 = 28, 48  # bytes, with ICMP's
_WRITER = "tee"
# Write 1 to each file before the word ip, and run the rest. The files of IPv6 do not exist without
# it, or if the MTU is too small for it. A failure is only reported.
WRITE_AND_RUN = 'while [ "$1" != ip ]; do [ ! -e "$1" ] || echo 1 >"$1"; shift; done; exec "$@"'
NO_GATEWAY = ("", "0.0.0.0", "::")  # ways to say that a destination is on the link: RFC 3442
NETNS_NAME = "own"  # see netns_of_number()
_NAME_AND_ASK = (
    f"mount -t tmpfs none /run && mkdir /run/netns && cd /run/netns && : >{NETNS_NAME} && "
    f'mount --bind "$1" {NETNS_NAME} && exec ip -j netns list-id nsid "$2"'
)
_KEYWORDS = {"source": "src", "priority": "metric"}  # ip's words for attributes of routes
# A link's kernel parameters, as paths below /proc/sys.
IPV6_OFF = "net/ipv6/conf/{}/disable_ipv6"  # 1: it has no IPv6
ACCEPT_REDIRECTS = "net/ipv4/conf/{}/accept_redirects"  # 0 here and of all: it ignores these
ACCEPT_RA = "net/ipv6/conf/{}/accept_ra"  # 0: it ignores routers' advertisements
ADDR_GEN_MODE = "net/ipv6/conf/{}/addr_gen_mode"  # 1: it gets no link-local address by itself
RP_FILTER = "net/ipv4/conf/{}/rp_filter"  # 1: it drops packets whose answers leave by another link
ARP_NOTIFY = "net/ipv4/conf/{}/arp_notify"  # 1: it announces its IPv4 addresses
NDISC_NOTIFY = "net/ipv6/conf/{}/ndisc_notify"  # 1: it announces its IPv6 addresses
KEEP_IPV6 = "net/ipv6/conf/{}/keep_addr_on_down"  # 1: its addresses stay while it is down
_BATCH_SYNTAX = frozenset("#\"'\\ \t\n\v\f\r")


class Command(NamedTuple):
    """A command, and everything needed to run it.

    argv         what to run, without the prefix that enters the namespace
    purpose      what a change is for, as the object of "cannot"; empty for a query
    netns        the network namespace to run it in, None for the caller's own
    stdin        its standard input
    environment  its whole environment, for an IPAM plugin; None for other programs
    undo         what undoes the change, last first
    accept       which failure counts as success: ABSENT, ANY, OPTIONAL, or "" for none
    """

    argv: Argv
    purpose: str = ""
    netns: Namespace | None = None
    stdin: bytes = b""
    environment: Mapping[str, str] | None = None
    undo: tuple[Undo, ...] = ()
    accept: str = ""

    @property
    def parameters(self) -> dict[str, str]:
        """The variables of its environment that are a CNI plugin's arguments."""
        return select_parameters(self.environment or {})

    @property
    def entered_argv(self) -> Argv:
        """The argument vector with the prefix that enters its namespace."""
        return in_namespace(self.netns, self.argv)

    @property
    def full_argv(self) -> Argv:
        """The same with its parameters, for a shell."""
        assignments = [f"{key}={value}" for key, value in self.parameters.items()]
        return (*(("env", *assignments) if assignments else ()), *self.entered_argv)

    @property
    def batch_lines(self) -> list[str]:
        """The lines that it passes to ``ip -batch``."""
        return self.stdin.decode("utf-8", "replace").splitlines() if "-batch" in self.argv else []


class Undo(NamedTuple):
    """A command that undoes a change, if ``only_if`` returns true, which is called first.

    One that ``comes_last`` may hang, so it is run after all others.
    """

    command: Command
    only_if: Callable[[], bool] | None = None
    comes_last: bool = False


def select_parameters(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that are a CNI plugin's arguments, but not what root sets for us."""
    pairs = (each for each in sorted(environment.items()) if each[0].startswith("CNI_"))
    return {name: value for name, value in pairs if not name.startswith("CNI_IPVLAN_")}


def in_shell(argv: Argv) -> str:
    """Return an argument vector in the words of a shell."""
    from shlex import join  # for failures and people: it imports re

    return join(argv)


def in_namespace(namespace: Namespace | None, argv: Argv) -> Argv:
    """Return ``argv`` as run inside ``namespace``; unchanged for None, the caller's own.

    ``ip netns exec`` takes a name under /run/netns and never a path, so a
    namespace without one is entered with nsenter(1). ``ip -n`` takes 1.6 ms for what takes
    ``ip netns exec`` 6.8; but people would not read lines for ``ip -batch`` in a script.
    """
    if namespace is None:
        return argv
    if namespace.name and argv[0] == "ip" and argv[-2:] == _BATCH:
        return ("ip", "-n", namespace.name, *argv[1:])
    if namespace.name:
        return ("ip", "netns", "exec", namespace.name, *argv)
    return ("nsenter", f"--net={namespace.path}", *argv)


def batch(*parts: Command) -> Command | None:
    """Return several ip commands as one ``ip -batch``, in the namespace of the first.

    The first may write 1 to kernel parameters. Return None if they must be run one by one:
    ``ip -batch`` cuts lines at ``#``, interprets quotes and backslashes, and applies its options to
    every line.
    """
    keys = parts[0].argv[1:] if parts[0].argv[0] == _WRITER else ()
    options: dict[str, None] = {}
    families, lines = set(), []
    for program, *words in (part.argv for part in parts[bool(keys) :]):
        query_options = list(takewhile(_OPTIONS.__contains__, words))
        arguments = words[len(query_options) :]
        if program != "ip" or arguments[0].startswith("-") or not all(map(_is_plain, arguments)):
            return None
        options.update(dict.fromkeys(query_options))
        families.add(("-4" in query_options, "-6" in query_options))
        lines.append(" ".join(arguments) + "\n")
    if len(families) > 1:
        return None
    argv = ("ip", *options, *_BATCH)
    accepted = {part.accept for part in parts}
    return Command(
        ("sh", "-c", WRITE_AND_RUN, "sh", *keys, *argv) if keys else argv,
        "; ".join(part.purpose for part in parts if part.purpose),
        parts[0].netns,
        "".join(lines).encode("utf-8", "surrogateescape"),
        undo=tuple(each for part in parts for each in part.undo),
        accept=accepted.pop() if len(accepted) == 1 else "",
    )


def _is_plain(word: str) -> bool:
    return bool(word) and _BATCH_SYNTAX.isdisjoint(word)


def prints_json(argv: Argv) -> bool:
    """Whether the argument vector is an ip query with JSON output."""
    return "-j" in takewhile(_OPTIONS.__contains__, argv[1:])  # a later one may be a name


def link_add_ipvlan(master: str, name: str, mode: str, flag: str, mtu: int) -> Argv:
    """Create an ipvlan link; ``mtu`` 0 means the kernel's default."""
    return (
        *("ip", "link", "add", "link", master, "name", name),
        *(("mtu", str(mtu)) if mtu else ()),
        *("type", "ipvlan", "mode", mode, flag),
    )


def link_add_vlan(master: str, name: str, vlan: int) -> Argv:
    """Create a link for a VLAN (802.1Q) of another link."""
    return ("ip", "link", "add", "link", master, "name", name, "type", "vlan", "id", str(vlan))


def link_add_without_master() -> Argv:
    """Request an impossible ipvlan link, for which the kernel loads the module as for a real one.

    The error is "Invalid argument" if it has ipvlan, "Unknown device type" if not.
    """
    return ("ip", "link", "add", "name", PROBE, "type", "ipvlan")


def link_add_macvlan_refused(master: str) -> Argv:
    """Request an impossible macvlan link, to find out whether the master carries an ipvlan.

    The error is "Device or resource busy" if it carries one in any namespace, or is in use by a
    bridge, say. Else it is "Invalid argument", as only mode source has addresses to flush
    (macvlan_common_newlink(), macvlan_changelink_sources() in drivers/net/macvlan.c).
    """
    return (
        *("ip", "link", "add", "link", master, "name", PROBE),
        *("type", "macvlan", "mode", "bridge", "macaddr", "flush"),
    )


def link_set(name: str, *words: str) -> Argv:
    """Change a link: all that is given in one request."""
    return ("ip", "link", "set", "dev", name, *words)


def link_delete(name: str) -> Argv:
    """Delete a link."""
    return ("ip", "link", "delete", "dev", name)


def address_add(address: str, name: str) -> Argv:
    """Give a link an address with its prefix length, in IPv4 with the subnet's broadcast address.

    Programs ask the interface for that. ip gives none to a prefix of 31 or 32 bits.
    """
    broadcast = () if ":" in address else ("broadcast", "+")
    return ("ip", "address", "add", address, "dev", name, *broadcast)


def _show(what: str, name: str | None = None, kind: str | None = None) -> Argv:
    """Describe what one link has, or all links, or those of a kind."""
    selector = (*(() if name is None else ("dev", name)), *(() if kind is None else ("type", kind)))
    return ("ip", "-j", "-d", what, "show", *selector)


link_show, address_show = partial(_show, "link"), partial(_show, "address")
nexthop_show = partial(_show, "nexthop")  # those that are objects of their own


def route_add(dst: str, name: str, gateway: str = "", **attributes: str | int | None) -> Argv:
    """Add a route through a link; None and "" leave an attribute to the kernel.

    The scope is never a name: in a batch, ip reads "scope global" after "scope 200" as 200, since
    rtnl_rtscope_a2n() caches the last name together with the last value.
    """
    values = {"via": "" if gateway in NO_GATEWAY else gateway, "dev": name, **attributes}
    words = ((_KEYWORDS.get(k, k), str(v)) for k, v in values.items() if v not in ("", None))
    return ("ip", "route", "add", dst, *chain.from_iterable(words))


def route_replace(dst: str, name: str, gateway: str = "", **attributes: str | int | None) -> Argv:
    """Change a route of ``route_add()``."""
    return ("ip", "route", "replace", *route_add(dst, name, gateway, **attributes)[3:])


def route_delete(address: str, name: str, metric: int) -> Argv:
    """Delete a route to a single address."""
    return ("ip", "route", "delete", address, "dev", name, "metric", str(metric))


def route_show(*selector: str, family: str = "") -> Argv:
    """List routes, with numeric values: by default the IPv4 ones of the main table.

    ``table all`` has both families; for other IPv6 routes, the family must be -6.
    """
    return ("ip", *((family,) if family else ()), "-N", "-j", "-d", "route", "show", *selector)


def route_show_local(*family: str) -> Argv:
    """List the routes to the host's own and broadcast addresses, of IPv4 without a family.

    The values are words: in a batch, the option -N would apply to the queries for links, too.
    """
    return ("ip", *family, "-j", "-d", "route", "show", "table", "local")


def neighbour_replace(address: str, mac: str, name: str) -> Argv:
    """Give a link a permanent neighbour entry."""
    return ("ip", "neighbour", "replace", address, "lladdr", mac, "dev", name, "nud", "permanent")


def neighbour_show(name: str, address: str = "") -> Argv:
    """List the neighbours that a link knows, or the one with that address."""
    return ("ip", "-j", "neighbour", "show", *(("to", address) if address else ()), "dev", name)


def netns_of_number(number: int, process: str) -> Argv:
    """Print NETNS_NAME if the current network namespace has that number for a process's namespace.

    Only ip and lsns ask for that. lsns looks at all files that are open on this machine. ip knows
    the namespaces in a directory, so it gets one of its own, with one namespace.
    """
    netns = f"/proc/{process}/ns/net"
    return ("unshare", "--mount", "sh", "-c", _NAME_AND_ASK, "sh", netns, str(number))


def route_get(address: str, **words: str) -> Argv:
    """Ask how echo requests to an address leave; it fails if there is no route.

    ``words`` are of ip-route(8)'s ``get``: ``iif`` with ``from`` asks for what comes in.
    """
    selectors = (word for pair in words.items() if pair[1] for word in pair)
    return ("ip", "-j", "route", "get", address, *of_echoes(address), *selectors)


def of_echoes(address: str) -> tuple[str, str]:
    """Return the words by which rules for echoes to an address apply; ICMP has two numbers."""
    return ("ipproto", "58" if ":" in address else "1")


def ping(address: str, *senders: str, mtu: int = 0, seconds: int = 2) -> Argv:
    """Wait for an echo; ``senders`` are a link and an address to send from, where not empty.

    With ``mtu``, three requests have that size and may not be fragmented; one has to be answered.
    """
    sender_options = (word for each in senders if each for word in ("-I", each))
    if not mtu:
        return ("ping", "-n", "-c", "1", "-i", "0.5", "-w", str(seconds), *sender_options, address)
    size = str(mtu - (_HEADERS_OF_IPV6 if ":" in address else _HEADERS_OF_IPV4))
    packets = ("-c", "3", "-i", "0.2", "-W", "2")
    return ("ping", "-n", *packets, "-M", "do", "-s", size, *sender_options, address)


def arping(address: str, interface: str) -> Argv:
    """Ask from an interface, with its address, for the MAC address of another.

    Its status is 1 if nobody answers. Proxy ARP answers this, but no ``arping_duplicate()``.
    """
    return ("arping", "-f", "-w", "1", "-I", interface, address)


def sysctl_write(*keys: str) -> Argv:
    """Write standard input into kernel parameters, given as paths below /proc/sys.

    By tee(1), as sysctl(8) splits keys at "=" and expands "*": both are legal in interface names.
    """
    return (_WRITER, *(f"/proc/sys/{key}" for key in keys))


def sysctl_read(*keys: str) -> Argv:
    """Print kernel parameters, one per line, given as paths below /proc/sys."""
    return ("cat", *(f"/proc/sys/{key}" for key in keys))


def forwarding_key(address: str) -> str:
    """Return the kernel parameter that is 0 if packets to an address are not forwarded."""
    return "net/ipv6/conf/all/forwarding" if ":" in address else "net/ipv4/ip_forward"


def arping_duplicate(address: str, interface: str) -> Argv:
    """Ask an interface's network for a second whether a host uses an IPv4 address.

    The status of iputils' arping is DUPLICATE_ANSWERED then. As for IPv6, one probe is sent.
    """
    return ("arping", "-D", "-w", "1", "-I", interface, address)


def wait_for_ipv6(name: str, seconds: int, addresses: Sequence[str]) -> Argv:
    """Wait until duplicate address detection has ended on a link.

    Its status is FOUND_DUPLICATE if one of the addresses, without prefix lengths, is a duplicate.
    It polls, since the kernel does not repeat an event for late listeners.
    """
    loop = 'while ip -6 address show dev "$1" tentative -dadfailed | grep -q .; do sleep 0.05; done'
    script = (
        f'timeout {seconds} sh -c "$2" sh "$1" || [ $? = 124 ] || exit; '
        'ip -6 address show dev "$1" dadfailed | grep -q . || exit 0; '
        "name=$1; shift 2; for address; do "
        'ip -6 address show dev "$name" dadfailed to "$address" | grep . >&2 && '
        f"exit {FOUND_DUPLICATE}; done; exit 0"
    )
    return ("sh", "-c", script, "sh", name, loop, *addresses)


def clsact_add(name: str) -> Argv:
    """Give a link a place for filters of what leaves through it."""
    return ("tc", "qdisc", "add", "dev", name, "clsact")


def broadcast_filter_add(name: str) -> Argv:
    """Have each DHCP request that leaves through a link without a sender's address broadcast.

    Its flag BROADCAST is set, too: the first bit of the field "flags", of which the others are 0
    (RFC 2131, section 2), 10 bytes behind the headers of IP, without options, and of UDP.
    """
    return (
        *("tc", "filter", "add", "dev", name, "egress", "protocol", "ip", "u32"),
        *("match", "u8", "0x45", "0xff", "at", "0", "match", "ip", "protocol", "17", "0xff"),
        *("match", "ip", "src", "0.0.0.0/32", "match", "ip", "dport", "67", "0xffff"),
        *("action", "pedit", "munge", "ip", "dst", "set", "255.255.255.255"),
        *("munge", "offset", "38", "u16", "set", "0x8000", "pipe"),
        *("action", "csum", "ip4h", "and", "udp"),
    )
