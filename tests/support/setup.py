"""What most tests of the plugin begin with: a host with a master, and containers to attach.

The fixture ``setup`` makes them; the mark ``setup`` has the arguments of ``Setup``. A method's
options in capitals are variables of a call's environment, the others belong to the configuration.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, NamedTuple

import pytest
from command_line import ipvlan, options
from doubles import FakeIpam
from lab import LOGS, NetNS, Node, run
from runtime import Conf, Runtime, network, static
from shells import run_script

from cni_ipvlan.state.attachment import Record
from cni_ipvlan.state.registry import Registry


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "setup(**options): how the fixture setup is made")


@pytest.fixture
def setup(
    node: Node, runtime: Runtime, fake_ipam: FakeIpam, request: pytest.FixtureRequest
) -> "Setup":
    mark = request.node.get_closest_marker("setup")
    return Setup(node, runtime, fake_ipam, **(mark.kwargs if mark else {}))


class Setup:
    """A host with the master eth0, a container, and a second one once a test asks for it.

    ``master`` is "dummy", "wire" (whose other end is ``neighbour``) or "" for none; ``host`` has
    the host's addresses on the master. With ``dad``, containers detect duplicate IPv6 addresses,
    which takes a second. Without ``ipv6``, it is disabled in the first container.
    """

    def __init__(
        self,
        node: Node,
        runtime: Runtime,
        fake: FakeIpam,
        *,
        master: str = "dummy",
        up: bool = True,
        host: Sequence[str] = (),
        dad: bool = False,
        ipv6: bool = True,
    ) -> None:
        self.node, self.host, self.runtime, self.fake = node, node.host, runtime, fake
        self._dad = dad
        self.container = self.make_container()
        if not ipv6:
            for name in ("all", "default"):
                self.container.sysctl(f"net/ipv6/conf/{name}/disable_ipv6", 1)
            self.container.ip("link set dev lo up")
        if master == "wire":
            self.neighbour = node.make_connected_master()
        elif master:
            node.make_master(up=up)
        for each in host:
            self.host.ip(f"address add {each} dev eth0" + (" nodad" if ":" in each else ""))

    @cached_property
    def container2(self) -> NetNS:
        return self.make_container()

    @contextmanager
    def temporary_container(self) -> Iterator[NetNS]:
        container = self.make_container()
        try:
            yield container
        finally:
            self.node.remove(container)

    def make_container(self) -> NetNS:
        container = self.node.make_container()
        container.sysctl("net/ipv6/conf/default/accept_dad", int(self._dad))
        return container

    def make_foreign_link(
        self, at: NetNS, mode: str, name: str = "byhand", *, kind: str = "ipvlan", up: bool = True
    ) -> None:
        """Make an interface on the master in the namespace ``at``, as another program would."""
        self.host.ip(f"link add link eth0 name {name} type {kind} mode {mode}")
        run("ip", "link", "set", "dev", name, "netns", at.path)
        if up:
            at.ip(f"link set dev {name} up")

    def leave_link(self, container: str, network: str = "net") -> str:
        """Do what an ADD does that is killed before it moves its link; return the link's name."""
        record = Record(network, container, "net1", "/gone", (1, 1), "l2", "bridge", master=(1, 1))
        with Registry().master_lock(record.master, lambda: None):
            Registry().write(record)
        name = f"iv{record.attachment.key}"
        self.host.ip(f"link add link eth0 name {name} type ipvlan mode l2")
        return name

    def add(
        self, conf: Conf | None = None, /, *, at: NetNS | None = None, **overrides: Any
    ) -> "Attachment":
        """Attach a container, the first or ``at``, by a configuration or by options of it."""
        at, conf, environment = self._assemble_call(conf, at, overrides)
        answer = self.runtime.add(at, conf, **environment)
        return Attachment(self, at, conf, environment, answer.result(), answer.stderr)

    def expect_error(
        self,
        code: int,
        *words: str,
        hidden: Sequence[str] = (),
        conf: Conf | None = None,
        at: NetNS | None = None,
        **overrides: Any,
    ) -> dict[str, Any]:
        """Assert that ADD fails with words in its error and changes nothing; return the error.

        The texts in ``hidden`` must be missing in the error, but be on stderr and in the log. The
        error is returned with stderr, as "private".
        """
        logged = {"logFile": "log", "logLevel": "error"} if hidden else {}
        at, conf, environment = self._assemble_call(conf, at, overrides)
        with self.unchanged():
            answer = self.runtime.add(at, {**conf, **logged}, **environment)
        error = answer.error()
        text = f"{error['msg']}\n{error.get('details', '')}"
        assert (error["code"], [each for each in words if each not in text]) == (code, []), answer
        log = (LOGS / "log").read_text() if hidden else ""
        for each in hidden:
            assert (each in text, each in answer.stderr, each in log) == (False, True, True), each
        return {**error, "private": answer.stderr}

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        before = self.node.snapshot()
        yield
        assert self.node.snapshot() == before

    def ipam(
        self,
        on: str = "ADD",
        *,
        ips: Sequence[str] = (),
        script: str | None = None,
        status: int = 0,
        **document: Any,
    ) -> Conf:
        """Have the fake IPAM plugin print a result or run a script; return its configuration."""
        addresses = {"ips": [{"address": each} for each in ips]} if ips else {}
        if script is None:
            self.fake.answer(on, {**addresses, **document}, status)
        else:
            self.fake.run_on(on, script)
        return self.fake.conf

    def dry_run(
        self,
        verb: str = "add",
        *arguments: str,
        conf: Conf | None = None,
        at: NetNS | None = None,
        **overrides: Any,
    ) -> "DryRun":
        """Make a dry run of a verb with these arguments; it must succeed and change nothing."""
        at, conf, environment = self._assemble_call(conf, at, overrides)
        files = {"config": {key: conf[key] for key in conf if key != "prevResult"}}
        if "prevResult" in conf:
            files["prev_result"] = conf["prevResult"]
        argv = options(cni_path=environment["CNI_PATH"])
        for name, document in files.items():
            (self.fake.directory / name).write_text(json.dumps(document))
            argv += options(**{name: str(self.fake.directory / name)})
        if verb != "gc":
            argv += options(netns=at.path, ifname=environment.get("CNI_IFNAME", "net1"))
            argv += options(container_id=environment["CNI_CONTAINERID"])
        argv += arguments
        with self.unchanged():
            return DryRun(ipvlan(verb, "--dry-run", *argv).check_output(), argv)

    def _assemble_call(
        self, conf: Conf | None, at: NetNS | None, overrides: Mapping[str, Any]
    ) -> tuple[NetNS, Conf, dict[str, str]]:
        at = at or self.container
        is_second = at is self.__dict__.get("container2")
        address = "10.1.0.3/24" if is_second else "10.1.0.2/24"
        changes = {key: value for key, value in overrides.items() if not key.isupper()}
        conf = network(**{"ipam": static(address), **(conf or {}), **changes})
        variables = {key: value for key, value in overrides.items() if key.isupper()}
        container_id = "two" if is_second else "one"
        return at, conf, {"CNI_CONTAINERID": container_id, "CNI_PATH": self.fake.path, **variables}


class Attachment(NamedTuple):
    """An attachment; ``stderr`` is what ADD warned of."""

    setup: Setup
    container: NetNS
    conf: Conf
    environment: dict[str, str]
    result: dict[str, Any]
    stderr: str

    def check(self, *words: str, **changes: Any) -> dict[str, Any]:
        """Have CHECK succeed, or fail with words; return its error."""
        conf = {**self.conf, **changes}
        call = self.setup.runtime.check
        answer = call(self.container, conf, self.result, **self.environment)
        if not words:
            answer.succeeds()
            return {}
        error = answer.error()
        assert [each for each in words if each not in error["msg"]] == [], error
        return error

    def delete(self, **changes: Any) -> None:
        call = self.setup.runtime.delete
        call(self.container, {**self.conf, **changes}, **self.environment).succeeds()


class DryRun(NamedTuple):
    """A dry run; ``options`` are those of the command."""

    text: str
    options: list[str]

    def run(self, shell: str = "dash", **environment: str) -> tuple[int, str]:
        return run_script(shell, self.text, **environment)

    def succeeds(self, shell: str = "dash") -> None:
        status, out = self.run(shell)
        assert status == 0, out
