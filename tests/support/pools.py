"""Networks with small pools of addresses, and an IPAM plugin for them that knows GC."""

from collections.abc import Iterable
from ipaddress import ip_interface, ip_network
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from doubles import write_program
from lab import LEASES
from runtime import PLUGINS, Conf, host_local, network

CONTAINER_IDS = ("one", "one.1", "two")  # the second begins as the first does
IFNAMES = ("net1", "net2")
CAPACITY = 3  # addresses in a pool

GC_IPAM_TYPE = "taught"
# Debian's host-local, to which this teaches CNI 1.1.0 and GC.
GC_IPAM = f"""\
#!/bin/sh
stdin=$(cat)
if [ "$CNI_COMMAND" != GC ]; then
    version='s/"cniVersion": "1.1.0"/"cniVersion": "1.0.0"/g'
    printf %s "$stdin" | sed "$version" | {PLUGINS}/host-local
    exit
fi
name=$(printf %s "$stdin" | sed 's/.*"name": "\\([^"]*\\)".*/\\1/')
for lease in {LEASES}/networks/"$name"/[0-9]*; do
    [ -e "$lease" ] || continue
    {{ read -r id; read -r ifname; }} <"$lease"
    case $stdin in
        *'"containerID": "'"${{id%?}}"'", "ifname": "'"$ifname"'"'*) ;;
        *) rm "$lease" ;;
    esac
done
"""


class Key(NamedTuple):
    network: str
    container_id: str
    ifname: str


class Network(NamedTuple):
    """A network; without a pool, its attachments are chained."""

    conf: Conf
    subnet: str
    has_pool: bool

    @property
    def name(self) -> str:
        return str(self.conf["name"])

    @property
    def master(self) -> str:
        return f"{self.conf['master']}.{self.conf.get('vlan', '')}".rstrip(".")

    @property
    def mode(self) -> tuple[str, str]:
        return self.conf["mode"], self.conf.get("flag", "bridge")

    @property
    def has_gc(self) -> bool:
        return bool(self.conf["cniVersion"] == "1.1.0")

    def contains(self, address: str) -> bool:
        return ip_interface(address).ip in ip_network(self.subnet)

    def conf_of_add(self, key: Key) -> Conf:
        if self.has_pool:
            return self.conf
        ips = [{"address": self.static_address(key)}]
        return {**self.conf, "prevResult": {"cniVersion": self.conf["cniVersion"], "ips": ips}}

    def conf_of_gc(self, valid: Iterable[Key]) -> Conf:
        attachments = [{"containerID": each[1], "ifname": each[2]} for each in sorted(valid)]
        return {**self.conf, "cni.dev/valid-attachments": attachments}

    def static_address(self, key: Key) -> str | None:
        """Return the address that an attachment always has, unless it is from a pool."""
        number = list(product(CONTAINER_IDS, IFNAMES)).index(key[1:])
        return None if self.has_pool else self.subnet.replace("0/", f"{10 + number}/")


def _make_network(name: str, master: str, mode: str, number: int, **options: Any) -> Network:
    """Return a network; CNI 1.1.0 is what only the taught plugin knows."""
    ipam = host_local(f"10.{number}.0.0/24")
    ipam["ranges"][0][0]["rangeEnd"] = f"10.{number}.0.{1 + CAPACITY}"
    if "cniVersion" in options:
        ipam["type"] = GC_IPAM_TYPE
    conf = network(**{"name": name, "master": master, "mode": mode, "ipam": ipam, **options})
    return Network(conf, f"10.{number}.0.0/24", "ipam" in conf)


NETWORKS = {
    each.name: each
    for each in (
        _make_network("a", "eth0", "l2", 1),
        _make_network("b", "eth0", "l3", 2),
        _make_network("c", "eth0", "l2", 3, cniVersion="1.1.0"),
        _make_network("chained", "eth0", "l2", 4, cniVersion="1.1.0", ipam=None),
        _make_network("d", "eth1", "l3s", 5, cniVersion="1.1.0"),
        _make_network("e", "eth1", "l2", 6, flag="private"),
        _make_network("f", "eth0", "l2", 7, cniVersion="1.1.0", hostAccess=True),
        _make_network("g", "eth1", "l3s", 8, hostAccess=True),
        _make_network("h", "eth0", "l3", 9, cniVersion="1.1.0", vlan=100),
        _make_network("i", "eth0", "l2", 10, vlan=100),
    )
}


def install_gc_ipam(directory: Path) -> str:
    write_program(directory / GC_IPAM_TYPE, GC_IPAM)
    return f"{directory}:{PLUGINS}"
