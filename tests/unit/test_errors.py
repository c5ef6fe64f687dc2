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
