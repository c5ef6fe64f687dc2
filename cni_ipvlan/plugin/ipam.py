"""Run the IPAM plugin within a transaction.

``allocate`` and ``start`` start the plugin and return a function that waits for its end. That
function raises CniError: the plugin's own, or one about running it.
"""

from __future__ import annotations

from collections.abc import Callable

from cni_ipvlan.cni import delegate
from cni_ipvlan.cni.errors import DELEGATE_FAILED, INCOMPATIBLE_VERSION, CniError
from cni_ipvlan.config import netconf
from cni_ipvlan.iproute import commands
from cni_ipvlan.iproute.commands import Command, Undo
from cni_ipvlan.iproute.runner import CommandError
from cni_ipvlan.iproute.running import Completed, Running
from cni_ipvlan.plugin import on_demand
from cni_ipvlan.plugin.node import Call
from cni_ipvlan.start import json
from cni_ipvlan.start.namedtuple import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TypeVar

    from cni_ipvlan.cni.request import Request
    from cni_ipvlan.cni.result import Result

    T = TypeVar("T")

# Seconds that a call may take. dhcp may need a minute, where a switch's port must first get to
# forward. With the 10 s of an undo, an ADD ends within the two minutes after which the kubelet
# gives up (--runtime-request-timeout); then nobody would tell what went wrong.
MOST_SECONDS = 105.0
_PURPOSES = {
    "ADD": "allocate addresses",
    "DEL": "release the addresses",
    "CHECK": "check the addresses",
    "STATUS": "check readiness",
    "GC": "release addresses without a valid attachment",
}
_LEASE_EXISTS = "duplicate allocation is not allowed"  # host-local: the attachment has a lease
_COMMON_VERSION = "0.4.0"  # a CNI version
STATIC_PLUGINS = ("static",)  # plugins whose result depends only on the configuration


def needs_link(name: str) -> bool:
    """Whether an IPAM plugin sends through the link, which has to be up then."""
    return "dhcp" in name


def find_releasing_plugin(call: Call) -> str:
    """Return the name of the IPAM plugin that is to release addresses; empty for none.

    A plugin that is not permitted has nothing to release, since ADD did not run it. Raises CniError
    if its permission can't be checked.
    """
    name = netconf.ipam_type(call.request.config)
    try:
        if name:
            delegate.check_permitted(name, call.request.path)
    except delegate.NotPermittedError as error:
        call.warn(f"no plugin is asked to release addresses: {error.msg}")
        return ""
    return name


def allocate(call: Call, name: str, *, has_allocation: bool) -> Callable[[], Result | None]:
    """Start to allocate addresses; in a dry run, the result is the one that is expected.

    If the ADD fails, the plugin releases them (SPEC.md, "Delegated plugins"), unless they may be an
    earlier allocation of the same attachment: ``has_allocation`` is whether there is one.
    """

    def parse(completed: Completed) -> Result:
        return delegate.result(
            name, call.request.version, completed.status, completed.stdout, completed.stderr
        )

    def is_new() -> bool:
        if started.completed is None:
            return True
        try:
            parse(started.completed)
        except CniError as error:
            return not (has_allocation or _LEASE_EXISTS in error.msg)
        return True

    release = Undo(_command(call, name, "DEL"), is_new, comes_last=not needs_link(name))
    allocation = _command(call, name, "ADD")._replace(undo=(release,))
    started = call.tx.start(allocation, seconds=MOST_SECONDS)
    return lambda: _wait(call, name, started, parse)


def start(call: Call, name: str, verb: str) -> Callable[[], None]:
    """Start a verb that has no result; without a plugin, there is nothing to do.

    If the plugin does not know the version of a DEL, it is run again with one that it knows, since
    a container must be deleted although its ADD was refused or cniVersion has changed since.
    """
    if not name:
        return lambda: None
    started = call.tx.start(_command(call, name, verb), seconds=MOST_SECONDS)

    def check(completed: Completed) -> None:
        delegate.check(name, completed.status, completed.stdout, completed.stderr)

    def wait() -> None:
        try:
            _wait(call, name, started, check)
        except CniError as error:
            is_known = call.request.version == _COMMON_VERSION
            if (verb, error.code) != ("DEL", INCOMPATIBLE_VERSION) or is_known:
                raise
            start(call._replace(request=use_common_version(call.request)), name, verb)()

    return wait


def use_common_version(request: Request) -> Request:
    """Return a request for a DEL, which has no result, in a version that all plugins know."""
    stdin = json.dumps({**request.config, "cniVersion": _COMMON_VERSION}).encode("ascii")
    return request._replace(stdin=stdin, version=_COMMON_VERSION)


def _wait(call: Call, name: str, started: Running, parse: Callable[[Completed], T]) -> T | None:
    """Wait for the plugin; return its parsed answer, in a dry run the expected one."""
    completed = call.tx.finish(started)
    if completed.is_assumed:
        return completed.meaning  # type: ignore[no-any-return]
    command = started.command
    stderr = completed.stderr.decode("utf-8", "replace").strip()
    if not completed.was_run:
        # It may be the node's fault, such as a limit on open files.
        if on_demand.causes.explain(command, stderr).meaning:
            raise CommandError(command, completed)
        raise delegate.not_executed(stderr, command.argv[0])
    if stderr:
        call.warn(stderr)
    if completed.killed_because:
        raise CniError(
            DELEGATE_FAILED, f"the plugin {name!r} was killed: {completed.killed_because}"
        )
    try:
        return parse(completed)
    except CniError as error:
        error.add_details(f"command: {commands.in_shell(command.full_argv)}")
        for advice in on_demand.explain.advice(call.request, name, error):
            error.add_details(f"try: {advice}")
        raise


def _command(call: Call, name: str, verb: str) -> Command:
    environment = delegate.environment(call.request, verb)
    return Command(
        (delegate.find(name, call.request.path),),
        f"{_PURPOSES[verb]} with {name}",
        stdin=call.request.stdin,
        environment=environment,
        accept=commands.ANY,
    )
