"""What identifies an attachment: names, a key, the label on its interface; and a record of it.

The label is the interface's alias, which stays with it when it is renamed or moved:
``cni-ipvlan/NETWORK/CONTAINER/IFNAME/KEY``, at most 255 bytes (IFALIASZ, <linux/if.h>).
A container's owner can rewrite it, so it says which attachment an interface in that
container is, and permits nothing elsewhere.
"""

from __future__ import annotations

from cni_ipvlan.iproute.namespace import Namespace, is_hidden, leads_to, pid_namespace_of
from cni_ipvlan.iproute.queries import Link
from cni_ipvlan.start.namedtuple import NamedTuple

try:
    # The module behind hashlib, which would load OpenSSL, too.
    from _blake2 import blake2b
except ImportError:
    from hashlib import blake2b

_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_NETWORK_CHARACTERS = 5
_ATTACHMENT_CHARACTERS = 8
KEY_CHARACTERS = _NETWORK_CHARACTERS + _ATTACHMENT_CHARACTERS
_PREFIX = "cni-ipvlan"
_CUT_MARK = "~"  # no valid name has it
_VALID = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-" + _CUT_MARK)
_DIGEST_CHARACTERS = 16  # that replace the end of a long name
_INTERFACE_CHARACTERS = 8
_MOST_NAME = 106  # of each of two names; the rest has 43 bytes at most


class AttachmentId(NamedTuple):
    """The names that identify an attachment; in a label, long ones are cut."""

    network: str
    container_id: str
    ifname: str

    @property
    def key(self) -> str:
        """13 characters, to fit into interface names; the first five are the network's.

        Different attachments may have the same key: it only finds, the names decide.
        """
        container = digest(f"{self.container_id}\0{self.ifname}", _ATTACHMENT_CHARACTERS)
        return digest(self.network, _NETWORK_CHARACTERS) + container

    @property
    def number(self) -> int:
        """A number of 32 bits, as the metric of a route: see ``number_of``."""
        return number_of(self.key)

    @property
    def label(self) -> str:
        """The label of its interface; two attachments never have the same."""
        return "/".join((_PREFIX, *self._shorten_names(), self.key))

    def has_label(self, label: str) -> bool:
        """Whether a label is its own; without a network's name, as in some DELs, of any network."""
        if self.network:
            return label == self.label
        attachment = parse_label(label)
        return attachment is not None and attachment[1:] == self._shorten_names()[1:]

    def _shorten_names(self) -> AttachmentId:
        return AttachmentId(_shorten(self.network), _shorten(self.container_id), self.ifname)


class Record(NamedTuple):
    """A record that an attachment uses a mode, with the container's namespace.

    ``is_complete`` is false until the ADD has done its work. ``pod`` is NAMESPACE/NAME of
    the Kubernetes pod, empty if the runtime named none. ``master`` is the inode of the master's
    namespace, and its interface index. ``vlan`` is the ID of a VLAN that the option vlan has made,
    or 0. ``host_routes`` are addresses to which the host has routes. ``ifindex`` is the index of
    the interface, 0 until it is known. ``parent_netns`` is None; older versions recorded a number.
    ``pid_namespace`` is the inode of the PID namespace by which /proc led there, 0 for other paths.
    """

    network: str
    container_id: str
    ifname: str
    netns: str
    netns_identity: tuple[int, int]
    mode: str
    flag: str
    is_complete: bool = False
    pod: str = ""
    master: tuple[int, int] = (0, 0)
    vlan: int = 0
    host_routes: tuple[str, ...] = ()
    ifindex: int = 0
    parent_netns: int | None = None
    pid_namespace: int = 0

    @property
    def attachment(self) -> AttachmentId:
        """The attachment that the record is about."""
        return AttachmentId(self.network, self.container_id, self.ifname)

    @property
    def file_name(self) -> str:
        """The first part of its file's name, which stays the same while a call works on it."""
        interface = f"{self.netns_identity[0]}:{self.netns_identity[1]}/{self.ifname}"
        return f"{self.attachment.key}.{digest(interface, _INTERFACE_CHARACTERS)}"

    @property
    def has_container(self) -> bool:
        """Whether the path of its container still leads there."""
        return leads_to(self.netns, self.netns_identity)

    @property
    def is_hidden(self) -> bool:
        """Whether its container may exist where we can't look: there, /proc has other processes."""
        is_elsewhere = self.pid_namespace not in (0, pid_namespace_of(self.netns))
        return not self.has_container and (is_elsewhere or is_hidden(self.netns))

    def has_mode_of(self, other: Record | Link) -> bool:
        """Whether mode and flag are those of another record, or of a link."""
        return (self.mode, self.flag) == (other.mode, other.flag)

    def is_about(self, link: Link, netns: Namespace) -> bool:
        """Whether it is about a container's link, by the indices of the link and its master.

        In the namespace of the master, the kernel reports the master's name instead of its index.
        """
        interface = self.netns_identity, self.ifindex
        if not self.ifindex or interface != (netns.identity, link.ifindex):
            return False
        inode, index = self.master
        return bool(link.parent) if inode == netns.identity[1] else index == link.parent_index

    def describe(self) -> str:
        """Return a phrase that names the interface and its place."""
        return f"{self.ifname} in {self.netns} ({describe_container(self.container_id, self.pod)})"


def describe_container(container_id: str, pod: str) -> str:
    """Return a phrase that names a container, and its pod if that is known."""
    return f"pod {pod}, container {container_id}" if pod else f"container {container_id}"


def parse_label(label: str) -> AttachmentId | None:
    """Return the attachment that an interface's alias names, or None if it is no label."""
    prefix, *names = label.split("/")
    if prefix != _PREFIX or len(names) != len(AttachmentId._fields) + 1:
        return None
    attachment = AttachmentId(*names[:-1])
    network, container_id, _ = attachment
    is_valid = network and container_id and _VALID.issuperset(network + container_id)
    return attachment if is_valid else None


def number_of(key: str) -> int:
    """Return the number of the attachments with a key, which is at least 2^31.

    Different attachments may have the same number: it only finds, the names decide.
    """
    return int.from_bytes(hash_text(key, 4), "big") | 1 << 31


def digest(text: str, characters: int) -> str:
    """Return a digest of lower-case letters and digits."""
    return "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in hash_text(text, characters))


def hash_text(text: str, size: int) -> bytes:
    """Return the digest of a text, of so many bytes."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size).digest()


def _shorten(name: str) -> str:
    if len(name) <= _MOST_NAME:
        return name
    start = name[: _MOST_NAME - len(_CUT_MARK) - _DIGEST_CHARACTERS]
    return start + _CUT_MARK + digest(name, _DIGEST_CHARACTERS)
