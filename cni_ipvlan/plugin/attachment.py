"""The plugin: add, delete, check, status, gc. Each reads like the recipe a person would type.

Each imports for itself what the other verbs do without: a runtime waits for it.
"""

from __future__ import annotations

from contextlib import contextmanager

from cni_ipvlan._namedtuple import TYPE_CHECKING
from cni_ipvlan.cni.errors import (
    CHECK_FAILED,
    INTERRUPTED,
    INVALID_CONFIGURATION,
    INVALID_ENVIRONMENT,
    LIMITED_CONNECTIVITY,
    NOT_AVAILABLE,
    TRY_AGAIN_LATER,
    CniError,
)
from cni_ipvlan.config import netconf
from cni_ipvlan.iproute import commands, namespace
from cni_ipvlan.iproute.runner import CommandError, InterruptedBySignalError
from cni_ipvlan.iproute.transaction import Undo
from cni_ipvlan.plugin import links
from cni_ipvlan.plugin.failures import as_cni_error
from cni_ipvlan.plugin.ipam import Ipam
from cni_ipvlan.state.locks import BusyError
from cni_ipvlan.state.registry import AttachmentId, ModeHint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from cni_ipvlan.cni.protocol import Handler
    from cni_ipvlan.cni.request import Request
    from cni_ipvlan.cni.result import Result
    from cni_ipvlan.config.netconf import NetConf
    from cni_ipvlan.iproute.namespace import Namespace
    from cni_ipvlan.iproute.runner import Runner
    from cni_ipvlan.iproute.transaction import Transaction
    from cni_ipvlan.plugin.survey import Master
    from cni_ipvlan.state.registry import Registry


class Plugin:
    """The verbs.

    ``begin`` starts a transaction, one that executes or one that only tells.
    ``warn`` is told, in a sentence each, what does not stop a call but should
    be known. ``foreseen`` stands in for what an IPAM plugin is not asked for.
    """

    def __init__(
        self,
        runner: Runner,
        registry: Registry,
        begin: Callable[[], Transaction],
        warn: Callable[[str], None],
        foreseen: Result | None = None,
    ) -> None:
        self._runner = runner
        self._interrupts = runner.interrupts
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
        from cni_ipvlan.cni.result import Interface
        from cni_ipvlan.plugin import configure, survey
        from cni_ipvlan.plugin.addressing import addressing_of

        conf = self._configuration(request)
        if not conf.ipam_type and conf.prev_result is None:
            raise CniError(
                INVALID_CONFIGURATION,
                "ipam must be given, with a type, unless the plugin is chained",
            )
        with (
            self._explained() as masters,
            self._attachment(request, strict=True),
            self._container(request) as container,
            self._transaction() as tx,
        ):
            survey.check_name_is_free(tx, request.ifname, container)
            master = survey.find_master(tx, conf, container)
            if not master.link.is_up:
                self._warn(survey.is_down(master.link, master.home))
            masters.append(master)
            with self._inquiry(tx, container):
                self._create_link(tx, request, conf, master, container)
                allocated = self._allocate(tx, request, conf, container)
                addressing = addressing_of(conf, master, allocated)
                link, present = configure.configure(
                    tx,
                    request.ifname,
                    container,
                    addressing,
                    master.link._replace(mtu=conf.mtu or master.link.mtu),
                    self._warn,
                )
            _check_same(request, container)
            reported = Interface(request.ifname, link.mac, request.netns, link.mtu)
            yield addressing.result(reported, present)

    @contextmanager
    def delete(self, request: Request) -> Iterator[None]:
        """Detach a container: release its addresses and remove its link, each in any case."""
        with self._attachment(request, strict=False):
            first = _Failures()
            with first.noted():
                self._release(request)
            with first.noted(), self._interrupts.held():
                self._remove_links(request)
            first.raise_any()
        yield

    @contextmanager
    def check(self, request: Request) -> Iterator[None]:
        """Compare an attachment with what its ADD reported and its configuration asks for."""
        from cni_ipvlan.plugin import verification

        conf = self._configuration(request)
        if conf.prev_result is None:
            raise CniError(INVALID_CONFIGURATION, "CHECK needs prevResult in the configuration")
        with self._container(request) as container, self._transaction() as tx:
            if conf.ipam_type:
                self._ipam(conf.ipam_type, request).call(tx, "CHECK")
            master = self._registry.master_index(_id_of(request))
            differences = verification.differences(tx, request, conf, container, master)
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
        network = request.network
        valid = {AttachmentId(network, *each) for each in _valid_attachments(request)}
        first = _Failures()
        with first.noted(), self._transaction() as tx:
            name = netconf.ipam_type(request.config)
            if name:
                self._ipam(name, request).call(tx, "GC")
        with first.noted(), self._transaction() as tx:
            self._remove_stale_links(tx, network, {each.key for each in valid})
        with first.noted(), self._transaction() as tx:
            for hint in list(self._registry.all_hints()):
                if hint.attachment not in valid:
                    self._forget_stale(tx, network, hint)
            self._registry.remove_leftovers()
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
    ) -> None:
        """Create the link, and bring it where and what it is to be."""
        from cni_ipvlan.plugin import modes

        # One that is remembered before it is created needs no lock while the kernel creates it.
        hint = _hint(request, conf, container)
        tx.on_unwind(lambda: self._forget(tx, request, None))
        modes.admit(tx, self._registry, master, hint, self._interrupts.check)
        temporary = _temporary_name(request)
        if conf.link_in_container:
            temporary = request.ifname
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
        from cni_ipvlan.plugin.addressing import placeholder

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

    def _remove_links(self, request: Request) -> None:
        temporary = _temporary_name(request)
        with self._transaction() as tx:
            links.delete_temporary(tx, temporary)
            container = _container_for_delete(request)
            if container is not None:
                with self._runner.holding(container):
                    names = (request.ifname, temporary)
                    links.delete(tx, names, container, expected=request.ifname)
            self._forget(tx, request, container)

    def _forget(self, tx: Transaction, request: Request, cleared: Namespace | None) -> None:
        """Drop the hint at an attachment, unless its link may be elsewhere than in ``cleared``."""
        attachment = _id_of(request)
        try:
            hint = self._registry.recall(attachment)
            was_there = hint and cleared and hint.netns_identity == cleared.identity
            if hint is None or was_there or not _has_link(tx, hint):
                self._registry.forget(attachment)
        except OSError as error:  # a read-only /run must not keep a pod from being deleted
            self._warn(f"cannot forget the attachment: {error}")

    def _remove_stale_links(self, tx: Transaction, network: str, valid_keys: set[str]) -> None:
        owners = {hint.attachment.key: hint.network for hint in self._registry.all_hints()}
        for key in links.left_behind(tx, network):
            if key in valid_keys or owners.get(key, network) != network:
                continue
            with self._registry.idle(key) as is_idle:
                if is_idle:
                    links.delete(tx, (links.temporary_name(key),), None)

    def _forget_stale(self, tx: Transaction, network: str, hint: ModeHint) -> None:
        """Drop a hint of no valid attachment; of another network only if the container is gone."""
        if hint.network != network and _lives(hint):
            return
        with self._registry.idle(hint.attachment.key) as is_idle:
            if not is_idle:
                return
            if _has_link(tx, hint):
                self._warn(f"not removed, since its container lives: {hint.describe()}")
            else:
                self._registry.forget(hint.attachment)

    def _check_readiness(self, tx: Transaction, conf: NetConf) -> None:
        from cni_ipvlan.plugin import survey

        answer = self._runner.run(commands.link_add_without_master("ipvlan-probe"))
        if b"Invalid argument" not in answer.stderr:
            raise CommandError(answer)
        if conf.link_in_container:
            return  # which container's master is not known here
        master = survey.find_master(tx, conf, None)
        if not master.link.is_up:
            raise CniError(NOT_AVAILABLE, survey.is_down(master.link, None))

    # What the steps are made of.

    def _ipam(self, name: str, request: Request) -> Ipam:
        return Ipam(name, request, self._warn)

    @contextmanager
    def _attachment(self, request: Request, *, strict: bool) -> Iterator[None]:
        """Work on an attachment, alone."""
        key = _id_of(request).key
        try:
            with self._registry.attachment_lock(key, self._interrupts.check, strict=strict):
                yield
        except BusyError as error:
            raise CniError(TRY_AGAIN_LATER, str(error)) from None
        except (OSError, InterruptedBySignalError) as error:
            raise as_cni_error(error) from None

    @contextmanager
    def _container(self, request: Request) -> Iterator[Namespace]:
        """The container's namespace, kept for as long as it is worked on."""
        from cni_ipvlan.plugin import survey

        container = survey.container_namespace(request)
        try:
            with self._runner.holding(container):
                yield container
        except OSError as error:
            raise as_cni_error(error) from None

    @contextmanager
    def _inquiry(self, tx: Transaction, container: Namespace) -> Iterator[None]:
        """Look at the container while what was refused is still there."""
        try:
            yield
        except CommandError as error:
            from cni_ipvlan.plugin import inquiry

            error.found += inquiry.in_container(error, tx, container)
            raise

    @contextmanager
    def _explained(self) -> Iterator[list[Master]]:
        """Look for who is in the way on a master, once nothing is held any more."""
        masters: list[Master] = []
        try:
            yield masters
        except CniError as failure:
            cause = failure.__cause__
            if masters and isinstance(cause, CommandError):
                from cni_ipvlan.plugin import inquiry

                tx = self._begin()
                for each in inquiry.elsewhere(cause, tx, self._registry, masters[0]):
                    failure.add_private(f"found: {each}")
            raise

    @contextmanager
    def _transaction(self) -> Iterator[Transaction]:
        """A transaction whose failures come out as CniError, with what could not be undone."""
        tx = self._begin()
        try:
            with tx:
                yield tx
        except Exception as error:
            failure = as_cni_error(error)
            if failure.code == INTERRUPTED and tx.has_undone:
                failure.msg += "; everything was undone"
            for leftover in tx.leftovers:
                failure.add_details(f"could not be undone: {leftover}")
            if failure is error:
                raise
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


def _id_of(request: Request) -> AttachmentId:
    return AttachmentId(request.network, request.container_id, request.ifname)


def _temporary_name(request: Request) -> str:
    return links.temporary_name(_id_of(request).key)


def _hint(request: Request, conf: NetConf, container: Namespace) -> ModeHint:
    return ModeHint(
        *_id_of(request),
        netns=request.netns,
        netns_identity=container.identity,
        mode=conf.mode,
        flag=conf.flag,
    )


def _check_same(request: Request, container: Namespace) -> None:
    """Raise CniError when CNI_NETNS has come to lead elsewhere: nobody would find the interface."""
    if not namespace.leads_to(request.netns, container.identity):
        raise CniError(
            INVALID_ENVIRONMENT,
            f"CNI_NETNS is {request.netns!r}; it leads elsewhere than when the call began",
            "the container may have ended meanwhile",
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


def _lives(hint: ModeHint) -> bool:
    return namespace.leads_to(hint.netns, hint.netns_identity)


def _has_link(tx: Transaction, hint: ModeHint) -> bool:
    """Whether an attachment's link is still there, in its container or on its way."""
    return namespace.own_has_link(links.temporary_name(hint.attachment.key)) or (
        _lives(hint) and links.is_in(tx, hint.ifname, namespace.find(hint.netns))
    )


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
