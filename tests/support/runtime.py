"""The part of a container runtime: it calls the plugin, and keeps to the protocol itself."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from lab import NetNS

from cni_ipvlan.cni import protocol
from cni_ipvlan.cni.request import read
from cni_ipvlan.iproute.interrupts import Interrupts
from cni_ipvlan.log import Log
from cni_ipvlan.plugin import perform
from cni_ipvlan.plugin.node import assemble

PLUGINS = "/usr/lib/cni"  # where Debian's containernetworking-plugins are

Conf = dict[str, Any]


class Answer(NamedTuple):
    status: int
    stdout: bytes
    stderr: str

    def result(self) -> dict[str, Any]:
        assert self.status == 0, (self.stdout, self.stderr)
        document: dict[str, Any] = json.loads(self.stdout)
        return document

    def error(self) -> dict[str, Any]:
        assert self.status == 1, (self.stdout, self.stderr)
        document: dict[str, Any] = json.loads(self.stdout)
        assert {"cniVersion", "code", "msg"} <= document.keys() <= {*_ERROR_KEYS}
        return document

    def succeeds(self) -> None:
        assert (self.status, self.stdout) == (0, b""), self.stderr


_ERROR_KEYS = ("cniVersion", "code", "msg", "details")


class Runtime:
    """Calls the plugin through ``call``, which takes its environment and its stdin."""

    def __init__(self, call: Callable[[Mapping[str, str], bytes], Answer]) -> None:
        self._call = call

    def add(self, container: NetNS | str, conf: Conf, **environment: str) -> Answer:
        return self.call("ADD", container, conf, **environment)

    def delete(self, container: NetNS | str, conf: Conf, **environment: str) -> Answer:
        return self.call("DEL", container, conf, **environment)

    def check(
        self, container: NetNS | str, conf: Conf, result: Mapping[str, Any], **environment: str
    ) -> Answer:
        return self.call("CHECK", container, {**conf, "prevResult": result}, **environment)

    def status(self, conf: Conf, **environment: str) -> Answer:
        return self.call_raw(conf, {"CNI_COMMAND": "STATUS", "CNI_PATH": PLUGINS, **environment})

    def gc(self, conf: Conf, valid: Sequence[tuple[str, str]] = (), **environment: str) -> Answer:
        """Call GC; ``valid`` holds the attachments that stay: container ID, interface name."""
        attachments = [{"containerID": each[0], "ifname": each[1]} for each in valid]
        return self.call_raw(
            {**conf, "cni.dev/valid-attachments": attachments},
            {"CNI_COMMAND": "GC", "CNI_PATH": PLUGINS, **environment},
        )

    def call(self, verb: str, container: NetNS | str, conf: Conf, **environment: str) -> Answer:
        """Call a verb about a container's interface, net1 unless ``environment`` names another."""
        return self.call_raw(conf, call_environment(verb, container, **environment))

    def call_raw(self, conf: Conf | bytes, environment: Mapping[str, str]) -> Answer:
        return self._call(environment, stdin_of(conf))


def call_in_process(environment: Mapping[str, str], stdin: bytes) -> Answer:
    stdout: list[bytes] = []
    stderr: list[str] = []
    log = Log(stderr.append, environment)
    request = read(stdin)
    log.open(request.config)
    node = assemble(environment, Interrupts(), log)
    status = protocol.serve(environment, request, partial(perform, node), stdout.append, log)
    return Answer(status, b"".join(stdout), "\n".join(stderr))


def call_environment(verb: str, container: NetNS | str, **variables: str) -> dict[str, str]:
    """Return the environment of a call; ``variables`` are added, or take a variable's place."""
    path = container if isinstance(container, str) else container.path
    defaults = {"CNI_CONTAINERID": "one", "CNI_NETNS": path, "CNI_IFNAME": "net1"}
    return {"CNI_COMMAND": verb, **defaults, "CNI_PATH": PLUGINS, **variables}


def stdin_of(conf: Conf | bytes) -> bytes:
    return conf if isinstance(conf, bytes) else json.dumps(conf).encode() + b"\n"


def network(**options: Any) -> Conf:
    """Return a configuration, by default on eth0, static; without options that are None."""
    defaults = {"cniVersion": "1.0.0", "name": "net", "type": "ipvlan"}
    conf = {**defaults, "master": "eth0", "ipam": static("10.1.0.2/24"), **options}
    return {key: value for key, value in conf.items() if value is not None}


def static(*addresses: str, gateway: str = "", **options: Any) -> Conf:
    """Return the configuration of the IPAM plugin static; the gateway is the first address's."""
    entries: list[dict[str, str]] = [{"address": address} for address in addresses]
    if gateway:
        entries[0]["gateway"] = gateway
    return {"type": "static", "addresses": entries, **options}


def host_local(*subnets: str, **options: Any) -> Conf:
    ranges = [[{"subnet": subnet}] for subnet in subnets]
    return {"type": "host-local", "ranges": ranges, **options}
