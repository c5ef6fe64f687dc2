"""Commands: what running one takes, and pure builders of argument vectors, in ip(8)'s grammar.

Every name stands behind its keyword (``dev X``, ``name X``): ip takes a bare
``ma`` for an abbreviation of ``master``.
"""

from __future__ import annotations

from cni_ipvlan._namedtuple import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cni_ipvlan.iproute.namespace import Namespace

Argv = tuple[str, ...]

FOUND_DUPLICATE = 3
_COMMON_OPTIONS = ("-j", "-d", "-N")  # of queries; they do nothing to a change
_NOT_PLAIN = frozenset("#\"'\\ \t\n\v\f\r")


class Command(NamedTuple):
    """A command and all that running it takes.

    argv            what to run, without what leads into the namespace
    purpose         what a change is for, as the object of "cannot"; empty for a query
    inside          the network namespace to run it in, None for the caller's own
    stdin           its standard input
    environment     its whole environment, for a program that is not ours: an IPAM plugin
    parameters      those variables of the environment that are meant for it
    undo            what takes the change back, last first
    only_if         asked first, of an undo: whether there is something to take back
    absent_ok       that what it is about is not there is no failure
    any_status      no exit status is a failure: the caller reads it
    may_fail        likewise, since it is welcome but not needed
    changes_nothing it can be run in a dry run
    parts           the commands that this one runs all together
    """

    argv: Argv
    purpose: str = ""
    inside: Namespace | None = None
    stdin: bytes = b""
    environment: Mapping[str, str] | None = None
    parameters: Mapping[str, str] | None = None
    undo: tuple[Command, ...] = ()
    only_if: Callable[[], bool] | None = None
    absent_ok: bool = False
    any_status: bool = False
    may_fail: bool = False
    changes_nothing: bool = False
    parts: tuple[Command, ...] = ()

    @property
    def entered_argv(self) -> Argv:
        """The argument vector with what leads into its namespace."""
        return in_namespace(self.inside, self.argv)

    @property
    def full_argv(self) -> Argv:
        """The same with its parameters, as a shell needs it."""
        assignments = [f"{key}={value}" for key, value in sorted((self.parameters or {}).items())]
        return (*(("env", *assignments) if assignments else ()), *self.entered_argv)

    @property
    def batch_lines(self) -> list[str]:
        """What it has one ip run, a line each."""
        return self.stdin.decode("utf-8", "replace").splitlines() if "-batch" in self.argv else []


def together(*parts: Command) -> Command:
    """Return several ip commands as one, run by one ip; all in the namespace of the first.

    Its argv is empty where that is not possible and they must be run one by one.
    """
    purpose = "; ".join(part.purpose for part in parts if part.purpose)
    argv, stdin = _batch([part.argv for part in parts]) or ((), b"")
    return Command(argv, purpose, parts[0].inside, stdin, parts=parts)


def in_namespace(namespace: Namespace | None, argv: Argv) -> Argv:
    """Return ``argv`` as run inside ``namespace``; unchanged for None, the caller's own.

    ``ip netns exec`` takes a name under /run/netns and never a path, so a
    namespace without one is entered with nsenter(1).
    """
    if namespace is None:
        return argv
    if namespace.name:
        return ("ip", "netns", "exec", namespace.name, *argv)
    return ("nsenter", f"--net={namespace.path}", *argv)


def _batch(commands: Sequence[Argv]) -> tuple[Argv, bytes] | None:
    """Return one ip that runs several ip commands, and its standard input.

    None when that is not possible: ``ip -batch`` cuts a line at ``#`` and takes
    quotes and backslashes for its own, and its options count for every line.
    """
    options: dict[str, None] = {}
    lines = []
    for program, *words in commands:
        count = next((i for i, word in enumerate(words) if word not in _COMMON_OPTIONS), 0)
        options.update(dict.fromkeys(words[:count]))
        rest = words[count:]
        if program != "ip" or rest[0].startswith("-") or not all(map(_is_plain, rest)):
            return None
        lines.append(" ".join(rest) + "\n")
    return ("ip", *options, "-batch", "-"), "".join(lines).encode("utf-8", "surrogateescape")


def prints_json(argv: Argv) -> bool:
    """Whether the argument vector is that of a query of ip."""
    for word in argv[1:]:
        if word not in _COMMON_OPTIONS and word not in ("-4", "-6"):
            return False  # what follows may be an interface called -j
        if word == "-j":
            return True
    return False


def _is_plain(word: str) -> bool:
    return bool(word) and _NOT_PLAIN.isdisjoint(word)


def link_add_ipvlan(master: str, name: str, mode: str, flag: str, mtu: int) -> Argv:
    """Create an ipvlan link; ``mtu`` 0 is the kernel's choice."""
    return (
        *("ip", "link", "add", "link", master, "name", name),
        *(("mtu", str(mtu)) if mtu else ()),
        *("type", "ipvlan", "mode", mode, flag),
    )


def link_add_without_master(name: str) -> Argv:
    """Ask for an ipvlan link that can't be: the refusal tells whether the kernel knows the kind.

    It answers "Invalid argument" when it does, "Unknown device type" when not,
    and loads the module on the way, as a real request would.
    """
    return ("ip", "link", "add", "name", name, "type", "ipvlan")


def link_add_macvlan_refused(master: str) -> Argv:
    """Ask for a macvlan link that can't be: the refusal tells whether an ipvlan is on the master.

    It answers "Device or resource busy" when one is (or another taker of its
    packets), in whatever namespace, and otherwise "Invalid argument", for only
    mode source has addresses to flush (macvlan_common_newlink() and
    macvlan_changelink_sources() in drivers/net/macvlan.c).
    """
    return (
        *("ip", "link", "add", "link", master, "name", "ipvlan-probe"),
        *("type", "macvlan", "mode", "bridge", "macaddr", "flush"),
    )


def link_set_netns(name: str, namespace: Namespace, new_name: str) -> Argv:
    """Move a link into a namespace and rename it there, in one request."""
    return ("ip", "link", "set", "dev", name, "netns", namespace.path, "name", new_name)


def link_set_up(name: str) -> Argv:
    """Bring a link up."""
    return ("ip", "link", "set", "dev", name, "up")


def link_delete(name: str) -> Argv:
    """Delete a link."""
    return ("ip", "link", "delete", "dev", name)


def link_show(name: str) -> Argv:
    """Describe one link, with its kind."""
    return ("ip", "-j", "-d", "link", "show", "dev", name)


def link_show_kind(kind: str) -> Argv:
    """Describe every link of a kind."""
    return ("ip", "-j", "-d", "link", "show", "type", kind)


def link_show_all() -> Argv:
    """Describe every link."""
    return ("ip", "-j", "-d", "link", "show")


def address_add(address: str, name: str) -> Argv:
    """Give a link an address with its prefix length."""
    return ("ip", "address", "add", address, "dev", name)


def address_show(name: str) -> Argv:
    """Describe one link and its addresses."""
    return ("ip", "-j", "-d", "address", "show", "dev", name)


def address_show_kind(kind: str) -> Argv:
    """Describe every link of a kind and its addresses."""
    return ("ip", "-j", "-d", "address", "show", "type", kind)


def route_add(
    dst: str,
    name: str,
    *,
    gateway: str = "",
    table: int | None = None,
    priority: int | None = None,
    scope: int | None = None,
    mtu: int | None = None,
    advmss: int | None = None,
) -> Argv:
    """Add a route through a link; None leaves an attribute to the kernel."""
    words: list[str] = ["ip", "route", "add", dst]
    if gateway:
        words += ["via", gateway]
    words += ["dev", name]
    if table is not None:
        words += ["table", str(table)]
    if priority is not None:
        words += ["metric", str(priority)]
    if scope is not None:
        # Never by name: in a batch, "scope global" after a "scope 200" is 200 to ip, whose
        # rtnl_rtscope_a2n() remembers the last name beside the last value.
        words += ["scope", str(scope)]
    if mtu is not None:
        words += ["mtu", str(mtu)]
    if advmss is not None:
        words += ["advmss", str(advmss)]
    return tuple(words)


def route_show(name: str) -> Argv:
    """List a link's routes in every table and both families, numbers unresolved."""
    return ("ip", "-N", "-j", "-d", "route", "show", "table", "all", "dev", name)


def route_show_all() -> Argv:
    """List the routes in every table and both families, numbers unresolved."""
    return ("ip", "-N", "-j", "-d", "route", "show", "table", "all")


def route_show_default(family: int) -> Argv:
    """List the default routes of a family, 4 or 6, in the main table."""
    return ("ip", f"-{family}", "-j", "route", "show", "default")


def namespace_number(process: int) -> Argv:
    """Print the number that the current network namespace has for that of a process."""
    return ("lsns", "--json", "--type", "net", "--output", "NS,NETNSID", "--task", str(process))


def sysctl_write(*keys: str) -> Argv:
    """Write standard input into kernel parameters, given as paths below /proc/sys.

    tee(1) and not sysctl(8), which splits at "=" and expands "*" in a key; both
    are legal in an interface's name.
    """
    return ("tee", *(f"/proc/sys/{key}" for key in keys))


def sysctl_read(*keys: str) -> Argv:
    """Print kernel parameters, one a line, given as paths below /proc/sys."""
    return ("cat", *(f"/proc/sys/{key}" for key in keys))


def wait_for_ipv6(name: str, seconds: int) -> Argv:
    """Wait until duplicate address detection has ended on a link.

    Its status is FOUND_DUPLICATE when it found one. The kernel tells nobody who
    starts listening late: asking again is the sure way.
    """
    loop = 'while ip -6 address show dev "$1" tentative -dadfailed | grep -q .; do sleep 0.05; done'
    script = (
        f'timeout {seconds} sh -c "$2" sh "$1" || [ $? = 124 ] || exit; '
        f'! ip -6 address show dev "$1" dadfailed | grep -q . || exit {FOUND_DUPLICATE}'
    )
    return ("sh", "-c", script, "sh", name, loop)


def ipv6_off(name: str) -> str:
    """The parameter that is 1 when a link has no IPv6."""
    return f"net/ipv6/conf/{name}/disable_ipv6"


def arp_notify(name: str) -> str:
    """The parameter that makes a link announce its IPv4 addresses."""
    return f"net/ipv4/conf/{name}/arp_notify"


def ndisc_notify(name: str) -> str:
    """The parameter that makes a link announce its IPv6 addresses."""
    return f"net/ipv6/conf/{name}/ndisc_notify"
