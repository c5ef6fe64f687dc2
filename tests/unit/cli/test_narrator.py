"""What -v prints: each line with the number of its command, since several may run at once."""

import click
import pytest

from cni_ipvlan.cli.output import Narrator
from cni_ipvlan.iproute.commands import Command, Undo
from cni_ipvlan.iproute.running import Completed

UNDO = Command(("ip", "link", "delete", "dev", "iv"))
CHANGE = Command(("ip", "link", "add", "name", "iv"), "create it", undo=(Undo(UNDO),))
PLUGIN = Command(("/plugins/ipam",), environment={"SECRET": "s"}, stdin=b'{"key": "secret"}')
QUERY = Command(("ip", "-j", "link", "show"))


def ended(milliseconds: float, status: int = 0) -> Completed:
    return Completed(status, b"", b"", milliseconds / 1000)


Printed = pytest.CaptureFixture[str]


@pytest.fixture
def narrator() -> Narrator:
    return Narrator(click.echo, {})


def test_lines_of_commands_side_by_side_differ(narrator: Narrator, capsys: Printed) -> None:
    narrator.command(CHANGE, None)
    narrator.command(PLUGIN, None)
    begun = capsys.readouterr().err.splitlines()
    narrator.command(CHANGE, ended(20))
    narrator.command(PLUGIN, ended(1.5, status=3))
    assert begun == [
        "[1] + ip link add name iv  # create it",
        "[1]     undo: ip link delete dev iv",
        "[2] + /plugins/ipam",
    ]
    assert capsys.readouterr().err.splitlines() == ["[1]   20.0 ms", "[2]   1.5 ms, status 3"]


def test_two_runs_of_equal_commands_are_not_confused(narrator: Narrator, capsys: Printed) -> None:
    again = Command(*QUERY)
    for each in (QUERY, again):
        narrator.command(each, None)
    narrator.command(again, ended(1))
    narrator.command(QUERY, ended(2))
    assert capsys.readouterr().err.splitlines()[2:] == ["[2]   1.0 ms", "[1]   2.0 ms"]


def test_escape_sequences_are_quoted(narrator: Narrator, capsys: Printed) -> None:
    batch = Command(("ip", "-batch", "-"), "set \x1b[31m", stdin=b"link set dev \x1b[31m up\n")
    narrator.command(batch._replace(undo=(Undo(Command(("ip", "\x1b"))),)), None)
    assert "\x1b" not in capsys.readouterr().err
    narrator.wait("waiting for \x1b[31m")
    narrator.warn("odd")
    captured = capsys.readouterr()
    assert (captured.err, captured.out) == ("waiting for \\x1b[31m\n", "odd\n")
