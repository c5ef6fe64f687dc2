"""cni.errors: the one kind of error that leaves the plugin."""

from __future__ import annotations

from cni_ipvlan.cni.errors import CniError


def test_document_has_the_requests_version_and_no_empty_details() -> None:
    assert CniError(7, "mtu is -1").document("0.4.0") == {
        "cniVersion": "0.4.0",
        "code": 7,
        "msg": "mtu is -1",
    }


def test_details_are_appended_and_the_message_stays_the_first() -> None:
    error = CniError(100, "cannot do it")
    error.add_details("one")
    error.add_details("two")
    assert error.document("1.0.0")["msg"] == "cannot do it"
    assert error.document("1.0.0")["details"] == "one\ntwo"


def test_text_is_the_message_and_below_it_the_details() -> None:
    assert str(CniError(100, "cannot do it")) == "cannot do it"
    assert str(CniError(100, "cannot do it", "try")) == "cannot do it\ntry"


def test_private_lines_are_in_the_text_and_in_no_answer() -> None:
    error = CniError(102, "no master", "try: another", "eth1 is there")
    error.add_private("eth2, too")
    assert str(error) == "no master\ntry: another\neth1 is there\neth2, too"
    assert error.explanation == "try: another\neth1 is there\neth2, too"
    assert error.document("1.0.0") == {
        "cniVersion": "1.0.0",
        "code": 102,
        "msg": "no master",
        "details": "try: another\nthe node's log has the rest",
    }


def test_failure_that_follows_keeps_its_private_lines_private() -> None:
    error = CniError(100, "one", private="a")
    error.add_failure(CniError(100, "two", "more", "b"))
    assert (error.msg, error.details, error.private) == ("one", "also: two\nmore", "a\nb")
