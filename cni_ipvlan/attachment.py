"""The plugin: add, delete, check, status, gc. Each reads like the recipe a person would type.

Each imports for itself what the other verbs do without: a runtime waits for it.
"""

from __future__ import annotations

from contextlib import contextmanager

from cni_ipvlan import links, netconf
from cni_ipvlan.cni.errors import (
    CHECK_FAILED,
    INVALID_CONFIGURATION,
    LIMITED_CONNECTIVITY,
    NOT_AVAILABLE,
    TRY_AGAIN_LATER,
    CniError,
)
from cni_ipvlan.failures import as_cni_error
from cni_ipvlan.ipam import Ipam
from cni_ipvlan.iproute import commands, namespace
from cni_ipvlan.iproute.runner import CommandError, InterruptedBySignalError
from cni_ipvlan.iproute.transaction import Undo
from cni_ipvlan.locks import BusyError
from cni_ipvlan.record import TYPE_CHECKING
from cni_ipvlan.registry import Witness, attachment_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from cni_ipvlan.cni.protocol import Handler
    from cni_ipvlan.cni.request import Request
    from cni_ipvlan.cni.result import Result
    from cni_ipvlan.iproute.namespace import Namespace
    from cni_ipvlan.iproute.runner import Interrupts, Runner
    from cni_ipvlan.iproute.transaction import Transaction
    from cni_ipvlan.netconf import NetConf
    from cni_ipvlan.registry import Registry
    from cni_ipvlan.survey import Master


class Plugin:
    """The verbs.

    ``begin`` starts a transaction, one that executes or one that only tells.
    ``warn`` is told, in a sentence each, what does not stop a call but should
    be known. ``foreseen`` stands in for what an IPAM plugin is not asked for.
    """

    def __init__(
        self,
        runner: Runner,
        interrupts: Interrupts,
        registry: Registry,
        begin: Callable[[], Transaction],
        warn: Callable[[str], None],
        foreseen: Result | None = None,
    ) -> None:
        self._runner = runner
        self._interrupts = interrupts
        self._registry = registry
        self._begin = begin
        self._warn = warn
        self._foreseen = foreseen

    def handlers(self) -> dict[str, Handler]:
        """Return the verbs by their names in CNI_COMMAND."""
        return {
            "ADD": self.add,
            "DEL": self.delete,
            "CHECK": self.check,
            "STATUS": self.status,
            "GC": self.gc,
        }

    @contextmanager
    def add(self, request: Request) -> Iterator[Result]:
        """Attach a container; yield the result while everything can still be undone."""
        from cni_ipvlan import interface, survey
        from cni_ipvlan.addressing import addressing_of
        from cni_ipvlan.cni.result import Interface

        conf = self._configuration(request)
        if not conf.ipam_type and conf.prev_result is None:
            raise CniError(
                INVALID_CONFIGURATION,
                "ipam must be given, with a type, unless the plugin is chained",
            )
        key = attachment_key(conf.name, request.container_id, request.ifname)
        with self._attachment(key, strict=True), self._transaction() as tx:
            container = survey.container_namespace(request)
            survey.check_name_is_free(tx, request.ifname, container)
            master = survey.find_master(tx, conf, container)
            if not master.link.is_up:
                self._warn(survey.is_down(master.link, master.home))
            with self._inquiry(tx, master, container):
                self._create_link(tx, request, conf, master, container, key)
                allocated = self._allocate(tx, request, conf, container)
                addressing = addressing_of(conf, master, allocated)
                link, present = interface.configure(
                    tx,
                    request.ifname,
                    container,
                    addressing,
                    master.link._replace(mtu=conf.mtu or master.link.mtu),
                    self._warn,
                )
            reported = Interface(request.ifname, link.mac, request.netns, link.mtu)
            yield addressing.result(reported, present)

    @contextmanager
    def delete(self, request: Request) -> Iterator[None]:
        """Detach a container: release its addresses and remove its link, each in any case."""
        key = attachment_key(request.network, request.container_id, request.ifname)
        with self._attachment(key, strict=False):
            first = _Failures()
            with first.noted():
                self._release(request)
            with first.noted(), self._transaction() as tx:
                self._remove_links(tx, request, links.temporary_name(key))
            self._forget(key)
            first.raise_any()
        yield

    @contextmanager
    def check(self, request: Request) -> Iterator[None]:
        """Compare an attachment with what its ADD reported and its configuration asks for."""
        from cni_ipvlan import survey, verification

        conf = self._configuration(request)
        if conf.prev_result is None:
            raise CniError(INVALID_CONFIGURATION, "CHECK needs prevResult in the configuration")
        with self._transaction() as tx:
            container = survey.container_namespace(request)
            if conf.ipam_type:
                self._ipam(conf.ipam_type, request).call(tx, "CHECK")
            key = attachment_key(conf.name, request.container_id, request.ifname)
            differences = verification.differences(
                tx, request, conf, container, self._registry.master_index(key)
            )
        if differences:
            raise CniError(
                CHECK_FAILED,
                f"the interface {request.ifname!r} is not as ADD left it: "
                + "; ".join(differences),
                "delete the attachment and add it again",
            )
        yield

    @contextmanager
    def status(self, request: Request) -> Iterator[None]:
        """Raise CniError 50 when an ADD could not succeed now, 51 when the IPAM plugin says so."""
        conf = self._configuration(request)
        try:
            with self._transaction() as tx:
                self._check_readiness(tx, conf)
                if conf.ipam_type:
                    self._ipam(conf.ipam_type, request).call(tx, "STATUS")
        except CniError as error:
            if error.code != LIMITED_CONNECTIVITY:
                error.code = NOT_AVAILABLE
            raise
        yield

    @contextmanager
    def gc(self, request: Request) -> Iterator[None]:
        """Remove what killed calls left behind of attachments that are not valid any more."""
        valid = _valid_attachments(request)
        keys = {attachment_key(request.network, *each) for each in valid}
        first = _Failures()
        with first.noted(), self._transaction() as tx:
            name = netconf.ipam_type(request.config)
            if name:
                self._ipam(name, request).call(tx, "GC")
        with first.noted(), self._transaction() as tx:
            self._remove_stale_links(tx, request.network, keys)
        with first.noted(), self._transaction():
            for key in self._registry.stale(request.network, keys, _lives):
                self._registry.discard(key)
        first.raise_any()
        yield

    # The steps, in the order of the recipe.

    def _configuration(self, request: Request) -> NetConf:
        try:
            conf = netconf.parse(request.config, request.version)
        except OSError as error:  # the schema is a file of the package
            raise as_cni_error(error) from None
        for key, meant in netconf.suspicious_keys(request.config):
            self._warn(f"the option {key!r} is unknown; is {meant!r} meant?")
        return conf

    def _create_link(
        self,
        tx: Transaction,
        request: Request,
        conf: NetConf,
        master: Master,
        container: Namespace,
        key: str,
    ) -> None:
        """Create the link, and bring it where and what it is to be."""
        from cni_ipvlan import modes

        temporary = request.ifname if conf.link_in_container else links.temporary_name(key)
        with self._registry.mode_lock(self._interrupts.check):
            # Who is remembered before it is created needs no lock while the kernel creates it.
            modes.check(tx, self._registry, conf, master)
            tx.on_unwind(lambda: self._registry.forget(key))
            self._registry.remember(key, master.key, _witness(request, conf, container))
        tx.run(
            commands.link_add_ipvlan(master.link.name, temporary, conf.mode, conf.flag, conf.mtu),
            inside=master.home,
            purpose=f"create an ipvlan interface of {master.link.name}",
            undo=(links.undo(self._runner, temporary, master.home),),
        )
        if not conf.link_in_container:
            tx.run(
                commands.link_set_netns(temporary, container, request.ifname),
                purpose=f"move it into the container as {request.ifname}",
                undo=(
                    Undo(commands.link_delete(temporary), container),
                    links.undo(self._runner, request.ifname, container),
                ),
            )

    def _allocate(
        self, tx: Transaction, request: Request, conf: NetConf, container: Namespace
    ) -> Result | None:
        """Have the IPAM plugin allocate addresses; None when there is no IPAM plugin."""
        from cni_ipvlan.addressing import placeholder

        name = conf.ipam_type
        if not name:
            return None
        if name == "dhcp":
            # Its daemon speaks through the link. One that is down it brings up, but then
            # waits for its first retry: "network is down", "retrying in 2.98 seconds".
            tx.run(commands.link_set_up(request.ifname), inside=container, purpose="bring it up")
        return self._ipam(name, request).allocate(tx, self._foreseen or placeholder(name))

    def _release(self, request: Request) -> None:
        name = netconf.ipam_type(request.config)
        if name:
            with self._transaction() as tx:
                self._ipam(name, request).call(tx, "DEL")

    def _remove_links(self, tx: Transaction, request: Request, temporary: str) -> None:
        links.delete_temporary(tx, temporary)
        container = _container_for_delete(request)
        if container is not None:
            links.delete(tx, (request.ifname, temporary), container, expected=request.ifname)

    def _remove_stale_links(self, tx: Transaction, network: str, valid_keys: set[str]) -> None:
        for key in links.left_behind(tx, network):
            if key in valid_keys:
                continue
            with self._registry.idle(key) as is_idle:
                if is_idle:
                    links.delete(tx, (links.temporary_name(key),), None)

    def _check_readiness(self, tx: Transaction, conf: NetConf) -> None:
        from cni_ipvlan import survey

        answer = self._runner.run(commands.link_add_without_master("ipvlan-probe"))
        if b"Invalid argument" not in answer.stderr:
            raise CommandError(answer)
        if conf.link_in_container:
            return  # which container's master is not known here
        master = survey.find_master(tx, conf, None)
        if not master.link.is_up:
            raise CniError(NOT_AVAILABLE, survey.is_down(master.link, None))

    def _forget(self, key: str) -> None:
        try:
            self._registry.forget(key)
        except OSError as error:  # a read-only /run must not keep a pod from being deleted
            self._warn(f"cannot forget the attachment: {error}")

    # What the steps are made of.

    def _ipam(self, name: str, request: Request) -> Ipam:
        return Ipam(name, request, self._warn)

    @contextmanager
    def _attachment(self, key: str, *, strict: bool) -> Iterator[None]:
        """Work on an attachment, alone."""
        try:
            with self._registry.attachment_lock(key, self._interrupts.check, strict=strict):
                yield
        except BusyError as error:
            raise CniError(TRY_AGAIN_LATER, str(error)) from None
        except (OSError, InterruptedBySignalError) as error:
            raise as_cni_error(error) from None

    @contextmanager
    def _inquiry(self, tx: Transaction, master: Master, container: Namespace) -> Iterator[None]:
        """Have the kernel asked for more than its answer, while what was refused is still there."""
        try:
            yield
        except CommandError as error:
            from cni_ipvlan import inquiry

            scene = inquiry.Scene(tx, self._registry, master, container)
            raise as_cni_error(error, inquiry.findings(error, scene)) from error

    @contextmanager
    def _transaction(self) -> Iterator[Transaction]:
        """A transaction whose failures come out as CniError, with what could not be undone."""
        tx = self._begin()
        try:
            with tx:
                yield tx
        except Exception as error:
            failure = as_cni_error(error)
            for leftover in tx.leftovers:
                failure.add_details(f"could not be undone: {leftover}")
            raise failure from error


class _Failures:
    """Keeps the first of several failures, so that every step is tried before one is reported."""

    def __init__(self) -> None:
        self._first: CniError | None = None

    @contextmanager
    def noted(self) -> Iterator[None]:
        try:
            yield
        except CniError as error:
            if self._first is None:
                self._first = error
            else:
                self._first.add_failure(error)

    def raise_any(self) -> None:
        if self._first is not None:
            raise self._first


def _witness(request: Request, conf: NetConf, container: Namespace) -> Witness:
    return Witness(
        file="",
        mode=conf.mode,
        flag=conf.flag,
        container_id=request.container_id,
        ifname=request.ifname,
        netns=request.netns,
        netns_identity=container.identity,
    )


def _container_for_delete(request: Request) -> Namespace | None:
    """The container's namespace, if it is still there and a container's: else nothing is in it."""
    if not request.netns:
        return None
    try:
        found = namespace.find(request.netns)
    except (FileNotFoundError, NotADirectoryError, ValueError, namespace.NotANamespaceError):
        return None
    if found.identity == namespace.own() and not request.may_share_netns:
        return None
    return found


def _lives(witness: Witness) -> bool:
    return namespace.leads_to(witness.netns, witness.netns_identity)


def _valid_attachments(request: Request) -> list[tuple[str, str]]:
    entries: Any = request.config.get("cni.dev/valid-attachments")
    if not isinstance(entries, list):
        raise CniError(
            INVALID_CONFIGURATION,
            "GC needs cni.dev/valid-attachments, a list, in the configuration",
        )
    found = []
    for entry in entries:
        container_id = entry.get("containerID") if isinstance(entry, dict) else None
        ifname = entry.get("ifname") if isinstance(entry, dict) else None
        if not isinstance(container_id, str) or not isinstance(ifname, str):
            raise CniError(
                INVALID_CONFIGURATION,
                f"cni.dev/valid-attachments holds {entry!r}; containerID and ifname are needed",
            )
        found.append((container_id, ifname))
    return found
