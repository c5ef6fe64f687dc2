"""Of every command: help, --json in success and failure, and a wrong value blamed on its option."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from command_line import ipvlan
from sampling import sample

from cni_ipvlan.cli import program
from cni_ipvlan.cli.calls import name_options
from cni_ipvlan.cni import errors
from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.iproute.interrupts import InterruptedBySignalError
from cni_ipvlan.plugin import codes

ROOT = Path(__file__).parents[3]
CONF = {"cniVersion": "1.1.0", "name": "net", "type": "ipvlan", "ipam": {"type": "static"}}
HERE = "/proc/self/ns/net"
# What each command needs besides the option in question, or instead of another value of it.
NEEDED = {
    "add": {"-c": "CONF", "--netns": HERE, "--dry-run": ""},  # which needs no rights
    "del": {"-c": "CONF", "--netns": "/gone", "--container-id": "c", "--dry-run": ""},
    "check": {"-c": "CONF", "--netns": HERE, "--container-id": "c", "--prev-result": "RESULT"},
    "status": {"-c": "CONF"},
    "gc": {"-c": "CONF", "[ID/IFNAME]…": "a/b", "--dry-run": ""},
    "doctor": {"-c": "CONF", "--netns": HERE},
    "probe": {"--netns": HERE},
    "trace": {"A": "host", "B": "10.1.0.1"},
    "show": {},
    "validate": {"FILE…": "CONF"},
    "replay": {"FILE": "CAPTURE"},
    "ipam-answer": {"--plugin": "static", "--cni-version": "1.0.0", "--mtu": "1500"},
}
# Where in the command line's package its work is done.
WORK = {
    **dict.fromkeys(("add", "del", "check", "status", "gc"), "calls.make"),
    "validate": "configs.read",
    "show": "show.tree.inspect",
    "doctor": "doctor.command.examine",
    "probe": "connectivity.command.Topology",
    "trace": "connectivity.command.Topology",
    "replay": "calls.serve_call",
    "ipam-answer": "configs.read_standard_input",
}
INVALID = {
    "-c": ["/gone", "/etc", "EMPTY"],
    "--netns": ["nowhere", ""],
    "--ifname": ["a/b", "", "a\x1b[8m b"],
    "--container-id": ["-", "", "a" * 300],
    "--args": ["garbage", "A=1;b", "=x"],
    "--network": ["x"],
    "--prev-result": ["/gone", "EMPTY"],
    "--ipam-result": ["/gone", "EMPTY"],
    "[ID/IFNAME]…": ["abc", "/", "a/"],
    "--cni-version": ["2", ""],
    "--mtu": ["x", ""],
    "FILE": ["/gone", "EMPTY", "CONF"],
    "-o": ["xml", ""],
    "--to": ["x", "10.1.0.1/24"],
    "A": ["nobody", ""],
    "B": ["nobody", ""],
}
# What is only looked at later. Of files, validate reports problems; a master may be gone.
FREE_OPTIONS = {"--cni-path", "FILE…", "--master", "--pod", "--plugin"}
FAILURES = {
    "failure": (CniError(codes.NOT_PERMITTED, "no", "because", "of net7"), codes.NOT_PERMITTED, 1),
    "bad input": (CniError(errors.INVALID_CONFIGURATION, "no"), errors.INVALID_CONFIGURATION, 2),
    "^C": (KeyboardInterrupt(), codes.INTERRUPTED, 130),
    "signal": (InterruptedBySignalError(15), codes.INTERRUPTED, 1),
}
COMMANDS = sorted(program.ipvlan.commands)
Argv = Callable[..., list[str]]


def parameters(command: str) -> list[str]:
    """Return the options and arguments of a command that take a value."""
    params = program.ipvlan.commands[command].params
    takes = [each for each in params if not (isinstance(each, click.Option) and each.is_flag)]
    context = click.Context(program.ipvlan)
    names = [(each.opts[0], each.make_metavar(context)) for each in takes]
    return [option if option.startswith("-") else metavar for option, metavar in names]


@pytest.fixture
def argv_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Argv:
    """Return the words of a command with all that it needs, and with another value of an option."""
    monkeypatch.delenv("CNI_COMMAND", raising=False)
    capture = {"capture": 1, "time": "", "environment": {"CNI_COMMAND": "DEL"}, "stdin": "{}"}
    contents = {"CONF": CONF, "CAPTURE": capture, "RESULT": {"cniVersion": "1.0.0"}, "EMPTY": []}
    for name, content in contents.items():
        (tmp_path / name).write_text(json.dumps(content))

    def words(command: str, option: str = "--json", value: str = "") -> list[str]:
        options = {**NEEDED[command], option: value}
        if option == "--ipam-result":
            options["--dry-run"] = ""
        if option == "--container-id":
            options.pop("--dry-run", None)
        arguments = [command]
        for name, word in options.items():
            arguments += [name] if name.startswith("-") else []
            if name in parameters(command):
                arguments.append(str(tmp_path / word) if word in contents else word)
        return arguments

    return words


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_with_an_example(command: str) -> None:
    assert {*parameters(command)} <= {*INVALID, *FREE_OPTIONS}  # as the tests below need it
    text = ipvlan(command, "--help").check_output()
    example = text.partition("\n  Example:")[2]
    assert f"\n    ipvlan {command} " in example
    assert all(len(line) <= 100 for line in text.splitlines())
    files = [word for word in example.split() if word.startswith("examples/")]
    assert all(list(ROOT.glob(file)) for file in files)


def test_the_help_has_all_commands_in_groups() -> None:
    text = ipvlan("--help").check_output()
    groups = [text.index(f"\n{title}:\n") for title in ("Look", "Change", "Files")]
    starts = {command: text.index(f"\n  {command} ") for command in COMMANDS}
    assert groups[0] < starts["show"] < groups[1] < starts["add"] < groups[2] < starts["validate"]
    assert "..." not in text[groups[0] :]


CASES = [
    (command, option, value)
    for command in NEEDED
    for option in parameters(command)
    for value in INVALID.get(option, ())
    if (command, option, bool(value)) != ("del", "--netns", True)  # it takes what is gone
]
# One case of each option, and a sample of the others.
FIRST = {option: (command, option, value) for command, option, value in CASES}
SAMPLES = [*FIRST.values(), *sample([case for case in CASES if case not in FIRST.values()], 30)]


@pytest.mark.parametrize(("command", "option", "value"), SAMPLES)
def test_wrong_value_names_its_option(command: str, option: str, value: str, argv_of: Argv) -> None:
    result = ipvlan(*argv_of(command, option, value))
    assert (result.status, result.out) == (2, "")
    first, *other_lines = result.err.splitlines()
    assert first.startswith(f"ipvlan: Invalid value for '{option}'")
    assert "CNI_" not in result.err  # no variable
    assert other_lines == [f"    try: ipvlan {command} --help"]


def test_a_namespace_that_can_not_be_a_containers(argv_of: Argv) -> None:
    for command, value in (("add", HERE), ("check", "/gone"), ("probe", "/gone")):
        result = ipvlan(*argv_of(command, "--netns", value))
        assert (result.status, "--netns" in result.err.splitlines()[0]) == (2, True)
        assert "CNI_NETNS " not in result.err


def test_a_plugin_that_no_directory_has(argv_of: Argv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cni_ipvlan.cli.calls.USUAL_DIRECTORIES", ("/nowhere",))
    for command, directory, variable, name in (
        ("del", "/nowhere", "", "--cni-path"),
        ("gc", "", "", "the usual directories"),
        ("gc", "", "/nowhere", "CNI_PATH"),
    ):
        monkeypatch.setenv("CNI_PATH", variable)
        result = ipvlan(*argv_of(command, "--cni-path", directory))
        assert result.status == 1
        assert f"cannot find the plugin 'static' in {name}\n" in result.err


def test_values_commands_and_answers_keep_their_words() -> None:
    names = {"CNI_NETNS": "--netns", "CNI_IFNAME": "--ifname"}
    command = "command: env CNI_NETNS=/x CNI_IFNAME=y ip"
    error = CniError(4, "CNI_NETNS is '/CNI_NETNS'", command, subject="CNI_NETNS")
    result = name_options(error, names)
    assert (result.msg, result.details) == ("--netns is '/CNI_NETNS'", command)
    error = CniError(4, "it is there", "try another CNI_IFNAME", "", "CNI_IFNAME")
    result = name_options(error, names)
    assert (result.msg, result.details) == ("it is there", "try another --ifname")
    result = name_options(CniError(4, "CNI_NETNS is odd", command), names)
    assert (result.msg, result.details) == ("CNI_NETNS is odd", command)


def run_failing(status: int, *words: str) -> dict[str, Any]:
    """Type a command that fails; return the one document that it prints."""
    result = ipvlan(*words)
    assert result.status == status
    document: dict[str, Any] = json.loads(result.out)
    assert document.keys() == {"code", "msg", "details"}
    assert "ipvlan: " not in result.err
    return document


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_wrong_usage_of_every_command_is_one_document(name: str) -> None:
    command = program.ipvlan.commands[name] if name else program.ipvlan
    options = {word for each in command.params for word in each.opts}
    assert "--json" in options
    assert name == "show" or not {"--format", "--output", "-o"} & options
    names = [name] if name else []
    for arguments in (["--no-such-option"], ["--json=x"], ["a", "b", "c", "--x"]):
        document = run_failing(2, *names, "--json", *arguments)
        assert document["code"] == errors.INVALID_ENVIRONMENT
        assert document["msg"]
        assert document["details"] in ("", f"try: {' '.join(('ipvlan', *names))} --help")
    if name and any(each.required for each in command.params):
        assert run_failing(2, name, "--json")["msg"].startswith("Missing ")


@pytest.mark.parametrize("command", WORK)
@pytest.mark.parametrize("kind", FAILURES)
def test_a_failure_in_any_command_is_one_document(
    command: str, kind: str, argv_of: Argv, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised, code, status = FAILURES[kind]

    def fail(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(f"cni_ipvlan.cli.{WORK[command]}", fail)
    document = run_failing(status, *argv_of(command))
    assert document["code"] == code
    if kind == "failure":
        assert document["details"] == "because\nof net7"  # who types this may know


def test_other_errors_are_one_document_too() -> None:
    for line, msg, details in (
        ("ad -j", "No such command 'ad'", ""),
        ("show --json --watch", "--watch needs a terminal, and neither json nor openmetrics", ""),
        ("--json", "set CNI_COMMAND and its variables", ""),
        ("status -vj -c /gone", "'-c' / '--config': cannot read", "try: ipvlan status --help"),
    ):
        document = run_failing(2, *line.split())
        assert msg in document["msg"]
        assert details in document["details"]
