"""Of a wrong value, the error names the option that was typed, never a CNI variable."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest

from cni_ipvlan.cli import program
from cni_ipvlan.cli.typed import renamed
from cni_ipvlan.cni.errors import CniError

CONF = {"cniVersion": "1.1.0", "name": "net", "type": "ipvlan", "ipam": {"type": "static"}}
HERE = "/proc/self/ns/net"
# What each command needs besides the option in question, or instead of another value of it.
NEEDED = {
    "add": {"-c": "CONF", "--netns": HERE, "--dry-run": ""},  # which needs no rights
    "del": {"-c": "CONF", "--netns": "/gone", "--container-id": "c", "--dry-run": ""},
    "check": {"-c": "CONF", "--netns": HERE, "--container-id": "c", "--prev-result": "RESULT"},
    "status": {"-c": "CONF"},
    "gc": {"-c": "CONF", "--keep": "a/b", "--dry-run": ""},
    "doctor": {"-c": "CONF", "--netns": HERE},
    "probe": {"--netns": HERE},
    "trace": {"A": "host", "B": "10.1.0.1"},
    "show": {},
    "validate": {"FILE…": "CONF"},
    "replay": {"FILE": "CAPTURE"},
    "ipam-answer": {"--plugin": "static", "--cni-version": "1.0.0", "--mtu": "1500"},
}
WRONG = {
    "-c": ["/gone", "/etc", "EMPTY"],
    "--netns": ["nowhere", "99999999", ""],
    "--ifname": ["a/b", "", "1234567890123456", "a\x1b[8m b"],
    "--container-id": ["-", "", "a/b", "a" * 300],
    "--args": ["garbage", "A=1;b", "=x"],
    "--network": ["x"],
    "--prev-result": ["/gone", "EMPTY"],
    "--ipam-result": ["/gone", "EMPTY"],
    "--keep": ["abc", "/", "a/"],
    "--cni-version": ["2", ""],
    "--mtu": ["x", ""],
    "FILE": ["/gone", "EMPTY", "CONF"],
    "--to": ["x", "10.1.0.1/24"],
    "A": ["nobody"],
    "B": ["nobody"],
}
# What a variable becomes that is only looked at later.
LATER = {"--netns": ["/etc/passwd", HERE, "/gone"], "--cni-path": ["/nowhere"]}
# Of files, validate reports problems; a master may be gone; what follows --keep is named by that.
FINE = {"FILE…", "--master", "--pod", "--plugin", "[ID/IFNAME]…"}


def parameters(command: str) -> list[str]:
    """Return the options and arguments of a command that take a value."""
    found = program.ipvlan.commands[command].params
    takes = [each for each in found if not (isinstance(each, click.Option) and each.is_flag)]
    return [
        each.opts[0] if each.opts[0][0] == "-" else each.make_metavar(_context()) for each in takes
    ]


def _context() -> click.Context:
    return click.Context(program.ipvlan)


@pytest.fixture
def words(tmp_path: Path) -> dict[str, str]:
    """Files, by the words that stand for them."""
    capture = {"capture": 1, "time": "", "environment": {"CNI_COMMAND": "DEL"}, "stdin": "{}"}
    contents = {"CONF": CONF, "CAPTURE": capture, "RESULT": {"cniVersion": "1.0.0"}, "EMPTY": []}
    for name, content in contents.items():
        (tmp_path / name).write_text(json.dumps(content))
    return {name: str(tmp_path / name) for name in contents}


def line(command: str, option: str, value: str, words: dict[str, str]) -> list[str]:
    given = {**NEEDED[command], option: value}
    if option == "--ipam-result":
        given["--dry-run"] = ""
    if option == "--container-id":
        given.pop("--dry-run", None)
    found = [command]
    for name, word in given.items():
        is_value = name in (option, *parameters(command))
        found += [name] if name.startswith("-") else []
        found += [words.get(word, word)] if is_value else []
    return found


CASES = [
    (command, option, value)
    for command in NEEDED
    for option in parameters(command)
    for value in WRONG.get(option, ())
    if (command, option, bool(value)) != ("del", "--netns", True)  # it takes what is gone
]


@pytest.mark.parametrize(("command", "option", "value"), CASES)
def test_a_wrong_value_is_bad_input_and_its_option_is_named(
    command: str,
    option: str,
    value: str,
    words: dict[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    status = program.main(line(command, option, value, words))
    out, err = capsys.readouterr()
    first = err.splitlines()[0]
    assert (status, out) == (2, ""), err
    assert first.startswith(f"ipvlan: Invalid value for '{option}'"), err
    assert "CNI_" not in err
    assert err.splitlines()[1:] == [f"    try: ipvlan {command} --help"]


@pytest.mark.parametrize(
    ("command", "value"),
    [
        *((command, value) for command in ("add", "check") for value in LATER["--netns"]),
        *(("probe", value) for value in ("/etc/passwd", "/gone")),
    ],
)
def test_a_namespace_that_can_not_be_a_containers(
    command: str, value: str, words: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main(line(command, "--netns", value, words)) == 2
    err = capsys.readouterr().err
    assert "--netns" in err.splitlines()[0]
    assert "CNI_NETNS " not in err


@pytest.mark.parametrize("command", ["del", "gc"])
@pytest.mark.parametrize(
    ("given", "name"), [("/nowhere", "--cni-path"), ("", "the usual directories")]
)
def test_a_plugin_that_no_directory_has(
    command: str,
    given: str,
    name: str,
    words: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CNI_PATH", raising=False)
    monkeypatch.setattr("cni_ipvlan.cli.calls.USUAL_DIRECTORIES", ("/nowhere",))
    assert program.main(line(command, "--cni-path", given, words)) == 1
    err = capsys.readouterr().err
    assert f"cannot find the plugin 'static' in {name}\n" in err
    assert "CNI_PATH" not in err


def test_the_variable_is_named_by_which_the_directories_were_set(
    words: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CNI_PATH", "/nowhere")
    assert program.main(["gc", "-c", words["CONF"], "--keep-none", "--dry-run"]) == 1
    assert "cannot find the plugin 'static' in CNI_PATH\n" in capsys.readouterr().err


@pytest.mark.parametrize("command", NEEDED)
def test_every_option_with_a_value_is_tried(command: str) -> None:
    assert {*parameters(command)} <= {*WRONG, *LATER, *FINE}


def test_every_command_is_tried() -> None:
    assert NEEDED.keys() == program.ipvlan.commands.keys()


def test_check_without_a_result_says_which_option_gives_it(
    words: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main(["check", "-c", words["CONF"], "--netns", HERE]) == 2
    assert "with --prev-result FILE" in capsys.readouterr().err


def test_values_commands_and_answers_keep_their_words() -> None:
    details = "command: env CNI_NETNS=/x ip\nanswer: CNI_NETNS\ntry: choose another CNI_NETNS"
    error = CniError(4, "CNI_NETNS is '/run/CNI_NETNS'; CNI_NETNS_OVERRIDE", details)
    found = renamed(error, {"CNI_NETNS": "--netns"})
    assert found.msg == "--netns is '/run/CNI_NETNS'; CNI_NETNS_OVERRIDE"
    assert found.details.splitlines() == [
        "command: env CNI_NETNS=/x ip",
        "answer: CNI_NETNS",
        "try: choose another --netns",
    ]
