"""Stand-ins for an IPAM plugin's answer, which a dry run does not have, and how scripts read it.

A dry run of ADD uses the stand-ins as addresses and routes. Its script lets the plugin answer, and
takes the real ones from ``ipvlan ipam-answer``, which checks the answer as ADD does.
"""

import os
import sys

import click

from cni_ipvlan.cli import configs, output
from cni_ipvlan.cli.options import command, option
from cni_ipvlan.cni import SUPPORTED_VERSIONS, delegate
from cni_ipvlan.cni.result import Address, Result, Route
from cni_ipvlan.config.netconf import NetConf
from cni_ipvlan.iproute import commands
from cni_ipvlan.iproute.interrupts import Interrupts
from cni_ipvlan.iproute.queries import Link
from cni_ipvlan.iproute.runner import Runner
from cni_ipvlan.iproute.transaction import Transaction
from cni_ipvlan.log import Log
from cni_ipvlan.plugin.addressing import (
    check_not_host_addresses,
    connected_routes,
    make_addressing,
)
from cni_ipvlan.plugin.configure import check_ipv4_conflict
from cni_ipvlan.plugin.find_master import find_master
from cni_ipvlan.plugin.host_access import HostAccess
from cni_ipvlan.plugin.master import Master

# The text of an IPv6 address has a colon, which shows its family.
_IPV4, _IPV6, _ROUTE = "<IPv4 address>", "<IPv6 address: …>", "<route>"
_LENGTH = "/<length>"
FOR_IPV4 = Result(addresses=(Address(_IPV4 + _LENGTH),), routes=(Route(_ROUTE),))
FOR_IPV6 = FOR_IPV4._replace(addresses=(Address(_IPV6 + _LENGTH),))
FOR_BOTH = FOR_IPV4._replace(addresses=FOR_IPV4.addresses + FOR_IPV6.addresses)
# For each stand-in, the loop around a command that has it, and the words that replace it.
STAND_INS = {
    _IPV4: ("for address in $ipv4", '"${address%/*}"'),
    _IPV4 + _LENGTH: ("for address in $ipv4", '"$address"'),
    _IPV6: ("for address in $ipv6", '"${address%/*}"'),
    _IPV6 + _LENGTH: ("for address in $ipv6", '"$address"'),
    _ROUTE: ("answered route | while read -r route", "$route"),
}
_VERSION = click.Choice(SUPPORTED_VERSIONS)


def reader_command(conf: NetConf, version: str, mtu: int, parent: Master) -> commands.Argv:
    """Return the command that reads an answer on standard input."""
    options = ["--plugin", conf.ipam_type, "--cni-version", version, "--mtu", str(mtu)]
    options += ["--master", parent.link.name] if parent.netns is None else []
    options += ["--host-access"] if conf.host_access else []
    return (os.path.abspath(sys.argv[0]), "ipam-answer", *options)


@command("ipvlan ipam-answer --plugin host-local --cni-version 1.0.0 --mtu 1500 < answer")
@option("--plugin", str, "TYPE", "The IPAM plugin that answered.", required=True)
@option("--cni-version", _VERSION, None, "cniVersion of an answer that names none.", required=True)
@option("--mtu", int, "NUMBER", "The interface's MTU, which IPv6 may refuse.", required=True)
@option("--master", str, "NAME", "The host's interface, whose own addresses are refused.")
@click.option("--host-access", is_flag=True, help="The host gets routes to the addresses.")
def ipam_answer(
    plugin: str, cni_version: str, mtu: int, master: str | None, host_access: bool, as_json: bool
) -> None:
    """Read an IPAM plugin's answer on standard input, for the script of a dry run.

    It is checked as add does. Then each address is printed on a line, after the word ipv4 or
    ipv6, and each route after the word route, in the words of ip route add.
    """
    result = delegate.result(plugin, cni_version, 0, configs.read_standard_input(), b"")
    conf = NetConf("", master or "", mtu=mtu, ipam_type=plugin, host_access=host_access)
    log = Log(output.echo_err, {})
    tx = Transaction(Runner(os.environ.get("PATH", ""), log.command, Interrupts()))
    parent = find_master(tx, conf, None) if master else Master(Link(0, ""))
    addressing = make_addressing(conf, parent, result)
    addresses, routes = addressing.addresses, addressing.routes
    if master:
        check_not_host_addresses(tx, parent, addresses)
        if host_access and HostAccess().extend(tx, addressing, parent, conf).is_conflict_likely:
            check_ipv4_conflict(tx, parent, addressing)
    values: dict[str, list[str]] = {"ipv4": [], "ipv6": [], "route": []}
    for address in addresses:
        values[f"ipv{address.family}"].append(address.address)
    connected = connected_routes(routes, addresses)
    for route in (each for each in routes if each not in connected):
        values["route"].append(" ".join(commands.route_add(name="", **route._asdict())[3:]))
    if as_json:
        output.echo_json(values)
    else:
        output.echo(*(f"{word} {each}" for word, texts in values.items() for each in texts))
