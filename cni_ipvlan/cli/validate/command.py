"""The command validate."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import click

from cni_ipvlan.cli import calls, configs, output
from cni_ipvlan.cli.configs import NetworkConfig
from cni_ipvlan.cli.options import FILE, command, json_option
from cni_ipvlan.cli.output import PROBLEM, WARNING
from cni_ipvlan.cli.reading import json_path
from cni_ipvlan.cli.validate import in_all, schema
from cni_ipvlan.config.netconf import Problem
from cni_ipvlan.iproute.transaction import Transaction
from cni_ipvlan.log import one_line

_SUFFIXES = (".conf", ".conflist", ".json", ".yaml", ".yml")
_WITHOUT = "it has no configuration of type ipvlan"


class _Row(NamedTuple):
    """A problem as it is printed; ``line`` is None if it is about the whole file.

    ``document`` is the number of the document in the file.
    """

    file: str
    problem: str
    line: int | None = None
    document: int = 1
    path: str = "$"
    state: str = PROBLEM


def _print_schema(ctx: click.Context, _param: click.Parameter, is_wanted: bool) -> None:
    if is_wanted:
        output.echo_json(schema.of_documents())
        ctx.exit()


@command("ipvlan validate examples/*.yaml", "ipvlan validate examples")
@click.argument("files", nargs=-1, required=True, type=FILE, metavar="FILE…")
@click.option(
    "--schema",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_schema,
    help="Print a JSON Schema for editors instead, and exit.",
)
@json_option
def validate(files: tuple[str, ...], as_json: bool) -> int:
    """Report every problem in configuration files, with its line.

    Of a directory, it reads all *.conf, *.conflist, *.json, *.yaml and *.yml in it and below.
    Warnings are about what works, but perhaps not as meant. If this machine has a master, its
    addresses there are compared with those that the network gives out.
    """
    networks: list[NetworkConfig] = []
    rows: list[_Row] = []
    empty: list[str] = []
    for file in dict.fromkeys(_expanded(files, rows)):
        found, faults = configs.read(file)
        networks += found
        rows += (_Row(file, e.text, e.line, e.document, json_path(e.path)) for e in faults)
        empty += [] if found or faults else [file]
    # Among several files, one without ipvlan (a Pod, another plugin) is fine.
    rows += [_Row(file, _WITHOUT) for file in empty if not networks]
    checked = in_all(networks, lambda: Transaction(calls.read_only_node().runner))
    # Networks of one list share its problems.
    rows += dict.fromkeys(_of_network(*each) for each in checked)
    others = [
        {"file": each.source, "network": each.label, "plugins": [*each.before, *each.after]}
        for each in networks
        if each.before or each.after
    ]
    if as_json:
        document = {"networks": len(networks), "problems": [row._asdict() for row in rows]}
        output.echo_json({**document, "withoutNetwork": empty, "notChecked": others})
    else:
        _print(len(networks), rows, empty, others)
    return 1 if any(row.state == PROBLEM for row in rows) else 0


def _expanded(given: Iterable[str], rows: list[_Row]) -> Iterator[str]:
    """Replace each directory by the files in and below it that may have networks, by their names.

    Add a row for one that has none, or can't be read. Hidden directories are left out, and links to
    directories are not followed: Kubernetes mounts each file of a volume a second time in such.
    """
    for each in given:
        if not os.path.isdir(each):
            yield each
            continue
        files: list[str] = []
        errors: list[OSError] = []
        for place, directories, names in os.walk(each, onerror=errors.append):
            directories[:] = sorted(name for name in directories if not name.startswith("."))
            found = sorted(name for name in names if name.endswith(_SUFFIXES))
            files += [os.path.join(place, name) for name in found if not name.startswith(".")]
        for error in errors:
            rows.append(_Row(each, f"cannot read {error.filename}: {error.strerror}"))
        if not files and not errors:
            rows.append(_Row(each, f"the directory has no file called *{', *'.join(_SUFFIXES)}"))
        yield from files


def _of_network(network: NetworkConfig, problem: Problem) -> _Row:
    state, line = WARNING if problem.is_warning else PROBLEM, network.root.line(problem.path)
    path = json_path(problem.path)
    return _Row(network.source, problem.text, line, network.root.number, path, state)


def _print(count: int, rows: list[_Row], empty: list[str], others: list[dict[str, Any]]) -> None:
    for row in rows:
        place = output.styled(f"{row.file}:{row.line}" if row.line else row.file, bold=True)
        kind = f"{output.styled('warning', fg='yellow')}: " if row.state == WARNING else ""
        document = f"document {row.document}: " if row.document > 1 else ""
        path = output.styled(row.path, fg="cyan")
        output.echo(f"{place}: {kind}{document}{path}: {one_line(row.problem)}")
    if not rows:
        output.echo(f"{count} network{'s' if count != 1 else ''}: no problems")
    for file in empty if count else ():
        output.echo_err(f"{one_line(file)}: {_WITHOUT}")
    for each in others:
        text = f"of the list {each['network']}, only ipvlan was checked, not "
        output.echo_err(one_line(f"{each['file']}: {text}{', '.join(each['plugins'])}"))
