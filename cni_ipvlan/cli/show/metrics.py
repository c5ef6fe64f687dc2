"""What the command show found, as metrics for Prometheus.

All are gauges: thus the text is both OpenMetrics and what node_exporter's textfile collector reads.
Labels have names that root gave. Of what containers' owners name, there is only the number.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from cni_ipvlan import __version__
from cni_ipvlan.cli.configs import Known
from cni_ipvlan.config import netconf
from cni_ipvlan.plugin import host_local

_PREFIX = "cni_ipvlan_"
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"'})
_Labels = tuple[tuple[str, str], ...]


def lines(found: Mapping[str, Any], networks: Known) -> Iterator[str]:
    """Yield the lines of what ``tree.look`` found, and of the addresses of ``networks``."""
    attachments, faulty = Counter[_Labels](), Counter[_Labels]()
    up: dict[_Labels, int] = {}
    for each in found["masters"]:
        is_on_host = each["up"] is not None
        name = each["master"] if is_on_host else ""
        rows = [row for row in each["attachments"] if row["netns"]]
        attachments[_labels(master=name, mode=each["mode"], flag=each["flag"])] += len(rows)
        faulty[_labels(master=name)] += sum(bool(row["problems"]) for row in rows)
        if is_on_host:
            up[_labels(master=name)] = int(each["up"])
    fullest = {_labels(network=name): usage for name, usage in _fullest(networks)}
    used = {labels: usage.leased for labels, usage in fullest.items()}
    free = {labels: usage.capacity - usage.leased for labels, usage in fullest.items()}
    left = Counter({_labels(kind="lease"): 0, _labels(kind="record"): 0})
    left.update(_labels(kind=each["kind"]) for each in found["leftovers"])
    unseen = len(found["notSeen"])
    values: dict[tuple[str, str], Mapping[_Labels, int]] = {
        ("build_info", "The plugin's version."): {_labels(version=__version__): 1},
        ("attachments", "Interfaces of containers."): attachments,
        ("attachments_with_problems", "Interfaces that have a problem."): faulty,
        ("master_up", "Whether a master is up."): up,
        ("addresses_used", "Addresses that host-local has leased."): used,
        ("addresses_free", "Addresses that host-local can still lease."): free,
        # If something is not seen, what is left is not known.
        ("leftovers", "Leases and records of containers that are gone."): {} if unseen else left,
        ("not_seen", "Places that could not be read."): {(): unseen},
    }
    for (name, about), numbers in values.items():
        if numbers:
            yield from (f"# HELP {_PREFIX}{name} {about}", f"# TYPE {_PREFIX}{name} gauge")
        for labels, number in numbers.items():
            given = ",".join(f'{label}="{text}"' for label, text in labels)
            yield f"{_PREFIX}{name}{f'{{{given}}}' if given else ''} {number}"
    yield "# EOF"


def _fullest(networks: Known) -> Iterator[tuple[str, host_local.Usage]]:
    """Yield each network of host-local's, and how full the fullest of its ranges is."""
    for name, given in networks.items():
        if given and netconf.ipam_type(given[0].config) == "host-local":
            with suppress(OSError):
                usage = host_local.usage(given[0].config)
                if usage:
                    yield name, min(usage, key=lambda each: each.capacity - each.leased)


def _labels(**names: str) -> _Labels:
    """Return labels. Prometheus refuses a file with an unknown escape, or twice the same labels."""
    return tuple(
        (label, "".join(each if each.isprintable() else "?" for each in name).translate(_ESCAPES))
        for label, name in names.items()
    )
