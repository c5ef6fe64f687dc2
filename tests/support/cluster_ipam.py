#!/usr/bin/python3 -I
"""An IPAM plugin whose leases are kept for a whole cluster, called as whereabouts is.

It stands in for those plugins where only their calls matter: it takes the pod from CNI_ARGS, gives
the same pod and interface the same address again, releases what a container ID had, and lets a
reconciler (release_pods) take the leases of pods that are gone. The store is a file that
``ipam.store`` names, shared by all nodes; a lease is its address: pod, container ID, interface.
"""

import fcntl
import json
import os
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

Leases = dict[str, list[str]]


@contextmanager
def opened(store: str) -> Iterator[Leases]:
    with Path(store).open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        leases: Leases = json.loads(file.read() or "{}")
        yield leases
        file.truncate(0)
        file.write(json.dumps(leases))


def release_pods(store: str, living: Collection[str]) -> None:
    """Release the leases of all pods that don't live any more."""
    with opened(store) as leases:
        for address in [each for each, (pod, *_) in leases.items() if pod not in living]:
            del leases[address]


def main() -> int:
    conf = json.loads(sys.stdin.read())
    ipam = conf["ipam"]
    args = dict(pair.split("=", 1) for pair in os.environ.get("CNI_ARGS", "").split(";") if pair)
    container, ifname = os.environ["CNI_CONTAINERID"], os.environ["CNI_IFNAME"]
    with opened(ipam["store"]) as leases:
        verb = os.environ["CNI_COMMAND"]
        mine = [each for each, lease in leases.items() if lease[1:] == [container, ifname]]
        if verb == "ADD":
            pod = f"{args['K8S_POD_NAMESPACE']}/{args['K8S_POD_NAME']}"
            address = _allocate(leases, ipam["range"], [pod, container, ifname])
            _answer(conf, {"ips": [{"address": address}]})
        elif verb == "DEL":
            for address in mine:
                del leases[address]
        elif verb == "CHECK" and not mine:
            _answer(conf, {"code": 100, "msg": f"no lease of container {container}"})
            return 1
    return 0


def _allocate(leases: Leases, subnet: str, lease: list[str]) -> str:
    for address, (pod, _, ifname) in leases.items():
        if (pod, ifname) == (lease[0], lease[2]):
            leases[address] = lease
            return address
    network = ip_interface(subnet).network
    addresses = (f"{host}/{network.prefixlen}" for host in network.hosts())
    address = next(each for each in addresses if each not in leases)
    leases[address] = lease
    return address


def _answer(conf: dict[str, Any], document: dict[str, Any]) -> None:
    json.dump({"cniVersion": conf["cniVersion"], **document}, sys.stdout)


if __name__ == "__main__":
    sys.exit(main())
