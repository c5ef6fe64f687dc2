"""The networks that this node knows, and host-local's leases of them."""

from __future__ import annotations

import json
import os
from base64 import b64decode
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cni_ipvlan.cli import configs, leases
from cni_ipvlan.cli.doctor import configurations
from cni_ipvlan.cli.reach.probe import RESULTS
from cni_ipvlan.config import netconf
from cni_ipvlan.plugin import explain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cni_ipvlan.cli.leases import Lease

# libcni keeps the configuration of each attachment beside its result, for runtimes and Multus.
_KEPT = (RESULTS, "/var/lib/cni/multus/results")


def leased() -> dict[str, list[Lease]]:
    """Return host-local's leases by network, of those whose attachments may be ipvlan's.

    A network without an entry has its addresses from elsewhere, or is another plugin's.
    """
    known = _known()
    places: dict[str, set[str]] = {}
    for name in _names(explain.LEASES):
        if name not in known:  # all that is left of it are its leases
            places[name] = {explain.lease_directory({"name": name})}
    for name, found in known.items():
        of_host_local = [each for each in found if netconf.ipam_type(each) == "host-local"]
        if of_host_local:
            places[name] = {explain.lease_directory(each) for each in of_host_local}
    return {
        name: [lease for place in sorted(each) for lease in leases.in_directory(place)]
        for name, each in places.items()
    }


def _known() -> dict[str, list[dict[str, Any]]]:
    """Return the ipvlan configurations by network; none of a network of another plugin."""
    found: dict[str, list[dict[str, Any]]] = {}
    for file, text in _texts():
        with suppress(configs.ConfigError, ValueError, AttributeError, RecursionError):
            here = configs.load(file, text)
            found.setdefault(str(json.loads(text).get("name")), [])
            for network in here:
                found.setdefault(network.name, []).append(network.config)
    return found


def _texts() -> Iterator[tuple[str, str]]:
    """Yield the configurations of this node, and those that libcni keeps, each with its file."""
    for name in _names(configurations.DIRECTORY):
        file = os.path.join(configurations.DIRECTORY, name)
        if name.endswith(configs.JSON_SUFFIXES):
            with suppress(configs.ConfigError):
                yield file, configs.read_source(file)
    for directory in _KEPT:
        for name in _names(directory):
            file = os.path.join(directory, name)
            with suppress(configs.ConfigError, ValueError, KeyError, TypeError, RecursionError):
                kept = json.loads(configs.read_source(file))
                yield f"{file}.json", b64decode(kept["config"]).decode()


def _names(directory: str) -> list[str]:
    with suppress(OSError):
        return sorted(os.listdir(directory))
    return []
