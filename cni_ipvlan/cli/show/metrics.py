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
    free = {labels: usage.room - usage.leased for labels, usage in fullest.items()}
    leftovers = {
        _labels(kind=kind): sum(each["kind"] == kind for each in found["leftovers"])
        for kind in ("lease", "record")
    }
    unseen = len(found["notSeen"])
    yield from _metric("build_info", "The plugin's version.", {_labels(version=__version__): 1})
    yield from _metric("attachments", "Interfaces of containers.", attachments)
    yield from _metric("attachments_with_problems", "Interfaces that have a problem.", faulty)
    yield from _metric("master_up", "Whether a master is up.", up)
    yield from _metric("addresses_used", "Addresses that host-local has leased.", used)
    yield from _metric("addresses_free", "Addresses that host-local can still lease.", free)
    if not unseen:  # otherwise what is left is not known
        about = "Leases and records of containers that are gone."
        yield from _metric("leftovers", about, leftovers)
    yield from _metric("not_seen", "Places that could not be read.", {(): unseen})
    yield "# EOF"


def _fullest(networks: Known) -> Iterator[tuple[str, host_local.Usage]]:
    """Yield each network of host-local's, and how full the fullest of its ranges is."""
    for name, given in networks.items():
        if given and netconf.ipam_type(given[0].config) == "host-local":
            with suppress(OSError):
                usage = host_local.usage(given[0].config)
                if usage:
                    yield name, min(usage, key=lambda each: each.room - each.leased)


def _labels(**names: str) -> _Labels:
    """Return labels. Prometheus refuses a file with an unknown escape, or twice the same labels."""
    return tuple(
        (label, "".join(each if each.isprintable() else "?" for each in name))
        for label, name in names.items()
    )


def _metric(name: str, about: str, values: Mapping[_Labels, int]) -> Iterator[str]:
    if values:
        yield f"# HELP cni_ipvlan_{name} {about}"
        yield f"# TYPE cni_ipvlan_{name} gauge"
    for labels, value in values.items():
        given = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels)
        yield f"cni_ipvlan_{name}{{{given}}} {value}" if given else f"cni_ipvlan_{name} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
