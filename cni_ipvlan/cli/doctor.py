"""What could keep an attachment from working, looked at one after the other."""

from __future__ import annotations

import json
import os
import platform
import re
from typing import TYPE_CHECKING, NamedTuple

from cni_ipvlan import modes, netconf, survey
from cni_ipvlan.cli import problems
from cni_ipvlan.cni import delegate
from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.failures import as_cni_error
from cni_ipvlan.iproute import causes, commands, namespace, queries
from cni_ipvlan.iproute.runner import CommandError, ProgramNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cni_ipvlan.cli.configs import NetworkConfig
    from cni_ipvlan.iproute.runner import Runner
    from cni_ipvlan.iproute.transaction import Transaction
    from cni_ipvlan.registry import Registry

OK, WARNING, PROBLEM = "ok", "warning", "problem"

_OLDEST_IPROUTE2 = (5, 10)
_NEEDED_CAPABILITIES = {12: "CAP_NET_ADMIN", 21: "CAP_SYS_ADMIN"}


class Finding(NamedTuple):
    """One line: how it stands (ok, warning, problem), about what, and what to do about it."""

    state: str
    subject: str
    text: str
    advice: str = ""


class Doctor:
    """Looks, and changes nothing."""

    def __init__(self, runner: Runner, tx: Transaction, registry: Registry) -> None:
        self._runner = runner
        self._tx = tx
        self._registry = registry

    def node(self, cni_path: str) -> Iterator[Finding]:
        """What any network needs: kernel, tools, permission, plugins."""
        yield self._kernel()
        yield from self._iproute2()
        yield from self._programs()
        yield self._capabilities()
        yield from self._directories(cni_path)

    def network(self, network: NetworkConfig, cni_path: str) -> Iterator[Finding]:
        """What one network needs: a sound configuration, its master, its IPAM plugin."""
        found = problems.in_config(network)
        for problem in found:
            place = ".".join(map(str, problem.path))
            yield Finding(PROBLEM, "configuration", problem.text, f"see {place}" if place else "")
        if not found:
            yield Finding(OK, "configuration", f"network {network.name}")
        try:
            conf = netconf.parse(network.config, str(network.config.get("cniVersion") or "0.1.0"))
        except CniError:
            return
        if conf.ipam_type:
            yield self._ipam(conf.ipam_type, cni_path)
        if not conf.link_in_container:
            yield from self._master(conf)

    def container(self, netns: str) -> Iterator[Finding]:
        """Whether a namespace is a container's that can be entered."""
        try:
            place = namespace.find(netns)
        except OSError as error:
            yield Finding(PROBLEM, "namespace", f"{netns}: {error.strerror}")
            return
        except namespace.NotANamespaceError as error:
            yield Finding(PROBLEM, "namespace", f"{netns}: {error}")
            return
        if place.identity == namespace.own():
            yield Finding(
                PROBLEM, "namespace", f"{netns} is the namespace of the host, not a container's"
            )
            return
        try:
            links = queries.links(self._tx.read(commands.link_show_all(), inside=place))
        except CommandError as error:
            yield Finding(PROBLEM, "namespace", f"cannot enter {netns}: {error.answer}", "be root")
            return
        names = ", ".join(link.name for link in links)
        yield Finding(OK, "namespace", f"{netns} has the interfaces {names}")

    def _kernel(self) -> Finding:
        release = platform.release()
        answer = self._runner.run(commands.link_add_without_master("ipvlan-probe"))
        if b"Invalid argument" in answer.stderr:
            return Finding(OK, "kernel", f"Linux {release} knows ipvlan")
        cause = causes.explain(answer.argv, answer.stderr.decode("utf-8", "replace"))
        if cause.kind == causes.NOT_PERMITTED:
            if os.path.exists("/sys/module/ipvlan"):
                return Finding(OK, "kernel", f"Linux {release} has ipvlan loaded")
            return Finding(
                WARNING, "kernel", f"cannot tell whether Linux {release} knows ipvlan", "be root"
            )
        return Finding(
            PROBLEM, "kernel", f"Linux {release} does not know ipvlan", "try: modprobe ipvlan"
        )

    def _iproute2(self) -> Iterator[Finding]:
        try:
            answer = self._runner.run(("ip", "-V"))
        except ProgramNotFoundError as error:
            yield Finding(
                PROBLEM,
                "iproute2",
                "ip is not there",
                f"install iproute2; searched: {error.searched}",
            )
            return
        said = (answer.stdout or answer.stderr).decode("utf-8", "replace").strip()
        version = re.search(r"iproute2-(?:v|ss)?(\d+)\.(\d+)", said)
        if version is None:
            yield Finding(
                PROBLEM, "iproute2", f"ip is not iproute2's: {said[:60]}", "install iproute2"
            )
        elif (int(version[1]), int(version[2])) < _OLDEST_IPROUTE2:
            oldest = ".".join(map(str, _OLDEST_IPROUTE2))
            yield Finding(PROBLEM, "iproute2", said, f"{oldest} or newer is needed")
        else:
            yield Finding(OK, "iproute2", said)

    def _programs(self) -> Iterator[Finding]:
        for program, package in (("nsenter", "util-linux"), ("tee", "coreutils")):
            try:
                self._runner.run((program, "--version"))
            except ProgramNotFoundError:
                yield Finding(PROBLEM, program, "it is not there", f"install {package}")

    def _capabilities(self) -> Finding:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            line = next(line for line in file if line.startswith("CapEff:"))
        effective = int(line.split()[1], 16)
        missing = [name for bit, name in _NEEDED_CAPABILITIES.items() if not effective & (1 << bit)]
        if missing:
            return Finding(
                WARNING,
                "permission",
                f"{' and '.join(missing)} missing",
                "runtimes call it as root",
            )
        return Finding(OK, "permission", "this user may change networks")

    def _directories(self, cni_path: str) -> Iterator[Finding]:
        for directory in cni_path.split(":"):
            try:
                names = sorted(os.listdir(directory))
            except OSError as error:
                yield Finding(WARNING, "plugins", f"{directory}: {error.strerror}")
                continue
            answers = []
            for name in names:
                path = os.path.join(directory, name)
                if os.path.isfile(path) and os.access(path, os.X_OK):
                    answers.append(f"{name} {self._newest_version(path)}")
            yield Finding(OK, "plugins", f"{directory}: {', '.join(answers) or 'empty'}")

    def _newest_version(self, path: str) -> str:
        environment = {"CNI_COMMAND": "VERSION", "PATH": os.environ.get("PATH", "")}
        answer = self._runner.run((path,), b'{"cniVersion": "1.0.0"}', environment)
        try:
            return str(json.loads(answer.stdout)["supportedVersions"][-1])
        except (ValueError, KeyError, IndexError, TypeError):
            return "(answers no VERSION)"

    def _ipam(self, plugin: str, cni_path: str) -> Finding:
        try:
            path = delegate.find(plugin, tuple(cni_path.split(":")))
        except CniError as error:
            return Finding(PROBLEM, "ipam", error.msg, error.details.replace("\n", "; "))
        return Finding(OK, "ipam", path)

    def _master(self, conf: netconf.NetConf) -> Iterator[Finding]:
        try:
            master = survey.find_master(self._tx, conf, None)
        except (CniError, CommandError) as error:
            failure = as_cni_error(error)
            yield Finding(PROBLEM, "master", failure.msg, failure.details.replace("\n", "; "))
            return
        link = master.link
        if not link.is_up:
            yield Finding(
                WARNING, "master", f"{link.name} is down", f"try: ip link set dev {link.name} up"
            )
        else:
            yield Finding(OK, "master", f"{link.name} is up, MTU {link.mtu}, {link.mac}")
        try:
            modes.check(self._tx, self._registry, conf, master)
        except CniError as error:
            yield Finding(PROBLEM, "mode", error.msg, error.details.replace("\n", "; "))
        else:
            yield Finding(
                OK, "mode", f"nothing on {link.name} runs in another mode than {conf.mode}"
            )
