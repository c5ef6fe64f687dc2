"""The command show, which prints the document of ``tree`` as JSON, as a table, or as metrics."""

import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import click

from cni_ipvlan import __version__
from cni_ipvlan.cli import calls, configs, options, output
from cni_ipvlan.cli.attachments import drop_link_local, matches_id
from cni_ipvlan.cli.configs import Networks
from cni_ipvlan.cli.options import option
from cni_ipvlan.cli.show import tree
from cni_ipvlan.cli.show.tree import is_by_gateway
from cni_ipvlan.iproute.interrupts import InterruptedBySignalError
from cni_ipvlan.iproute.namespace import Namespace
from cni_ipvlan.iproute.queries import MAIN_TABLE
from cni_ipvlan.plugin import host_local

_FORMS = _WIDE, _JSON, _METRICS = "wide", "json", "openmetrics"
_WATCH_TICKS, _TICK_SECONDS = 20, 0.1  # between two inspections
_COLUMNS = ("INTERFACE", "POD/CONTAINER", "NAMESPACE", "ADDRESSES", "MODE", "MASTER", "PROBLEMS")
_ID_CHARACTERS = 12  # of a container's ID
_MINIMUM_WIDTH = 8  # of a column, in characters
_GAP = "  "
_PREFIX = "cni_ipvlan_"
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"'})
_Filters = Mapping[str, str | None]


@options.command("ipvlan show --master eth1000", "ipvlan show --netns container1 -o wide")
@options.netns_option(required=False)
@option("--master", str, "NAME", "Only what this interface carries.")
@option("--container-id", options.container_id, "ID", "Only this container; 4 characters do.")
@option("--pod", str, "[NAMESPACE/]NAME", "Only this Kubernetes pod.")
@option(
    *("-o/--output/form", click.Choice(_FORMS), "|".join(_FORMS)),
    "Everything; or one JSON document; or numbers for Prometheus.",
)
@click.option("-w", "--watch", is_flag=True, help="Keep watching, in a terminal.")
def show(as_json: bool, watch: bool, form: str | None, **filters: str | None) -> int:
    """Show the ipvlan interfaces, what is wrong with them, and leftovers.

    With -o wide, there are more columns: MTU, gateways, routes, whole container IDs, leases.
    What is wrong is said last, as "no record", "no lease" or "unfinished"; debugging.md has a
    table of what each means. Leftovers are records and leases that have "no interface".
    """
    form = _JSON if as_json else form
    if watch and (form in (_JSON, _METRICS) or not output.is_terminal()):
        raise click.UsageError("--watch needs a terminal, and neither json nor openmetrics")
    netns = options.find_namespace(filters["netns"]) if filters["netns"] else None
    is_wanted = partial(_is_wanted, filters, netns)
    node = calls.read_only_node()
    ends_watching = (InterruptedBySignalError,) if watch else ()
    with suppress(*ends_watching):
        while True:
            with_routes = form in (_WIDE, _JSON)
            networks = configs.read_networks()
            document = tree.inspect(node, networks, is_wanted, with_routes=with_routes)
            if watch:
                click.clear()
            status = _print(document, networks, form, filters)
            if not watch:
                return status
            for _ in range(_WATCH_TICKS):
                node.runner.interrupts.check()
                time.sleep(_TICK_SECONDS)
    return 0


def _print(
    document: dict[str, Any], networks: Networks, form: str | None, filters: _Filters
) -> int:
    """Print the document; return 1 if it is empty because of filters, or of permissions, else 0."""
    texts = [f"--{name.replace('_', '-')} {value}" for name, value in filters.items() if value]
    is_empty = not (document["masters"] or document["leftovers"])
    is_hidden = is_empty and tree.NEEDS_ROOT in document["notSeen"]
    if form == _JSON:
        output.echo_json(document)
    elif form == _METRICS:
        output.echo(*(() if is_hidden else _render_metrics(document, networks)))
    else:
        if not is_empty:
            output.echo(*render_table(document, is_wide=form == _WIDE))
        elif not (texts or is_hidden):
            output.echo("no ipvlan interfaces")
        output.echo_err(*(f"not seen: {each}" for each in document["notSeen"] if not is_hidden))
        output.echo_err(*_suggest_release(document["leftovers"], networks))
    if is_hidden:
        output.echo_err("only root can look into containers; try: sudo ipvlan show")
    elif is_empty and texts:
        output.echo_err(f"nothing matches {' '.join(texts)}")
    return int(is_hidden or (is_empty and bool(texts)))


def _suggest_release(leftovers: Sequence[Mapping[str, Any]], networks: Networks) -> Iterator[str]:
    """Yield messages with commands that remove leftovers; GC keeps those of existing namespaces."""
    orphans = [each for each in leftovers if not os.path.exists(each["netns"] or "")]
    if orphans:
        leases = sum(each["kind"] == "lease" for each in orphans)
        has_files = all(networks.get(each["network"]) for each in orphans)
        command = f"ipvlan gc{'' if has_files else ' -c FILE'} --keep-existing"
        end = "" if has_files else " (FILE is the network's)"
        subject = f"what is left (leaked addresses: {leases})" if leases else "what is left"
        yield f"to release {subject}: {command}{end}"
    if len(orphans) < len(leftovers):
        yield "to release what a container has left that still exists: ipvlan del --container-id ID"


def _is_wanted(
    filters: _Filters,
    netns: Namespace | None,
    identity: tuple[int, int] | None,
    masters: Collection[str],
    container_id: str,
    pod: str,
) -> bool:
    """Whether an attachment is wanted: in a namespace, on a master, of a container, of a pod."""
    return (
        (netns is None or netns.identity == identity)
        and (not filters["master"] or filters["master"] in masters)
        and (not filters["container_id"] or matches_id(container_id, filters["container_id"]))
        and (not filters["pod"] or filters["pod"] in (pod, pod.partition("/")[2]))
    )


def render_table(document: dict[str, Any], *, is_wide: bool) -> Iterator[str]:
    """Yield a line for each attachment and each leftover, below a head.

    Unless it ``is_wide``, it has some of the columns, cut to fit the terminal if there is one;
    problems are never cut.
    """
    rows = [_cells(row, master) for master in document["masters"] for row in master["attachments"]]
    rows += [_cells(row, {}) for row in document["leftovers"]]
    names = [name for name in rows[0] if name != "ADDRESSES"] if is_wide else _COLUMNS
    table = [names, *([row[name] for name in names] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    if output.is_terminal() and not is_wide:
        available = shutil.get_terminal_size().columns - len(_GAP) * (len(widths) - 1)
        while sum(widths) > available and max(widths[:-1]) > _MINIMUM_WIDTH:
            widths[widths.index(max(widths[:-1]))] -= 1
    for number, (*row, problems) in enumerate(table):
        cells = (
            (cell if len(cell) <= width else cell[: width - 1] + "…").ljust(width)
            for cell, width in zip(row, widths, strict=False)
        )
        line = _GAP.join((*cells, ""))
        if number == 0:
            yield output.styled(line + problems, bold=True)
        else:
            yield (line + output.styled(problems, fg="yellow")).rstrip()


def _cells(row: dict[str, Any], master: dict[str, Any]) -> dict[str, str]:
    """Return the cells of an attachment of a master, or of a leftover, for which that is empty."""
    container, routes = row["containerID"] or "", row.get("routes", ())
    addresses = row.get("addresses") or [row.get("address") or ""]
    name = "(hostAccess)" if row.get("hostAccess") else row["pod"] or container[:_ID_CHARACTERS]
    namespace = row["netns"] or ("(host)" if master else "")
    problems = row["problems"] if master else (f"{row['problem']} ({row['kind']})",)
    cells = {
        "INTERFACE": row["interface"],
        "KIND": master and row["kind"],
        "POD/CONTAINER": name,
        "CONTAINER ID": container,
        "NETWORK": row["network"],
        "NAMESPACE": re.sub("^(/var)?/run/netns/", "", namespace),
        "MTU": row.get("mtu"),
        "ADDRESSES": " ".join(drop_link_local(addresses)),
        "ALL ADDRESSES": " ".join(addresses),
        "GATEWAYS": " ".join(row.get("gateways", ())),
        "ROUTES": ", ".join(_describe_route(each) for each in routes if not is_by_gateway(each)),
        "MODE": master and f"{master['mode']} {master['flag']}",
        "MASTER": (master or row)["master"],
        "MASTER MTU": master.get("mtu"),
        "LEASE": " ".join(row["leases"] or ()) if master else row["file"],
    }
    texts = {name: str(cell or "-") for name, cell in cells.items()}
    return {**texts, "PROBLEMS": ", ".join(problems)}


def _describe_route(route: dict[str, Any]) -> str:
    via = f" via {route['gw']}" if route["gw"] else ""
    table = "" if route["table"] == MAIN_TABLE else f" table {route['table']}"
    return f"{route['dst']}{via}{table}"


def _render_metrics(document: Mapping[str, Any], networks: Networks) -> Iterator[str]:
    """Yield metrics for Prometheus, of the document and of the addresses of ``networks``.

    All are gauges: so the text is both OpenMetrics and what node_exporter's textfile collector
    reads. Labels have only names that root gave. What containers' owners name is only counted.
    """
    attachments, faulty = Counter[str](), Counter[str]()
    up: dict[str, int] = {}
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
    values: dict[tuple[str, str], Mapping[str, int]] = {
        ("build_info", "The plugin's version."): {_labels(version=__version__): 1},
        ("attachments", "Interfaces of containers."): attachments,
        ("attachments_with_problems", "Interfaces that have a problem."): faulty,
        ("master_up", "Whether a master is up."): up,
        ("addresses_used", "Addresses that host-local has leased."): used,
        ("addresses_free", "Addresses that host-local can still lease."): free,
        # If something was not seen, the leftovers are not known.
        ("leftovers", "Leases and records of containers that are gone."): {} if unseen else leaked,
        ("not_seen", "Places that could not be read."): {"": unseen},
    }
    for (name, about), numbers in values.items():
        if numbers:
            yield from (f"# HELP {_PREFIX}{name} {about}", f"# TYPE {_PREFIX}{name} gauge")
        for labels, number in numbers.items():
            yield f"{_PREFIX}{name}{labels} {number}"
    yield "# EOF"


def _find_fullest_ranges(networks: Networks) -> Iterator[tuple[str, host_local.Usage]]:
    """Yield each network of host-local's, and how full the fullest of its ranges is."""
    for name, entries in networks.items():
        stores = [each for each in configs.select_stores(entries) if each.store[0] == "host-local"]
        with suppress(OSError):
            if usage := [each for store in stores for each in host_local.usage(store.config)]:
                yield name, min(usage, key=lambda each: each.capacity - each.leased)


def _labels(**names: str) -> str:
    """Return labels. Prometheus refuses a file with an unknown escape, or twice the same labels."""
    labels = []
    for label, name in names.items():
        text = "".join(each if each.isprintable() else "?" for each in name)
        labels.append(f'{label}="{text.translate(_ESCAPES)}"')
    return f"{{{','.join(labels)}}}"
