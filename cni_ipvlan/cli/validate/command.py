"""The command validate."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from cni_ipvlan.cli import calls, configs, output
from cni_ipvlan.cli import validate as problems
from cni_ipvlan.cli.options import FILE, Example, json_option
from cni_ipvlan.cli.output import PROBLEM, WARNING
from cni_ipvlan.cli.reading.part import json_path
from cni_ipvlan.cli.validate import files, schema
from cni_ipvlan.cli.validate.of_host import Here
from cni_ipvlan.iproute.transaction import Transaction
from cni_ipvlan.log import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cni_ipvlan.cli.configs import NetworkConfig
    from cni_ipvlan.cli.validate.problem import Problem


class _Row(NamedTuple):
    """A problem as it is printed; ``line`` is None if it is about the whole file.

    ``document`` is the number of the document in the file.
    """

    file: str
    line: int | None
    document: int
    path: str
    problem: str
    state: str = PROBLEM


class _Read(NamedTuple):
    """What was read: networks, files without any, and what is wrong with files."""

    networks: list[NetworkConfig]
    empty: list[str]
    rows: list[_Row]


def _print_schema(ctx: click.Context, _param: click.Parameter, is_wanted: bool) -> None:
    if is_wanted:
        output.echo_json(schema.of_documents())
        ctx.exit()


@click.command(cls=Example, example="ipvlan validate examples/*.yaml\nipvlan validate examples")
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
    read = _Read([], [], [])
    for file in dict.fromkeys(_expanded(files, read.rows)):
        _read(file, read)
    rows = read.rows
    # Among several files, one without ipvlan (a Pod, another plugin) is fine.
    if not read.networks:
        rows += [_of_file(file, "it has no configuration of type ipvlan") for file in read.empty]
    # Networks of one list share its problems.
    here = Here(lambda: Transaction(calls.read_only_node().runner))
    rows += dict.fromkeys(_of_network(*found) for found in problems.in_all(read.networks, here))
    if as_json:
        output.echo_json(_document(read))
    else:
        _print(read)
    return 1 if any(row.state == PROBLEM for row in rows) else 0


def _expanded(given: Iterable[str], rows: list[_Row]) -> list[str]:
    """Replace each directory by its files; add a row for one that has none, or can't be read."""
    found: list[str] = []
    for each in given:
        if not os.path.isdir(each):
            found.append(each)
            continue
        try:
            inside = files.below(each)
        except OSError as error:
            rows.append(_of_file(each, f"cannot read {error.filename}: {error.strerror}"))
            continue
        found += inside
        if not inside:
            rows.append(_of_file(each, f"the directory has no file called {files.shown()}"))
    return found


def _read(file: str, read: _Read) -> None:
    try:
        networks, faults = configs.read(file, configs.read_source(file))
    except configs.ConfigError as error:
        networks, faults = [], [error]
    read.networks.extend(networks)
    read.rows.extend(
        _Row(file, each.line, each.document, json_path(each.path), each.text) for each in faults
    )
    if not networks and not faults:
        read.empty.append(file)


def _of_file(file: str, problem: str) -> _Row:
    return _Row(file, None, 1, "$", problem)


def _of_network(network: NetworkConfig, problem: Problem) -> _Row:
    path = json_path(problem.path)
    state = WARNING if problem.is_warning else PROBLEM
    line = network.line(problem.path)
    return _Row(network.source, line, network.document, path, problem.text, state)


def _document(read: _Read) -> dict[str, Any]:
    return {
        "networks": len(read.networks),
        "problems": [row._asdict() for row in read.rows],
        "withoutNetwork": read.empty,
        "notChecked": [
            {"file": each.source, "network": each.label, "plugins": [*each.before, *each.after]}
            for each in read.networks
            if each.before or each.after
        ],
    }


def _print(read: _Read) -> None:
    for row in read.rows:
        output.echo(_line(row))
    networks = len(read.networks)
    if not read.rows:
        output.echo(f"{networks} network{'s' if networks != 1 else ''}: no problems")
    for file in read.empty if networks else ():
        output.echo_err(f"{one_line(file)}: it has no configuration of type ipvlan")
    for each in read.networks:
        others = ", ".join((*each.before, *each.after))
        if others:
            text = f"{each.source}: of the list {each.name}, only ipvlan was checked, not {others}"
            output.echo_err(one_line(text))


def _line(row: _Row) -> str:
    place = f"{row.file}:{row.line}" if row.line else row.file
    kind = f"{output.styled('warning', fg='yellow')}: " if row.state == WARNING else ""
    document = f"document {row.document}: " if row.document > 1 else ""
    path = document + output.styled(row.path, fg="cyan")
    return f"{output.styled(place, bold=True)}: {kind}{path}: {one_line(row.problem)}"
