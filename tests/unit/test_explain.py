"""From what the kernel answered (recorded on Linux 6.12) to the error that leaves the plugin."""

import json
import os
from pathlib import Path

import pytest

from cni_ipvlan.cni import errors
from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.cni.request import Request
from cni_ipvlan.iproute import commands
from cni_ipvlan.iproute.commands import Argv, Command
from cni_ipvlan.iproute.namespace import Namespace
from cni_ipvlan.iproute.queries import UnreadableAnswerError
from cni_ipvlan.iproute.runner import CommandError, ProgramNotFoundError, UnusableArgumentError
from cni_ipvlan.iproute.running import Completed
from cni_ipvlan.plugin import causes, codes, explain
from cni_ipvlan.plugin.explain import as_cni_error

CONTAINER = Namespace("/var/run/netns/c", "c", (4, 1))
UNKNOWN = 0  # no code: there is no cause
ADD = commands.link_add_ipvlan("eth0", "it's", "l2", "bridge", 0)
MOVE = commands.link_set("ivx", "netns", CONTAINER.path, "name", "net1", "alias", "label")
ROUTE = commands.route_add("10.9.0.0/16", "net1")
ADDRESS = commands.address_add("10.0.0.2/24", "net1")
NOTIFY = commands.sysctl_write("net/ipv4/conf/net1/arp_notify")


def make_error(command: Command, stderr: bytes, status: int = 2) -> CniError:
    printed = (b"out\n", stderr) if stderr else (b"", b"")
    return as_cni_error(CommandError(command, Completed(status, *printed, 0.0)))


# tests/kernel/test_causes.py has what kernels answer.
@pytest.mark.parametrize(
    ("argv", "message", "code"),
    [
        (ADD, "RTNETLINK answers: Operation not supported", codes.NO_IPVLAN),
        (MOVE, "RTNETLINK answers: File exists", codes.INTERFACE_NAME_TAKEN),
        (NOTIFY, "tee: /proc/x: Permission denied", codes.NOT_PERMITTED),
        (ADD, 'Cannot find device "eth0"', codes.COMMAND_FAILED),
        (ADD, "cannot execute ip: Too many open files", codes.COMMAND_FAILED),
        (ROUTE, "RTNETLINK answers: Operation not supported", UNKNOWN),
        (ADDRESS, "RTNETLINK answers: File exists", UNKNOWN),
    ],
)
def test_answer_has_a_cause_and_that_a_code(argv: Argv, message: str, code: int) -> None:
    for name in ("", "c", "ipvlan", "link"):
        command = Command(argv, "do it", Namespace("/proc/4/ns/net", name, (4, 1)))
        assert bool(causes.explain(command, message + "\n").meaning) == (code != UNKNOWN)
        assert make_error(command, message.encode()).code == (code or codes.COMMAND_FAILED)


def test_unknown_answer_is_quoted() -> None:
    for argv, status, printed, purpose, msg in (
        (ADD, 2, b"first line\nsecond line\n", "create it", "cannot create it: second line"),
        (ADD, 2, b" \n", "create it", "cannot create it: out"),
        (ADD, 3, b"", "create it", "cannot create it: exit status 3"),
        (ADD, -9, b"", "create it", "cannot create it: killed by signal 9"),
        (ADD, -9, b" \n", "create it", "cannot create it: killed by signal 9"),
        (("ip", "link"), 1, b"no", "", "cannot run 'ip link': no"),
        (ADD, 1, b"a\xffb", "create it", "cannot create it: a\ufffdb"),
    ):
        error = make_error(Command(argv, purpose), printed, status)
        assert error.msg == msg
        stdout = "out" if printed and status > 0 else ""
        answer = printed.decode("utf-8", "replace").strip() or stdout
        assert error.details.endswith(f"\nanswer: {answer}") == bool(answer)


def test_unreadable_answer_is_shown_by_its_beginning() -> None:
    error = as_cni_error(UnreadableAnswerError("Usage: ip …" + "x" * 10_000))
    assert error.code == codes.TOOL_UNUSABLE
    assert "Usage: ip …" in error.private
    assert len(error.private) < 400


def test_file_of_another_tenant_is_named_to_root_only() -> None:
    error = as_cni_error(FileNotFoundError(2, "No such file", "/run/cni-ipvlan/lock-theirs"))
    assert error.code == errors.IO_FAILURE
    assert error.msg == "system error: No such file: /run/cni-ipvlan"
    assert error.private == "file: /run/cni-ipvlan/lock-theirs"
    error = as_cni_error(FileNotFoundError(2, "No such file", "/run/netns/theirs"))
    assert "theirs" not in json.dumps(error.document("1.0.0"))


@pytest.mark.parametrize(
    ("number", "words"),
    [
        *((number, "make room: df /run and df -i /run show") for number in (28, 122)),
        (30, "findmnt -T /run shows"),
        (13, "run as root"),
        (5, ""),
    ],
)
def test_a_system_error_has_a_next_step_if_one_is_known(number: int, words: str) -> None:
    error = as_cni_error(OSError(number, os.strerror(number), "/run/cni-ipvlan/locks"))
    assert "/run/cni-ipvlan" in error.msg
    assert bool(words) == ("try: " in error.details)
    assert words in error.details


SUPPORTS = 'config is "1.1.0", plugin supports ["0.1.0" "0.3.1" "1.0.0"]'


@pytest.mark.parametrize(
    ("verb", "error", "words"),
    [
        ("ADD", CniError(1, "incompatible CNI versions", SUPPORTS), "cniVersion to 1.0.0, which"),
        ("ADD", CniError(1, "incompatible CNI versions"), "cniVersion to one, which host-local"),
        ("STATUS", CniError(3, "missing containerID"), "install a newer host-local"),
        ("CHECK", CniError(999, "Failed to find address added by container c"), "/leases/net is"),
        ("CHECK", CniError(999, "host-local: who knows"), ""),
        ("STATUS", CniError(4, "unknown CNI_COMMAND: STATUS"), "cniVersion to 1.0.0"),
        ("ADD", CniError(4, "it needs CNI_ARGS"), ""),
        ("ADD", CniError(999, "invalid IP address: x"), "ipvlan validate"),
        ("ADD", CniError(999, "open x: no space left on device"), "df /leases/net"),
        ("ADD", CniError(999, "open x: read-only file system"), "findmnt -T /leases/net"),
    ],
)
def test_an_ipam_plugins_failure_has_a_next_step(verb: str, error: CniError, words: str) -> None:
    config = {"name": "net", "ipam": {"type": "host-local", "dataDir": "/leases"}}
    request = Request(verb, "c", "", "eth0", (), False, {}, b"", config, "1.1.0")  # noqa: FBT003
    advice = "\n".join(explain.advice(request, "host-local", error))
    assert words in advice
    assert bool(words) == bool(advice)


def test_our_own_error_stays_itself_and_a_bug_is_raised_again() -> None:
    error = CniError(11, "try again")
    assert as_cni_error(error) is error
    with pytest.raises(ZeroDivisionError):
        as_cni_error(ZeroDivisionError())


def test_the_dhcp_daemon_is_debians_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explain, "_DHCP_UNIT", str(tmp_path / "cni-dhcp.service"))
    assert explain.dhcp_daemon("/opt/cni/bin/dhcp") == "/opt/cni/bin/dhcp daemon"
    (tmp_path / "cni-dhcp.service").touch()
    advice = "systemctl enable --now cni-dhcp.socket cni-dhcp.service"
    assert explain.dhcp_daemon("/opt/cni/bin/dhcp") == advice


def test_other_failures() -> None:
    not_found = ProgramNotFoundError("nsenter", "/usr/sbin:/sbin")
    unusable = UnusableArgumentError(Command(("ip",), "create it"), "a\0")
    denial = PermissionError(13, "Permission denied", "/run/cni-ipvlan")
    explained = [as_cni_error(each) for each in (not_found, unusable, denial, OSError("odd"))]
    assert "try: run as root" in explained[2].details
    assert explained[0].details.startswith("searched: /usr/sbin:/sbin")
    assert [(error.code, error.msg) for error in explained] == [
        (codes.TOOL_UNUSABLE, "cannot find the program 'nsenter'"),
        (errors.INVALID_CONFIGURATION, r"cannot create it: 'a\x00' is not a valid argument"),
        (errors.IO_FAILURE, "system error: Permission denied: /run/cni-ipvlan"),
        (errors.IO_FAILURE, "system error: odd"),
    ]
