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
_WATCH_TICKS, _TICK_SECONDS = 20, 0.1  # between two looks


@options.command(
    *("ipvlan show --master eth1000", "ipvlan show --netns container1 -o wide"),
    context_settings={"allow_extra_args": True},
)
@options.netns_option(required=False)
@option("--master", str, "NAME", "Only what this interface carries.")
@option("--container-id", options.container_id, "ID", "Only this container; 4 characters do.")
@option("--pod", str, "[NAMESPACE/]NAME", "Only this Kubernetes pod.")
@option(
    *("-o/--output/form", click.Choice(_FORMS), "|".join(_FORMS)),
    "Everything; or one JSON document; or numbers for Prometheus.",
)
@click.option("-w", "--watch", is_flag=True, help="Keep watching, in a terminal.")
@click.pass_context
def show(
    ctx: click.Context, /, as_json: bool, watch: bool, form: str | None, **only: str | None
) -> int:
    """Show the ipvlan interfaces, what is wrong with them, and leftovers.

    With -o wide, there are more columns: MTU, gateways, routes, whole container IDs, leases.
    What is wrong is said last: "unfinished", if an ADD has neither ended nor is running; "no
    record", if an interface is labelled, but not recorded where it is; "no lease", if host-local
    no longer knows its address; "lacks" an address, if host-local has leased it one that is not
    there; "MTU above its master's", if larger packets are lost; "master without carrier"; "mode
    l3 bridge, not l2 bridge", if another program has changed the mode in which it was attached.
    Leftovers are records and leases that have "no interface".
    """
    if ctx.args:
        word = ctx.args[0]
        meant = f"--container-id {word}, --pod {word} or --netns {word}"
        raise click.UsageError(f"show takes no names; did you mean {meant}?")
    form = _JSON if as_json else form
    if watch and (form in (_JSON, _METRICS) or not output.is_terminal()):
        raise click.UsageError("--watch needs a terminal, and neither json nor openmetrics")
    netns = options.find_namespace(only["netns"]) if only["netns"] else None
    is_wanted = partial(_is_wanted, only, netns)
    node = calls.read_only_node()
    try:
        while True:
            with_routes = form in (_WIDE, _JSON)
            tx, known = Transaction(node.runner), configs.read_networks()
            found = tree.look(tx, node.registry, known, is_wanted, with_routes=with_routes)
            if watch:
                click.clear()
            status = _print(found, known, form, only)
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
    found: dict[str, Any], known: configs.Networks, form: str | None, only: Mapping[str, str | None]
) -> int:
    """Print what was found; return 1 if nothing is as it was asked for, or can be seen, else 0."""
    asked = [f"--{name.replace('_', '-')} {value}" for name, value in only.items() if value]
    is_empty = not (found["masters"] or found["leftovers"])
    is_blind = is_empty and tree.FOR_ROOT in found["notSeen"]
    if form == _JSON:
        output.echo_json(found)
    elif form == _METRICS:
        output.echo(*(() if is_blind else metrics.lines(found, known)))
    else:
        if not is_empty:
            output.echo(*table.lines(found, is_wide=form == _WIDE))
        elif not (asked or is_blind):
            output.echo("no ipvlan interfaces")
        output.echo_err(*(f"not seen: {each}" for each in found["notSeen"] if not is_blind))
        output.echo_err(*_how_to_release(found["leftovers"], known))
    if is_blind:
        output.echo_err("only root can look into containers; try: sudo ipvlan show")
    elif is_empty and asked:
        output.echo_err(f"nothing matches {' '.join(asked)}")
    return int(is_blind or (is_empty and bool(asked)))


def _how_to_release(
    leftovers: Sequence[Mapping[str, Any]], known: configs.Networks
) -> Iterator[str]:
    """Yield the commands that release leases and remove records; GC keeps those of what exists."""
    gone = [each for each in leftovers if not os.path.exists(each["netns"] or "")]
    if gone:
        leases = sum(each["kind"] == "lease" for each in gone)
        has_files = all(known.get(each["network"]) for each in gone)
        command = f"ipvlan gc{'' if has_files else ' -c FILE'} --keep-existing"
        end = "" if has_files else " (FILE is the network's)"
        what = f"what is left (leaked addresses: {leases})" if leases else "what is left"
        yield f"to release {what}: {command}{end}"
    if len(gone) < len(leftovers):
        yield "to release what a container has left that still exists: ipvlan del --container-id ID"


def _is_wanted(
    only: Mapping[str, str | None],
    netns: Namespace | None,
    identity: tuple[int, int] | None,
    masters: Collection[str],
    container_id: str,
    pod: str,
) -> bool:
    """Whether an attachment is wanted: in a namespace, on a master, of a container, of a pod."""
    return (
        (netns is None or netns.identity == identity)
        and (not only["master"] or only["master"] in masters)
        and (not only["container_id"] or matches_id(container_id, only["container_id"]))
        and (not only["pod"] or only["pod"] in (pod, pod.partition("/")[2]))
    )
