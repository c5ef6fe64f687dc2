"""What identifies an attachment: names, a key, the label on its interface; and a record of it.

The label is the interface's alias, which stays with it when it is renamed or moved:
``cni-ipvlan/NETWORK/CONTAINER/IFNAME/KEY``, at most 255 bytes (IFALIASZ, <linux/if.h>).
A container's owner can rewrite it, so it says which attachment an interface in that
container is, and permits nothing elsewhere.
"""

from __future__ import annotations

from cni_ipvlan.iproute.namespace import leads_to
from cni_ipvlan.start.namedtuple import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from cni_ipvlan.iproute.queries import Link

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
_CUT = "~"  # no valid name has it
_VALID = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-" + _CUT)
_DIGEST_CHARACTERS = 16  # that replace the end of a long name
_PLACE_CHARACTERS = 8
_MOST_NAME = 106  # of each of two names; the rest has 43 bytes at most


class AttachmentId(NamedTuple):
    """The names that identify an attachment; in a label, long ones are cut."""

    network: str
    container_id: str
    ifname: str

    @property
    def key(self) -> str:
        """13 characters, to fit into interface names; the first ones are the network's key.

        Different attachments may have the same key: it only finds, the names decide.
        """
        return network_key(self.network) + digest(
            f"{self.container_id}\0{self.ifname}", _ATTACHMENT_CHARACTERS
        )

    @property
    def number(self) -> int:
        """A number of 32 bits, as the metric of a route: see ``number_of``."""
        return number_of(self.key)

    @property
    def label(self) -> str:
        """The label of its interface; two attachments never have the same."""
        return "/".join((_PREFIX, *self._cut(), self.key))

    def has_label(self, label: str) -> bool:
        """Whether a label is its own; without a network's name, as in some DELs, of any network."""
        if self.network:
            return label == self.label
        named = named_by(label)
        return named is not None and named[1:] == self._cut()[1:]

    def _cut(self) -> AttachmentId:
        return AttachmentId(_fitting(self.network), _fitting(self.container_id), self.ifname)


class Record(NamedTuple):
    """A record that an attachment uses a mode, with the container's namespace.

    ``is_complete`` is false until the ADD has done its work. ``pod`` is NAMESPACE/NAME of
    the Kubernetes pod, empty if the runtime named none. ``master`` is the inode of the master's
    namespace, and its interface index; ``vlan`` the ID of one that the option vlan has made, or
    0. ``host_routes`` are addresses to which the host has routes. ``ifindex`` is the index of the
    interface, 0 until that is known, and ``parent_netns`` the number that the kernel gives the
    master's namespace there, None until then.
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

    @property
    def attachment(self) -> AttachmentId:
        """The attachment that the record is about."""
        return AttachmentId(self.network, self.container_id, self.ifname)

    @property
    def file_name(self) -> str:
        """The name of its file, before what is added while a call works on it."""
        place = f"{self.netns_identity[0]}:{self.netns_identity[1]}/{self.ifname}"
        return f"{self.attachment.key}.{digest(place, _PLACE_CHARACTERS)}"

    @property
    def has_container(self) -> bool:
        """Whether the path of its container still leads there."""
        return leads_to(self.netns, self.netns_identity)

    def has_mode_of(self, other: Record | Link) -> bool:
        """Whether mode and flag are those of another record, or of a link."""
        return (self.mode, self.flag) == (other.mode, other.flag)

    def disproves(self, other: Record) -> bool:
        """Whether another record can't be true beside this one, of an ADD that has done its work.

        It is about the same attachment elsewhere, or says that the interface is another's: unless
        that has routes of the host still, by which GC finds them.
        """
        place, others = ((each.netns_identity, each.ifname) for each in (self, other))
        return other.attachment == self.attachment or (others == place and not other.host_routes)

    def describe(self) -> str:
        """Return a phrase that names the interface and its place."""
        return f"{self.ifname} in {self.netns} ({described(self.container_id, self.pod)})"


def described(container_id: str, pod: str) -> str:
    """Return a phrase that names a container, and its pod if that is known."""
    return f"pod {pod}, container {container_id}" if pod else f"container {container_id}"


def named_by(label: str) -> AttachmentId | None:
    """Return the attachment that an interface's alias names, or None if it is no label."""
    prefix, *names = label.split("/")
    if prefix != _PREFIX or len(names) != len(AttachmentId._fields) + 1:
        return None
    named = AttachmentId(*names[:-1])
    is_valid = named.network and _VALID.issuperset(named.network + named.container_id)
    return named if is_valid and named.container_id else None


def network_key(network: str) -> str:
    """Return the 5 characters that the keys of a network's attachments start with."""
    return digest(network, _NETWORK_CHARACTERS)


def number_of(key: str) -> int:
    """Return the number of the attachments with a key, from 2^31 on: it finds, the names decide."""
    return hashed(key, 4) | 1 << 31


def hashed(text: str, size: int) -> int:
    """Return a number of so many bytes for a text."""
    found = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size)
    return int.from_bytes(found.digest(), "big")


def digest(text: str, characters: int) -> str:
    """Return a digest of lower-case letters and digits."""
    found = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=characters).digest()
    return "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in found)


def _fitting(name: str) -> str:
    if len(name) <= _MOST_NAME:
        return name
    start = name[: _MOST_NAME - len(_CUT) - _DIGEST_CHARACTERS]
    return start + _CUT + digest(name, _DIGEST_CHARACTERS)
