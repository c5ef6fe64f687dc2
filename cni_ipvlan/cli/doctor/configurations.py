"""The networks that this node is configured for."""

from __future__ import annotations

import os

from cni_ipvlan.cli import configs

DIRECTORY = "/etc/cni/net.d"


def on_node(given: configs.NetworkConfig | None) -> configs.Contents:
    """Return the networks of this node, without one that ``given`` replaces; raises OSError.

    That is one in the same file, or of the same name: ``given`` may be its next version.
    """
    found = configs.Contents([], [])
    for name in sorted(os.listdir(DIRECTORY)) if os.path.isdir(DIRECTORY) else ():
        if name.endswith(configs.JSON_SUFFIXES):
            networks, faults = configs.read_file(os.path.join(DIRECTORY, name))
            found.faults.extend(faults)
            for each in networks:
                files = {os.path.realpath(of.source) for of in (each, given) if of}
                if given is None or (len(files) > 1 and given.name != each.name):
                    found.networks.append(each)
    return found
