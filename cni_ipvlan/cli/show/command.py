"""The command show."""

import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import click

from cni_ipvlan.cli import calls, configs, options, output
from cni_ipvlan.cli.attachments import matches_id
from cni_ipvlan.cli.options import option
from cni_ipvlan.cli.show import metrics, table, tree
from cni_ipvlan.iproute.interrupts import InterruptedBySignalError
from cni_ipvlan.iproute.namespace import Namespace
from cni_ipvlan.iproute.transaction import Transaction

_FORMS = _WIDE, _JSON, _METRICS = "wide", "json", "openmetrics"
_WATCH_TICKS, _TICK_SECONDS = 20, 0.1  # between two inspections


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
    What is wrong is said last: "unfinished", if an ADD has neither ended nor is running; "no
    record", if an interface is labelled, but not recorded where it is; "no lease", if host-local
    no longer knows its address; "lacks" an address, if host-local has leased it one that is not
    there; "duplicate" and an address, if another host had it, so that it is not used; "MTU above
    its master's", if larger packets are lost; "master without carrier"; "mode l3 bridge, not l2
    bridge", if another program has changed the mode in which it was attached. Leftovers are
    records and leases that have "no interface".
    """
    form = _JSON if as_json else form
    if watch and (form in (_JSON, _METRICS) or not output.is_terminal()):
        raise click.UsageError("--watch needs a terminal, and neither json nor openmetrics")
    netns = options.find_namespace(filters["netns"]) if filters["netns"] else None
    is_wanted = partial(_is_wanted, filters, netns)
    node = calls.read_only_node()
    try:
        while True:
            with_routes = form in (_WIDE, _JSON)
            tx, networks = Transaction(node.runner), configs.read_networks()
            document = tree.inspect(tx, node.registry, networks, is_wanted, with_routes=with_routes)
            if watch:
                click.clear()
            status = _print(document, networks, form, filters)
            if not watch:
                return status
            for _ in range(_WATCH_TICKS):
                node.runner.interrupts.check()
                time.sleep(_TICK_SECONDS)
    except InterruptedBySignalError:
        if not watch:
            raise
        return 0


def _print(
    document: dict[str, Any],
    networks: configs.Networks,
    form: str | None,
    filters: Mapping[str, str | None],
) -> int:
    """Print the document; return 1 if it is empty because of filters, or of permissions, else 0."""
    texts = [f"--{name.replace('_', '-')} {value}" for name, value in filters.items() if value]
    is_empty = not (document["masters"] or document["leftovers"])
    is_hidden = is_empty and tree.NEEDS_ROOT in document["notSeen"]
    if form == _JSON:
        output.echo_json(document)
    elif form == _METRICS:
        output.echo(*(() if is_hidden else metrics.render(document, networks)))
    else:
        if not is_empty:
            output.echo(*table.render(document, is_wide=form == _WIDE))
        elif not (texts or is_hidden):
            output.echo("no ipvlan interfaces")
        output.echo_err(*(f"not seen: {each}" for each in document["notSeen"] if not is_hidden))
        output.echo_err(*_suggest_release(document["leftovers"], networks))
    if is_hidden:
        output.echo_err("only root can look into containers; try: sudo ipvlan show")
    elif is_empty and texts:
        output.echo_err(f"nothing matches {' '.join(texts)}")
    return int(is_hidden or (is_empty and bool(texts)))


def _suggest_release(
    leftovers: Sequence[Mapping[str, Any]], networks: configs.Networks
) -> Iterator[str]:
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
    filters: Mapping[str, str | None],
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
