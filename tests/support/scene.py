"""What most tests of the plugin begin with: a host with a master, and containers to attach.

The fixture ``scene`` has them; the mark ``scene`` says how the master is made (see Scene). Options
in capitals are variables of a call's environment, the others belong to the configuration.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, NamedTuple

import pytest
from doubles import FakeIpam
from lab import LOGS, Node, Space, run
from people import ipvlan, options
from runtime import Conf, Runtime, network, static
from shells import run_by


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "scene(**options): how the fixture scene is made")


@pytest.fixture
def scene(
    node: Node, runtime: Runtime, fake_ipam: FakeIpam, request: pytest.FixtureRequest
) -> "Scene":
    mark = request.node.get_closest_marker("scene")
    return Scene(node, runtime, fake_ipam, **(mark.kwargs if mark else {}))


@pytest.fixture
def off(scene: "Scene") -> "Scene":
    """Have a container in which IPv6 is off."""
    for name in ("all", "default"):
        scene.one.sysctl(f"net/ipv6/conf/{name}/disable_ipv6", 1)
    scene.one.ip("link set dev lo up")
    return scene


class Scene:
    """A host with the master eth0, which a mark may change.

    ``master`` is "dummy", "wire" (whose other end is ``neighbour``) or "" for none; ``host`` has
    the host's addresses there. With ``dad``, containers detect duplicate IPv6 addresses: a second.
    """

    def __init__(
        self,
        node: Node,
        runtime: Runtime,
        fake: FakeIpam,
        *,
        master: str = "dummy",
        mtu: int = 1500,
        up: bool = True,
        host: Sequence[str] = (),
        dad: bool = False,
    ) -> None:
        self.node, self.host, self.runtime, self.fake = node, node.host, runtime, fake
        self._dad = dad
        self.one = self.container()
        if master == "wire":
            self.neighbour = node.master_on_a_wire()
        elif master:
            node.master(mtu=mtu, up=up)
        for each in host:
            self.host.ip(f"address add {each} dev eth0" + (" nodad" if ":" in each else ""))

    @cached_property
    def two(self) -> Space:
        return self.container()

    @contextmanager
    def passing(self) -> Iterator[Space]:
        made = self.container()
        try:
            yield made
        finally:
            self.node.remove(made)

    def container(self) -> Space:
        made = self.node.container()
        made.sysctl("net/ipv6/conf/default/accept_dad", int(self._dad))
        return made

    def by_hand(
        self, at: Space, mode: str, name: str = "byhand", *, kind: str = "ipvlan", up: bool = True
    ) -> None:
        """Make an interface of the master, as another program does."""
        self.host.ip(f"link add link eth0 name {name} type {kind} mode {mode}")
        run("ip", "link", "set", "dev", name, "netns", at.path)
        if up:
            at.ip(f"link set dev {name} up")

    def add(self, conf: Conf | None = None, /, *, at: Space | None = None, **given: Any) -> "Added":
        """Attach a container, the first or ``at``, by a configuration or by options of it."""
        at, conf, environment = self._call(conf, at, given)
        answer = self.runtime.add(at, conf, **environment)
        return Added(self, at, conf, environment, answer.result(), answer.stderr)

    def refuses(
        self,
        code: int,
        *words: str,
        hidden: Sequence[str] = (),
        conf: Conf | None = None,
        at: Space | None = None,
        **given: Any,
    ) -> dict[str, Any]:
        """Have ADD fail with words in its error, and change nothing; return the error.

        What is ``hidden`` is not there, but on stderr and in the log. That is also "private".
        """
        logged = {"logFile": "log", "logLevel": "error"} if hidden else {}
        at, conf, environment = self._call(conf, at, given)
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
        """Have an IPAM plugin answer with addresses and more, or run a script; return its conf."""
        addresses = {"ips": [{"address": each} for each in ips]} if ips else {}
        if script is None:
            self.fake.answers(on, {**addresses, **document}, status)
        else:
            self.fake.on(on, script)
        return self.fake.conf

    def dry(
        self,
        verb: str = "add",
        *words: str,
        conf: Conf | None = None,
        at: Space | None = None,
        **given: Any,
    ) -> "Dry":
        """Make a dry run of a verb with further words; it must succeed and change nothing."""
        at, conf, environment = self._call(conf, at, given)
        files = {"config": {key: conf[key] for key in conf if key != "prevResult"}}
        if "prevResult" in conf:
            files["prev_result"] = conf["prevResult"]
        about = options(cni_path=environment["CNI_PATH"])
        for name, document in files.items():
            (self.fake.directory / name).write_text(json.dumps(document))
            about += options(**{name: str(self.fake.directory / name)})
        if verb != "gc":
            about += options(netns=at.path, ifname=environment.get("CNI_IFNAME", "net1"))
            about += options(container_id=environment["CNI_CONTAINERID"])
        about += words
        with self.unchanged():
            return Dry(ipvlan(verb, "--dry-run", *about).fine(), about)

    def _call(
        self, conf: Conf | None, at: Space | None, given: Mapping[str, Any]
    ) -> tuple[Space, Conf, dict[str, str]]:
        at = at or self.one
        number = "two" if at is self.__dict__.get("two") else "one"
        address = "10.1.0.3/24" if number == "two" else "10.1.0.2/24"
        changes = {key: value for key, value in given.items() if not key.isupper()}
        whole = network(**{"ipam": static(address), **(conf or {}), **changes})
        variables = {key: value for key, value in given.items() if key.isupper()}
        return at, whole, {"CNI_CONTAINERID": number, "CNI_PATH": self.fake.path, **variables}


class Added(NamedTuple):
    """An attachment; ``stderr`` is what ADD warned of."""

    scene: Scene
    container: Space
    conf: Conf
    environment: dict[str, str]
    result: dict[str, Any]
    stderr: str

    def check(self, *words: str, **changes: Any) -> dict[str, Any]:
        """Have CHECK succeed, or fail with words; return its error."""
        conf = {**self.conf, **changes}
        call = self.scene.runtime.check
        answer = call(self.container, conf, self.result, **self.environment)
        if not words:
            answer.succeeds()
            return {}
        error = answer.error()
        assert [each for each in words if each not in error["msg"]] == [], error
        return error

    def delete(self, **changes: Any) -> None:
        call = self.scene.runtime.delete
        call(self.container, {**self.conf, **changes}, **self.environment).succeeds()


class Dry(NamedTuple):
    """A dry run; ``options`` are those of the command."""

    text: str
    options: list[str]

    def run(self, shell: str = "dash", **environment: str) -> tuple[int, str]:
        return run_by(shell, self.text, **environment)
