"""What features have in common: options for something on the host that attachments share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack

from cni_ipvlan.config.netconf import NetConf
from cni_ipvlan.iproute import commands
from cni_ipvlan.iproute.commands import Argv, Command
from cni_ipvlan.iproute.queries import Link
from cni_ipvlan.iproute.transaction import Transaction
from cni_ipvlan.plugin.master import Master
from cni_ipvlan.plugin.node import Call
from cni_ipvlan.start.namedtuple import TYPE_CHECKING
from cni_ipvlan.state.attachment import AttachmentId, Record

if TYPE_CHECKING:
    from cni_ipvlan.cni.result import Address, Result
    from cni_ipvlan.plugin.addressing import Addressing


class Feature:
    """What an option does in each verb; one that does nothing there does not override it.

    Every method may raise CniError.
    """

    def expected_master(self, tx: Transaction, master: Master, conf: NetConf) -> Master:
        """STATUS: return the master that an ADD would have, instead of the one that was found."""
        return master

    def check_ready(
        self, tx: Transaction, master: Master, conf: NetConf, addresses: Sequence[Address]
    ) -> None:
        """STATUS: raise CniError if an ADD would refuse every container.

        ``addresses`` are some that a container may get, one of each range; none if unknown.
        """

    def prepare(self, call: Call, master: Master, conf: NetConf, locks: ExitStack) -> Master:
        """ADD: return the master to use instead of the one that was found; make it if need be.

        ``locks`` are released when the attachment has been recorded.
        """
        return master

    def extend(
        self, tx: Transaction, addressing: Addressing, master: Master, conf: NetConf
    ) -> Addressing:
        """ADD: return an addressing with what the container needs besides, or refuse it."""
        return addressing

    def apply(self, call: Call, master: Master, record: Record, addressing: Addressing) -> Record:
        """ADD: change the host; return the attachment's record with the change."""
        return record

    def query(self, ifname: str) -> Argv:
        """CHECK: return a query in the container whose answer ``differences`` gets, or ()."""
        return ()

    def differences(self, call: Call, link: Link, previous: Result, answer: bytes) -> Iterable[str]:
        """CHECK: return phrases about what is not as ADD left it; ``link`` is the container's.

        ``previous`` is the result of ADD without other interfaces' addresses.
        """
        return ()

    def release(self, call: Call, attachment: AttachmentId, records: Sequence[Record]) -> None:
        """DEL, GC: remove what the host has for an attachment, by its records with this feature.

        Without any, remove what certainly belongs to the attachment.
        """
        raise NotImplementedError


def disable_autoconfiguration(tx: Transaction, name: str) -> None:
    """Keep the host's kernel from adding addresses and routes to a new link by itself."""
    purpose = f"keep the kernel from giving {name} addresses"
    for switch, value in ((commands.ACCEPT_RA, b"0\n"), (commands.ADDR_GEN_MODE, b"1\n")):
        argv = commands.sysctl_write(switch.format(name))
        # It is absent if the kernel has no IPv6.
        tx.run(Command(argv, purpose, stdin=value, accept=commands.ABSENT))


def is_only(records: Iterable[Record], attachment: AttachmentId | None) -> bool:
    """Whether no record is about another attachment."""
    return all(record.attachment == attachment for record in records)
