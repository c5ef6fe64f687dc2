"""The command validate, and the JSON Schema that it prints for editors."""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import click

from cni_ipvlan.cli import calls, configs, output
from cni_ipvlan.cli.options import FILE, command
from cni_ipvlan.cli.reading import JSON_SUFFIXES, YAML_SUFFIXES, ConfigError, json_path
from cni_ipvlan.cli.validate import check_all
from cni_ipvlan.config import netconf
from cni_ipvlan.iproute.transaction import Transaction
from cni_ipvlan.log import one_line

_SUFFIXES = (*JSON_SUFFIXES, *YAML_SUFFIXES)
_NO_NETWORK = "it has no configuration of type ipvlan"
_SCHEMA_FILE = os.path.join(os.path.dirname(__file__), "documents.schema.json")


@command("ipvlan validate examples/*.yaml", "ipvlan validate examples")
@click.argument("files", nargs=-1, type=FILE, metavar="FILE…")
@click.option("--schema", is_flag=True, help="Print a JSON Schema for editors instead, and exit.")
def validate(files: tuple[str, ...], schema: bool, as_json: bool) -> int:
    """Report every problem in configuration files, with its line.

    Of a directory, it reads all *.conf, *.conflist, *.json, *.yaml and *.yml in it and below.
    Warnings are about what works, but perhaps not as meant. If this machine has a master, its
    addresses there are compared with those that the network gives out.
    """
    if schema:
        output.echo_json(_schema())
        return 0
    if not files:
        raise click.UsageError("Missing argument 'FILE…'.")
    networks: list[configs.NetworkConfig] = []
    faults: list[ConfigError] = []
    empty: list[str] = []
    for file in dict.fromkeys(_expand_directories(files, faults)):
        contents = configs.read(file)
        networks += contents.networks
        faults += (replace(fault, source=file) for fault in contents.faults)
        empty += [] if any(contents) else [file]
    # Among several files, one without ipvlan (a Pod, another plugin) is fine.
    faults += [ConfigError(_NO_NETWORK, file) for file in empty if not networks]
    problems = check_all(networks, Transaction(calls.read_only_node().runner))
    # A problem of a list is reported once, not for each of its networks.
    faults += dict.fromkeys(problem for _, problem in problems)
    unchecked = [
        {"file": each.source, "network": each.label, "plugins": plugins}
        for each in networks
        if "ipvlan" not in each.before  # each list once
        and (plugins := [name for name in (*each.before, *each.after) if name != "ipvlan"])
    ]
    if as_json:
        document = {"networks": len(networks), "problems": list(map(_problem_row, faults))}
        output.echo_json({**document, "withoutNetwork": empty, "notChecked": unchecked})
    else:
        _print(len(networks), faults, empty, unchecked)
    return 0 if all(fault.is_warning for fault in faults) else 1


def _expand_directories(paths: Iterable[str], faults: list[ConfigError]) -> Iterator[str]:
    """Replace each directory by the files in and below it whose names are those of configurations.

    A fault is added for a directory without any, or that can't be read. Hidden directories are left
    out, and links to directories are not followed: in a volume, Kubernetes has each file in both.
    """
    for path in paths:
        if not os.path.isdir(path):
            yield path
            continue
        files: list[str] = []
        errors: list[OSError] = []
        for parent, directories, names in os.walk(path, onerror=errors.append):
            directories[:] = sorted(name for name in directories if not name.startswith("."))
            matches = sorted(name for name in names if name.endswith(_SUFFIXES))
            files += [os.path.join(parent, name) for name in matches if not name.startswith(".")]
        messages = [f"cannot read {error.filename}: {error.strerror}" for error in errors]
        if not files and not errors:
            messages = [f"the directory has no file called *{', *'.join(_SUFFIXES)}"]
        faults += [ConfigError(text, path) for text in messages]
        yield from files


def _problem_row(fault: ConfigError) -> dict[str, Any]:
    location = {"file": fault.source, "line": fault.line, "document": fault.document}
    state = output.WARNING if fault.is_warning else output.PROBLEM
    return {**location, "path": json_path(fault.path), "problem": fault.text, "state": state}


def _print(
    count: int, faults: list[ConfigError], empty: list[str], unchecked: list[dict[str, Any]]
) -> None:
    for fault in faults:
        output.echo(output.styled(one_line(str(fault)), fg="yellow" if fault.is_warning else "red"))
    if not faults:
        output.echo(f"{count} network{'s' if count != 1 else ''}: no problems")
    for source in empty if count else ():
        output.echo_err(f"{one_line(source)}: {_NO_NETWORK}")
    for each in unchecked:
        text = f"of the list {each['network']}, only ipvlan was checked, not "
        output.echo_err(one_line(f"{each['file']}: {text}{', '.join(each['plugins'])}"))


def _schema() -> dict[str, Any]:
    """Return a schema for each kind of document; documents without ipvlan are valid.

    The options, with their descriptions, are those of netconf.schema.json.
    """
    with open(_SCHEMA_FILE, encoding="utf-8") as file:
        schema: dict[str, Any] = json.load(file)
    options = netconf.load_schema().items()
    left_out = ("$schema", "$id", "required")  # a plugin in a list has no name of its own
    schema["$defs"]["options"] = {key: rule for key, rule in options if key not in left_out}
    return schema
