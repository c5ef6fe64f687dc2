"""What -v prints: each line with the number of its command, since several may run at once."""

import click
import pytest

from cni_ipvlan.cli.output import Narrator
from cni_ipvlan.iproute.commands import Command, Undo
from cni_ipvlan.iproute.running import Completed

QUERY = Command(("ip", "-j", "link", "show"))


def ended(milliseconds: float, status: int = 0) -> Completed:
    return Completed(status, b"", b"", milliseconds / 1000)


Printed = pytest.CaptureFixture[str]


@pytest.fixture
def narrator() -> Narrator:
    return Narrator(click.echo, {})


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
