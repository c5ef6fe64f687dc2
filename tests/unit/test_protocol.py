"""cni: one document and the right exit status from protocol; errors, and the answer to VERSION."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from runtime import call_environment

from cni_ipvlan.cni import SUPPORTED_VERSIONS, errors, protocol, version
from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.cni.request import Request, read
from cni_ipvlan.cni.result import Address, Interface, Result

RESULT = Result((Interface("net1"),), (Address("10.0.0.2/24", interface=0),))


@dataclass
class FakePlugin:
    """A plugin that delivers or raises what it is given, and a stdout."""

    outcome: Result | BaseException | None = None
    at_exit: BaseException | None = None
    stdout: OSError | None = None
    requests: list[Request] = field(default_factory=list)
    undone: list[str] = field(default_factory=list)
    written: list[bytes] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def fail(self, text: str, private: str = "") -> None:
        """The kernel tests see what is logged of failures."""

    def perform(self, request: Request, deliver: Callable[[Result], None]) -> None:
        self.requests.append(request)
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        try:
            if self.outcome is not None:
                deliver(self.outcome)
        except Exception as error:
            self.undone.append(str(error))
            raise
        if self.at_exit:
            raise self.at_exit

    def write(self, document: bytes) -> None:
        self.written.append(document)
        if self.stdout:
            raise self.stdout

    def call(self, command: str = "ADD", stdin: bytes | None = None, **environment: str) -> int:
        if stdin is None:
            stdin = b'{"cniVersion": "1.1.0", "name": "net", "type": "ipvlan"}'
        call = call_environment(command, "/run/netns/c", **environment)
        return protocol.serve(call, read(stdin), self.perform, self.write, self)

    @property
    def document(self) -> dict[str, Any]:
        (written,) = self.written
        document: dict[str, Any] = json.loads(written)
        assert written.endswith(b"\n")
        return document


@pytest.mark.parametrize("version", SUPPORTED_VERSIONS)
def test_answer_is_in_the_requests_version(version: str) -> None:
    stdin = json.dumps({"cniVersion": version, "name": "net"}).encode()
    plugin = FakePlugin(RESULT)
    assert plugin.call(stdin=stdin) == 0
    assert plugin.document["cniVersion"] == version
    plugin = FakePlugin(CniError(100, "no 'a\udcffb'", "\ud800"))  # which is no Unicode
    assert plugin.call(stdin=stdin) == 1
    assert (plugin.document["cniVersion"], plugin.document["msg"]) == (version, "no 'a\udcffb'")


def test_bug_is_answered_as_an_internal_error_with_its_traceback_on_stderr() -> None:
    plugin = FakePlugin(ZeroDivisionError("oops"))
    assert plugin.call() == 1
    assert plugin.document["code"] == errors.INTERNAL
    assert plugin.document["msg"] == "internal error: ZeroDivisionError: oops"
    (warning,) = plugin.warnings
    assert "Traceback" in warning


def test_result_that_cannot_be_written_is_undone_and_not_followed_by_another_document() -> None:
    plugin = FakePlugin(RESULT, stdout=BrokenPipeError(32, "Broken pipe"))
    assert plugin.call() == 1
    assert len(plugin.written) == 1
    assert plugin.undone == ["cannot write the result to stdout: [Errno 32] Broken pipe"]
    assert plugin.warnings == plugin.undone


def test_error_that_cannot_be_written_goes_to_stderr() -> None:
    plugin = FakePlugin(CniError(102, "no master"), stdout=BrokenPipeError(32, "Broken pipe"))
    assert plugin.call() == 1
    assert len(plugin.written) == 1
    (warning,) = plugin.warnings
    assert "Broken pipe" in warning
    assert "no master" in warning


def test_failure_after_the_result_is_no_second_document() -> None:
    plugin = FakePlugin(RESULT, CniError(100, "too late"))
    assert (plugin.call(), "ips" in plugin.document, plugin.warnings) == (1, True, ["too late"])


def test_version_needs_nothing_and_lists_every_version() -> None:
    for stdin, expected in (
        (b"", "1.1.0"),
        (b'{"cniVersion": "0.3.1"}', "0.3.1"),
        (b'{"cniVersion": "0.3.1", "more": 1}', "0.3.1"),
        (b'{"cniVersion": "7"}', "7"),
        (b"{}", "0.1.0"),
        (b"garbage", "1.1.0"),
    ):
        assert json.loads(version.answer(stdin)) == {
            "cniVersion": expected,
            "supportedVersions": ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"],
        }


def test_details_are_appended_and_private_lines_are_in_no_answer() -> None:
    error = CniError(102, "no master", private="eth1 is there")
    assert "details" in error.document("1.0.0")
    error.add_details("one")
    error.add_failure(CniError(100, "two", "more", "eth2, too"))
    error.add_failure(CniError(100, "two", "more"))
    error.add_failure(CniError(102, "no master", "one"))
    assert str(error) == "no master\none\nalso: two\nmore\neth1 is there\neth2, too"
    assert error.explanation == "one\nalso: two\nmore\neth1 is there\neth2, too"
    assert error.document("1.0.0") == {
        "cniVersion": "1.0.0",
        "code": 102,
        "msg": "no master",
        "details": "one\nalso: two\nmore\nthe node's log has the rest",
    }
    error.add_failure(CniError(100, "tw"))  # another one
    assert "also: tw\n" in f"{error.explanation}\n"
