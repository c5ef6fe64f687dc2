"""The command show."""

from __future__ import annotations

import time
from collections.abc import Collection

import click

from cni_ipvlan.cli import calls, options, output
from cni_ipvlan.cli.attachments import is_called
from cni_ipvlan.cli.show import drawing, tree
from cni_ipvlan.iproute import machine
from cni_ipvlan.iproute.interrupts import InterruptedBySignalError, Interrupts
from cni_ipvlan.iproute.transaction import Transaction
from cni_ipvlan.plugin.explain import as_cni_error

_WATCH_SECONDS = 2.0
_POLL_SECONDS = 0.1


@click.command(
    cls=options.Example,
    example="ipvlan show --master eth1000\nipvlan show --netns container1 --json",
)
@options.netns_option(required=False)
@click.option("--master", metavar="NAME", default="", help="Only what this interface carries.")
@click.option(
    "--container-id",
    type=options.container_id,
    metavar="ID",
    help="Only this container, by its ID or at least 4 characters of its start.",
)
@click.option("--pod", metavar="[NAMESPACE/]NAME", default="", help="Only this Kubernetes pod.")
@options.json_option
@click.option("-w", "--watch", is_flag=True, help="Keep watching, in a terminal.")
def show(
    netns: str | None, master: str, container_id: str | None, pod: str, as_json: bool, watch: bool
) -> int:
    """Show the masters, the ipvlan interfaces they carry, and leftovers.

    What is wrong is said last: "unfinished", if an ADD has neither ended nor is running; "no
    record", if an interface is labelled, but not recorded where it is; "no lease", if host-local
    no longer knows its address. Leftovers are records and leases that have "no interface".
    """
    if watch and (as_json or not output.is_terminal()):
        raise click.UsageError("--watch needs a terminal, and no --json")
    place = options.namespace_at(netns) if netns else None

    def is_wanted(
        identity: tuple[int, int] | None, masters: Collection[str], container: str, its_pod: str
    ) -> bool:
        return (
            (place is None or place.identity == identity)
            and (not master or master in masters)
            and (not container_id or is_called(container, container_id))
            and (not pod or pod in (its_pod, its_pod.partition("/")[2]))
        )

    node = calls.read_only_node()
    try:
        while True:
            unseen = ["what only root may see"] if machine.missing_capabilities() else []
            found = tree.look(Transaction(node.runner), node.registry, is_wanted, unseen)
            if as_json:
                output.echo_json(found)
                return 0
            if watch:
                click.clear()
            output.echo(*drawing.lines(found))
            output.echo_err(*(f"not seen: {each}" for each in found["notSeen"]))
            if not watch:
                return 0
            _sleep(_WATCH_SECONDS, node.runner.interrupts)
    except InterruptedBySignalError:
        if not watch:
            raise
        return 0
    except OSError as error:
        raise as_cni_error(error) from None


def _sleep(seconds: float, interrupts: Interrupts) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        interrupts.check()
        time.sleep(_POLL_SECONDS)
