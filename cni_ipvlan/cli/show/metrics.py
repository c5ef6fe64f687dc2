"""The document of the command show as metrics for Prometheus.

All are gauges: thus the text is both OpenMetrics and what node_exporter's textfile collector reads.
Labels have only names that root gave. What containers' owners name is only counted.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from cni_ipvlan import __version__
from cni_ipvlan.cli.configs import Networks, select_stores
from cni_ipvlan.config import netconf
from cni_ipvlan.plugin import host_local

_PREFIX = "cni_ipvlan_"
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"'})
_Labels = tuple[tuple[str, str], ...]


def render(document: Mapping[str, Any], networks: Networks) -> Iterator[str]:
    """Yield the lines for the document of ``tree.inspect``, and the addresses of ``networks``."""
    attachments, faulty = Counter[_Labels](), Counter[_Labels]()
    up: dict[_Labels, int] = {}
    for each in document["masters"]:
        is_on_host = each["up"] is not None
        name = each["master"] if is_on_host else ""
        rows = [row for row in each["attachments"] if row["netns"]]
        attachments[_labels(master=name, mode=each["mode"], flag=each["flag"])] += len(rows)
        faulty[_labels(master=name)] += sum(bool(row["problems"]) for row in rows)
        if is_on_host:
            up[_labels(master=name)] = int(each["up"])
    fullest = {_labels(network=name): usage for name, usage in _find_fullest_ranges(networks)}
    used = {labels: usage.leased for labels, usage in fullest.items()}
    free = {labels: usage.capacity - usage.leased for labels, usage in fullest.items()}
    leaked = Counter({_labels(kind="lease"): 0, _labels(kind="record"): 0})
    leaked.update(_labels(kind=each["kind"]) for each in document["leftovers"])
    unseen = len(document["notSeen"])
    values: dict[tuple[str, str], Mapping[_Labels, int]] = {
        ("build_info", "The plugin's version."): {_labels(version=__version__): 1},
        ("attachments", "Interfaces of containers."): attachments,
        ("attachments_with_problems", "Interfaces that have a problem."): faulty,
        ("master_up", "Whether a master is up."): up,
        ("addresses_used", "Addresses that host-local has leased."): used,
        ("addresses_free", "Addresses that host-local can still lease."): free,
        # If something was not seen, the leftovers are not known.
        ("leftovers", "Leases and records of containers that are gone."): {} if unseen else leaked,
        ("not_seen", "Places that could not be read."): {(): unseen},
    }
    for (name, about), numbers in values.items():
        if numbers:
            yield from (f"# HELP {_PREFIX}{name} {about}", f"# TYPE {_PREFIX}{name} gauge")
        for labels, number in numbers.items():
            text = ",".join(f'{label}="{value}"' for label, value in labels)
            yield f"{_PREFIX}{name}{f'{{{text}}}' if text else ''} {number}"
    yield "# EOF"


def _find_fullest_ranges(networks: Networks) -> Iterator[tuple[str, host_local.Usage]]:
    """Yield each network of host-local's, and how full the fullest of its ranges is."""
    for name, entries in networks.items():
        stores = [each.config for each in select_stores(entries)]
        stores = [each for each in stores if netconf.ipam_type(each) == "host-local"]
        with suppress(OSError):
            if usage := [each for store in stores for each in host_local.usage(store)]:
                yield name, min(usage, key=lambda each: each.capacity - each.leased)


def _labels(**names: str) -> _Labels:
    """Return labels. Prometheus refuses a file with an unknown escape, or twice the same labels."""
    return tuple(
        (label, "".join(each if each.isprintable() else "?" for each in name).translate(_ESCAPES))
        for label, name in names.items()
    )
