"""attachment: an interface's label names its attachment, whole, in 255 bytes."""

import string

from hypothesis import example, given
from hypothesis import strategies as st

from cni_ipvlan.cni.request import interface_name_fault
from cni_ipvlan.state.attachment import AttachmentId, parse_label

IDENTIFIERS = st.text(string.ascii_letters + string.digits + "_.-", min_size=1, max_size=255)
INTERFACES = st.text(min_size=1, max_size=15).filter(lambda name: not interface_name_fault(name))
ATTACHMENTS = st.builds(AttachmentId, IDENTIFIERS, IDENTIFIERS, INTERFACES)
LONG = AttachmentId("n" * 255, "c" * 255, "é" * 7)


@given(ATTACHMENTS)
@example(AttachmentId("net", "container", "net1"))
def test_label_fits_and_is_its_attachments(attachment: AttachmentId) -> None:
    label = attachment.label

    assert len(label.encode()) <= 255
    assert attachment.has_label(label)
    assert attachment._replace(network="").has_label(label)
    parsed = parse_label(label)
    assert parsed is not None
    assert parsed.ifname == attachment.ifname
    assert attachment.container_id.startswith(parsed.container_id.partition("~")[0])
    assert label.endswith(f"/{attachment.key}")
    if len("".join(attachment)) < 100:
        assert parsed == attachment
        assert label == f"cni-ipvlan/{'/'.join(attachment)}/{attachment.key}"


@given(ATTACHMENTS, ATTACHMENTS)
def test_labels_differ_as_attachments_do(first: AttachmentId, second: AttachmentId) -> None:
    assert (first.label == second.label) == (first == second)
    assert second.has_label(first.label) == (first == second)


def test_long_names_that_start_alike_have_different_labels() -> None:
    other_network = LONG._replace(network="n" * 254 + "m")
    other_container = LONG._replace(container_id="c" * 254 + "d")
    assert len({LONG.label, other_network.label, other_container.label}) == 3
    assert not LONG._replace(network="").has_label(other_container.label)
    assert LONG._replace(network="").has_label(other_network.label)


def test_a_label_with_names_that_are_not_valid_is_none() -> None:
    for name in ("", "a b", "\x1b[31mred", "\udcff", "é", "$(id)", "a\nb"):
        assert parse_label(f"cni-ipvlan/{name}/one/net1/key") is None
        assert parse_label(f"cni-ipvlan/net/{name}/net1/key") is None


@given(st.text())
def test_another_alias_is_no_label(alias: str) -> None:
    for text in (alias, f"cni-ipvlan/{alias}".replace("/", " "), f"cni-ipvlan/{alias}/a/b/c/d/e"):
        assert parse_label(text) is None
        assert not LONG.has_label(text)
