"""Attachments and a master, for tests of the registry."""

from cni_ipvlan.state.attachment import AttachmentId

ATTACHMENT = AttachmentId("net", "container", "net1")
OTHER = AttachmentId("net", "container", "net2")
KEY, OTHER_KEY = ATTACHMENT.key, OTHER.key
MASTER = (4026531840, 2)


def never() -> None:
    """Nothing interrupts a wait."""
