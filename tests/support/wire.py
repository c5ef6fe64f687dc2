"""The packets that arrive at an interface, such as a neighbour's on a wire."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import NamedTuple

from lab import NetNS

_ALL_PROTOCOLS = 0x0003  # ETH_P_ALL, <linux/if_ether.h>
_ARP, _IPV4, _IPV6 = b"\x08\x06", b"\x08\x00", b"\x86\xdd"
_ETHERNET, _IPV6_HEADER = 14, 40  # bytes
_ICMPV6 = 58
_ADVERTISEMENT = 136
_SOLICITED = 0x40  # a flag of neighbour advertisements, RFC 4861, section 4.4


class Listener(NamedTuple):
    """The frames that have arrived at an interface since the listener was made."""

    socket: socket.socket
    frames: list[bytes]

    def receive(self) -> list[bytes]:
        while True:
            try:
                self.frames.append(self.socket.recv(65536))
            except BlockingIOError:
                return self.frames

    def announced_addresses(self) -> list[str]:
        """Return the addresses announced unasked, without those that the kernel makes by itself."""
        addresses = [_find_address(frame[12:14], frame[_ETHERNET:]) for frame in self.receive()]
        return [each for each in addresses if each and not ip_address(each).is_link_local]

    def has_ping_from(self, address: str) -> bool:
        sender = ip_address(address).packed
        return any(each[12:14] == _IPV4 and each[26:30] == sender for each in self.receive())


@contextmanager
def listen(namespace: NetNS, name: str) -> Iterator[Listener]:
    with namespace.enter():
        receiver = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL_PROTOCOLS))
        receiver.bind((name, 0))
    with receiver:
        receiver.settimeout(0)
        yield Listener(receiver, [])


def _find_address(protocol: bytes, packet: bytes) -> str:
    """Return the address that a packet announces without being asked, if it does."""
    if protocol == _ARP:
        sender, target = packet[14:18], packet[24:28]
        return str(ip_address(sender)) if sender == target else ""
    if protocol != _IPV6 or packet[6] != _ICMPV6:
        return ""
    message = packet[_IPV6_HEADER:]
    is_unsolicited = message[0] == _ADVERTISEMENT and not message[4] & _SOLICITED
    return str(ip_address(message[8:24])) if is_unsolicited else ""
