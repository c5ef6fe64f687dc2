"""failures: what leaves the plugin when something goes wrong below it."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from cni_ipvlan.cni import errors
from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.iproute import commands
from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.iproute.interrupts import InterruptedBySignalError
from cni_ipvlan.iproute.queries import UnreadableAnswerError
from cni_ipvlan.iproute.runner import CommandError, ProgramNotFoundError, UnusableArgumentError
from cni_ipvlan.iproute.running import Completed
from cni_ipvlan.plugin import codes, explain
from cni_ipvlan.plugin.explain import as_cni_error

ADD = commands.link_add_ipvlan("eth0", "it's", "l2", "bridge", 0)


def command_error(argv: tuple[str, ...], status: int, stderr: bytes, purpose: str) -> CniError:
    completed = Completed(status, b"", stderr, 0.0)
    return as_cni_error(CommandError(Command(argv, purpose), completed))


def test_cni_error_stays_itself() -> None:
    error = CniError(11, "try again")
    assert as_cni_error(error) is error


def test_failed_command_is_explained_with_answer_and_advice() -> None:
    error = command_error(
        ADD, 2, b"RTNETLINK answers: Device or resource busy\n", "create an ipvlan interface"
    )
    assert error.code == codes.MASTER_BUSY
    assert error.msg == (
        "cannot create an ipvlan interface: the master already serves another kind of link "
        "(macvlan, bridge, bond, team)"
    )
    command, answer, advice = error.details.splitlines()
    assert command == (
        """command: ip link add link eth0 name 'it'"'"'s' type ipvlan mode l2 bridge"""
    )
    assert answer == "answer: RTNETLINK answers: Device or resource busy"
    assert advice.startswith("try: use another master")


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"Error: Unknown device type.", codes.NO_IPVLAN),
        (b"RTNETLINK answers: File exists", codes.INTERFACE_NAME_TAKEN),
        (b"Error: mtu less than device minimum.", errors.INVALID_CONFIGURATION),
        (b"RTNETLINK answers: Operation not permitted", codes.NOT_PERMITTED),
        (b"something new", codes.COMMAND_FAILED),
    ],
)
def test_cause_has_its_code(message: bytes, code: int) -> None:
    assert command_error(ADD, 2, message, "create it").code == code


def test_unknown_answer_is_quoted_whole() -> None:
    error = command_error(ADD, 2, b"first line\nsecond line\n", "create it")
    assert error.msg == "cannot create it: second line"
    assert error.details.endswith("\nanswer: first line\nsecond line")


def test_command_that_printed_nothing() -> None:
    assert command_error(ADD, 3, b"", "create it").msg == "cannot create it: exit status 3"
    assert command_error(ADD, -9, b"", "create it").msg == "cannot create it: killed by signal 9"


def test_command_without_a_purpose_is_its_own_name() -> None:
    error = command_error(("ip", "link"), 1, b"no", "")
    assert error.msg == "cannot run 'ip link': no"


def test_answer_that_is_no_text_still_makes_a_document() -> None:
    error = command_error(ADD, 1, b"a\xffb", "create it")
    json.dumps(error.document("1.0.0")).encode("ascii")


def test_missing_program_is_named_with_the_search_path() -> None:
    error = as_cni_error(ProgramNotFoundError("nsenter", "/usr/sbin:/sbin"))
    assert error.code == codes.TOOL_UNUSABLE
    assert error.msg == "cannot find the program 'nsenter'"
    assert "searched: /usr/sbin:/sbin" in error.details


def test_unreadable_answer_is_shown_by_its_beginning() -> None:
    error = as_cni_error(UnreadableAnswerError("Usage: ip …" + "x" * 10_000))
    assert error.code == codes.TOOL_UNUSABLE
    assert "Usage: ip …" in error.private
    assert len(error.private) < 400


def test_signal_is_named() -> None:
    error = as_cni_error(InterruptedBySignalError(signal.SIGTERM))
    assert error.code == codes.INTERRUPTED
    assert "SIGTERM" in error.msg


def test_findings_are_reported() -> None:
    error = CommandError(
        Command(("ip", "route", "add", "x")), Completed(2, b"", b"File exists", 0.0)
    )
    error.found.append("a fact")

    assert "found: a fact" in as_cni_error(error).details


def test_file_of_another_tenant_is_named_to_root_only() -> None:
    error = as_cni_error(FileNotFoundError(2, "No such file", "/run/cni-ipvlan/lock-theirs"))
    assert error.msg == "system error: No such file: /run/cni-ipvlan"
    assert error.private == "file: /run/cni-ipvlan/lock-theirs"
    error = as_cni_error(FileNotFoundError(2, "No such file", "/run/netns/theirs"))
    assert "theirs" not in json.dumps(error.document("1.0.0"))


def test_system_error_names_the_directory() -> None:
    error = as_cni_error(PermissionError(13, "Permission denied", "/run/cni-ipvlan"))
    assert error.code == errors.IO_FAILURE
    assert error.msg == "system error: Permission denied: /run/cni-ipvlan"
    assert as_cni_error(OSError("odd")).msg == "system error: odd"


def test_bug_is_raised_again() -> None:
    with pytest.raises(ZeroDivisionError):
        as_cni_error(ZeroDivisionError())


def test_invalid_argument_is_an_invalid_configuration() -> None:
    error = as_cni_error(UnusableArgumentError(Command(("ip",), "create it"), "a\0"))
    assert error.code == errors.INVALID_CONFIGURATION
    assert error.msg == r"cannot create it: 'a\x00' is not a valid argument"


@pytest.mark.parametrize(
    ("has_unit", "daemon"),
    [
        (True, "systemctl enable --now cni-dhcp.socket cni-dhcp.service"),
        (False, "/opt/cni/bin/dhcp daemon"),
    ],
)
def test_the_daemon_of_dhcp_is_debians_unit_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, daemon: str, *, has_unit: bool
) -> None:
    unit = tmp_path / "cni-dhcp.service"
    if has_unit:
        unit.touch()
    monkeypatch.setattr(explain, "_DHCP_UNIT", str(unit))
    assert explain.dhcp_daemon("/opt/cni/bin/dhcp") == daemon
