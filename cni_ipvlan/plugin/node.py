"""What a call needs: the runner, the registry, locks and transactions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from cni_ipvlan.cni import delegate
from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.cni.request import Request
from cni_ipvlan.config import netconf
from cni_ipvlan.config.netconf import NetConf
from cni_ipvlan.iproute import namespace
from cni_ipvlan.iproute.interrupts import InterruptedBySignalError, Interrupts
from cni_ipvlan.iproute.namespace import Namespace
from cni_ipvlan.iproute.runner import Runner
from cni_ipvlan.iproute.transaction import Transaction
from cni_ipvlan.log import Log
from cni_ipvlan.plugin import on_demand
from cni_ipvlan.plugin.codes import INTERRUPTED
from cni_ipvlan.start.namedtuple import NamedTuple
from cni_ipvlan.state.attachment import AttachmentId
from cni_ipvlan.state.locks import BusyError
from cni_ipvlan.state.registry import Registry


class Node(NamedTuple):
    """What every call of this process works with."""

    runner: Runner
    registry: Registry
    begin: Callable[[], Transaction]
    log: Log

    @property
    def warn(self) -> Callable[[str], None]:
        """What is called with each warning, a sentence."""
        return self.log.warn

    def wait_check(self, what: str) -> Callable[[], None]:
        """Return a function to call while waiting for the lock of ``what``.

        It raises InterruptedBySignalError if a signal has come. Its first call logs the wait.
        """
        is_logged = False

        def check() -> None:
            nonlocal is_logged
            self.runner.interrupts.check()
            if not is_logged:
                self.log.wait(f"waiting for the lock of {what}, which another process holds")
            is_logged = True

        return check

    def configuration(self, request: Request) -> NetConf:
        """Return the request's configuration, checked, also its IPAM type; raises CniError."""
        try:
            conf = netconf.parse(request.config, request.version)
        except OSError as error:  # the schema is a file of the package
            raise _as_cni_error(error) from None
        if conf.ipam_type:
            delegate.check_permitted(conf.ipam_type, request.path)
        for key, suggestion in netconf.find_suspicious_keys(request.config):
            text = netconf.NO_EFFECT
            if suggestion:
                text = f"is unknown; did you mean {suggestion!r}?"
            self.warn(f"the option {key!r} {text}")
        return conf

    @contextmanager
    def lock_attachment(self, request: Request, *, strict: bool) -> Iterator[None]:
        """Lock an attachment; ``strict`` is that of Registry.attachment_lock."""
        key = attachment_id(request).key
        what = f"the interface {request.ifname} of the container {request.container_id}"
        try:
            with self.registry.attachment_lock(key, self.wait_check(what), strict=strict):
                yield
        except (BusyError, OSError, InterruptedBySignalError) as error:
            raise _as_cni_error(error) from None

    @contextmanager
    def call(self, request: Request) -> Iterator[Call]:
        """Yield a call in a transaction; failures are CniErrors, with what was not undone."""
        tx = self.begin()
        try:
            with tx:
                yield Call(self, request, tx)
        except Exception as error:
            failure = _as_cni_error(error)
            if failure.code == INTERRUPTED and tx.has_undone:
                failure.msg += "; everything was undone"
            for leftover in tx.leftovers:
                failure.add_details(f"could not be undone: {leftover}")
            if failure is error:
                raise
            raise failure from error


class Call(NamedTuple):
    """A request, and the node and the transaction in which it is performed."""

    node: Node
    request: Request
    tx: Transaction

    @property
    def attachment(self) -> AttachmentId:
        """The attachment that the request is about."""
        return attachment_id(self.request)

    @property
    def registry(self) -> Registry:
        """Root's records."""
        return self.node.registry

    def warn(self, text: str) -> None:
        """Log a warning, a sentence."""
        self.node.warn(text)

    def container(self) -> Namespace:
        """Return the container's namespace, which is kept open until the transaction ends."""
        netns = find_container(self.request)
        self.tx.hold(self.node.runner.holding(netns))
        return netns


def assemble(environment: Mapping[str, str], interrupts: Interrupts, log: Log) -> Node:
    """Return what a call needs."""
    runner = Runner(environment.get("PATH", ""), log.command, interrupts)
    return Node(runner, Registry(), lambda: Transaction(runner), log)


def _as_cni_error(error: Exception) -> CniError:
    if isinstance(error, CniError):
        return error
    return on_demand.explain.as_cni_error(error)


def find_container(request: Request) -> Namespace:
    """Return the namespace at CNI_NETNS; raises CniError 4 if it can't be a container's."""
    own_identity = namespace.own_identity()
    try:
        netns = namespace.find(request.netns)
        if netns.identity != own_identity or request.may_share_netns:
            return netns
        error = None
    except (OSError, ValueError, namespace.NotANamespaceError) as failure:
        error = failure
    raise on_demand.explain.netns_error(request.netns, error)


def attachment_id(request: Request) -> AttachmentId:
    """Return which attachment a request is about."""
    return AttachmentId(request.network, request.container_id, request.ifname)
