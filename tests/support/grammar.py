"""The grammar of commands: what may be run, word by word. Any name fits, but only in its place."""

import os
import re
from collections.abc import Sequence
from ipaddress import IPv4Address, ip_address, ip_interface, ip_network
from itertools import dropwhile
from typing import Any

from cni_ipvlan.iproute import commands, running


def is_name(word: str, longest: int = 15) -> bool:
    encoded = os.fsencode(word)
    return (
        1 <= len(encoded) <= longest
        and word not in (".", "..", "all", "default")
        and not set(encoded) & set(b"/:%\0 \t\n\v\f\r\xa0")
    )


def is_path(word: str) -> bool:
    return word.startswith("/") and "\0" not in word


def is_possible(text: str) -> bool:
    """Return whether a process can get a text as its argument, and a file can have it as path."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _make_check(parse: Any) -> Any:
    def accept(word: str) -> bool:
        try:
            return str(parse(word)) == word and "%" not in word
        except ValueError:
            return False

    return accept


PARAMETERS = (
    *("disable_ipv6", "arp_notify", "ndisc_notify", "keep_addr_on_down"),
    *("accept_ra", "addr_gen_mode", "rp_filter", "accept_redirects"),
)
OF_ALL = (
    *("/default/disable_ipv6", "/all/rp_filter"),
    *("/default/accept_redirects", "/all/accept_redirects"),
)
SLOTS: dict[str, Any] = {
    "NAME": is_name,
    "ALTNAME": lambda word: is_name(word, 127),
    "PATH": is_path,
    "SPACE": lambda word: bool(word) and "/" not in word,
    "NUMBER": lambda word: re.fullmatch(r"[0-9]{1,10}", word) and int(word) < 2**32,
    "ADDRESS": _make_check(ip_interface),
    "GATEWAY": _make_check(ip_address),
    "IPV4": _make_check(IPv4Address),
    "PREFIX": _make_check(ip_network),
    "FAMILY": ("-4", "-6").__contains__,
    "MAC": lambda word: re.fullmatch(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", word),
    "MODE": ("l2", "l3", "l3s").__contains__,
    "FLAG": ("bridge", "private", "vepa").__contains__,
    "KIND": ("ipvlan", "ipvtap", "macvlan", "macvtap", "vlan").__contains__,
    "LABEL": lambda word: len(os.fsencode(word)) <= 255 and word.startswith("cni-ipvlan/"),
    "SYSCTL": lambda word: (
        (match := re.fullmatch(r"/proc/sys/net/ipv[46]/conf/([^/]+)/(\w+)", word)) is not None
        and (is_name(match[1]) or match[0].endswith(OF_ALL))
        and match[2] in PARAMETERS
    ),
}
COMMANDS = [
    line.split()
    for line in """
    ip -j -d link show dev ALTNAME
    ip -j -d link show type KIND
    ip -j -d link show
    ip -j -d address show
    ip -j -d address show dev ALTNAME
    ip -j -d address show type KIND
    ip -N -j -d route show table all dev NAME
    ip -j -d route show table local
    ip -6 -j -d route show table local
    ip -N -j -d route show table all
    ip -j -d nexthop show
    ip FAMILY -N -j -d route show to exact GATEWAY dev NAME
    ip FAMILY -N -j -d route show default
    ip FAMILY -N -j -d route show to match GATEWAY
    ip -j neighbour show dev NAME
    ip -j neighbour show to GATEWAY dev NAME
    ip link add link NAME name NAME [mtu NUMBER] type ipvlan mode MODE FLAG
    ip link add name ivprobe%d type ipvlan
    ip link add link NAME name ivprobe%d type ipvlan mode l2 bridge
    ip link add link NAME name NAME type vlan id NUMBER
    ip link add link NAME name ivprobe%d type macvlan mode bridge macaddr flush
    ip link set dev NAME netns PATH name NAME alias LABEL
    ip link set dev NAME name NAME alias LABEL
    ip link set dev NAME alias LABEL
    ip link set dev NAME up
    ip link set dev NAME arp off
    ip link set dev NAME broadcast ff:ff:ff:ff:ff:ff
    ip link delete dev NAME
    ip address add ADDRESS dev NAME [broadcast +]
    ip route add PREFIX [via GATEWAY] dev NAME [mtu NUMBER] [advmss NUMBER] [metric NUMBER] \
        [table NUMBER] [scope NUMBER]
    ip route add GATEWAY dev NAME src GATEWAY metric NUMBER
    ip route replace PREFIX [via GATEWAY] dev NAME src GATEWAY [mtu NUMBER] [advmss NUMBER] \
        [metric NUMBER] [table NUMBER] [scope NUMBER]
    ip route delete GATEWAY dev NAME metric NUMBER
    ip neighbour replace GATEWAY lladdr MAC dev NAME nud permanent
    ip -batch
    ip -j -d -batch -
    tc qdisc add dev NAME clsact
    tc filter add dev NAME egress protocol ip u32 match u8 0x45 0xff at 0 \
        match ip protocol 17 0xff match ip src 0.0.0.0/32 match ip dport 67 0xffff \
        action pedit munge ip dst set 255.255.255.255 \
        munge offset 38 u16 set 0x8000 pipe action csum ip4h and udp
    cat SYSCTL
    cat SYSCTL SYSCTL
    tee SYSCTL
    tee SYSCTL SYSCTL SYSCTL
    arping -D -w 1 -I NAME IPV4
    PLUGIN
    """.replace("\\\n", " ")
    .strip()
    .splitlines()
]
SLOTS["PLUGIN"] = lambda word: "/" in word  # the path of a program, not a word of its arguments


_TEXTS = (commands.WRITE_AND_RUN, running._SHOW_AND_STAY)
SCRIPTS = [["sh", "-c", text, "sh"] for text in _TEXTS]


def split_namespace(command: tuple[str, ...]) -> tuple[str, list[str]]:
    """Return the namespace that a command is run in, if any, and its words there."""
    words = list(command)
    if words[:3] == ["ip", "netns", "exec"]:
        return words[3], words[4:]
    if words[:2] == ["ip", "-n"] and "-batch" in words[-2:]:
        return words[2], ["ip", *words[3:]]
    if words[0] == "nsenter":
        return words[1].partition("--net=")[2], words[2:]
    return "", words


def is_allowed(command: tuple[str, ...]) -> bool:
    namespace, words = split_namespace(command)
    if words != [*command] and not (
        is_path(namespace) if command[0] == "nsenter" else SLOTS["SPACE"](namespace)
    ):
        return False
    if words[:1] == ["sh"]:  # a script that is always the same, with names as its arguments
        name = words[4] if len(words) > 4 else ""
        if words[:4] in SCRIPTS:
            return _fits(words[4:], [*["SYSCTL"] * 3, "ip", "-j", "-d", "-batch", "-"])
        addresses = words[6:]
        are_addresses = all(":" in each and SLOTS["ADDRESS"](f"{each}/128") for each in addresses)
        is_wait = words == [*commands.wait_for_ipv6(name, 5, addresses)]
        return is_name(name) and are_addresses and is_wait
    # In a batch, the options of ip apply to every line, also to changes.
    if words[0] == "ip" and "-batch" not in words and not is_query(tuple(words)):
        words = without_options(tuple(words))
    return any(_fits(words, template) for template in COMMANDS)


def _fits(words: Sequence[str], template: Sequence[str]) -> bool:
    if not template:
        return not words
    expected, *remainder = template
    if expected.startswith("["):  # an option with a value, or none
        option = [expected[1:], remainder[0].rstrip("]")]
        return any(_fits(words, [*each, *remainder[1:]]) for each in (option, []))
    slot = SLOTS.get(expected, expected.__eq__)
    return bool(words) and bool(slot(words[0])) and _fits(words[1:], remainder)


def without_options(words: tuple[str, ...]) -> list[str]:
    """Return the words of an ip without the options before its object."""
    return [words[0], *dropwhile(lambda word: word.startswith("-"), words[1:])]


def is_query(words: tuple[str, ...]) -> bool:
    return words[0] == "ip" and without_options(words)[2:3] == ["show"]
