"""Check for everything that could keep an attachment from working."""

from __future__ import annotations

import json
import os
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from cni_ipvlan.cli import configs, leases, problems
from cni_ipvlan.cli.problem import json_path
from cni_ipvlan.cni import delegate
from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.cni.version import VERSION_WHEN_ABSENT
from cni_ipvlan.config import netconf
from cni_ipvlan.iproute import IprouteError, commands, machine, namespace, queries
from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.iproute.interrupts import InterruptedBySignalError
from cni_ipvlan.iproute.runner import CommandError
from cni_ipvlan.iproute.transaction import Transaction
from cni_ipvlan.plugin import about, explain, modes, preflight
from cni_ipvlan.plugin import master as masters
from cni_ipvlan.plugin.codes import NOT_PERMITTED
from cni_ipvlan.plugin.explain import as_cni_error
from cni_ipvlan.state.attachment import ModeHint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cni_ipvlan.cli.configs import NetworkConfig
    from cni_ipvlan.config.netconf import NetConf
    from cni_ipvlan.iproute.namespace import Namespace
    from cni_ipvlan.plugin.master import Master
    from cni_ipvlan.plugin.node import Node

OK, WARNING, PROBLEM = "ok", "warning", "problem"

_CONFIGURATIONS = "/etc/cni/net.d"
_OLDEST_IPROUTE2 = (5, 10)
_PROGRAMS = ("nsenter", "tee", "cat")


class Finding(NamedTuple):
    """One finding: state (ok, warning, problem), subject, text, advice (perhaps several lines)."""

    state: str
    subject: str
    text: str
    advice: str = ""


class Doctor:
    """Examines the node without changing anything."""

    def __init__(self, node: Node, cni_path: str) -> None:
        self._runner = node.runner
        self._tx = Transaction(node.runner)
        self._registry = node.registry
        self._cni_path = cni_path
        self._findings: list[Finding] = []

    def examine(self, network: NetworkConfig | None, netns: str | None) -> list[Finding]:
        """Return the findings about the node, and about the network and namespace if given."""
        with self._reporting("kernel"):
            self._kernel()
        with self._reporting("iproute2"):
            self._iproute2()
        for program in _PROGRAMS:
            with self._reporting("programs"):
                self._runner.run(Command((program, "--version")))
        with self._reporting("permission"):
            self._permission()
        with self._reporting("plugins"):
            self._plugins()
        container = None
        if netns is not None:
            with self._reporting("namespace"):
                container = self._container(netns)
        if network is None:
            with self._reporting("configuration"):
                self._configurations()
        else:
            self._network(network, container)
        return self._findings

    @contextmanager
    def _reporting(self, subject: str) -> Iterator[None]:
        """Report an error in the check itself as a finding."""
        try:
            yield
        except InterruptedBySignalError:
            raise
        except (CniError, IprouteError, OSError) as error:
            failure = as_cni_error(error)
            state = WARNING if failure.code == NOT_PERMITTED else PROBLEM
            self._found(state, subject, failure.msg, failure.explanation)

    def _found(self, state: str, subject: str, text: str, advice: str = "") -> None:
        self._findings.append(Finding(state, subject, text, advice))

    # The node.

    def _kernel(self) -> None:
        module = machine.ipvlan_module()
        if module.state == machine.UNKNOWN:
            probe = Command(commands.link_add_without_master("ipvlan-probe"))
            answer = self._runner.run(probe)
            if b"Invalid argument" not in answer.stderr:
                purpose = "check whether the kernel has ipvlan"
                raise CommandError(probe._replace(purpose=purpose), answer)
            self._found(OK, "kernel", f"Linux {os.uname().release} has ipvlan")
            return
        state, advice = {
            machine.LOADED: (OK, ""),
            machine.AVAILABLE: (
                WARNING,
                "the first ADD loads it; to load it now: modprobe ipvlan",
            ),
            machine.BLOCKED: (PROBLEM, "remove that line, then: modprobe ipvlan"),
            machine.ABSENT: (
                PROBLEM,
                "install the kernel's extra modules, or a kernel with CONFIG_IPVLAN",
            ),
        }[module.state]
        self._found(state, "kernel", module.text, advice)

    def _iproute2(self) -> None:
        answer = self._runner.run(Command(("ip", "-V")))
        printed = (answer.stdout or answer.stderr).decode("utf-8", "replace").strip()
        version = re.search(r"iproute2-(?:v|ss)?(\d+)\.(\d+)", printed)
        if version is None:
            text = f"ip is not iproute2's: {printed[:60]}"
            self._found(PROBLEM, "iproute2", text, "install iproute2")
        elif (int(version[1]), int(version[2])) < _OLDEST_IPROUTE2:
            oldest = ".".join(map(str, _OLDEST_IPROUTE2))
            self._found(PROBLEM, "iproute2", printed, f"install {oldest} or newer")
        else:
            self._found(OK, "iproute2", printed)

    def _permission(self) -> None:
        missing = machine.missing_capabilities()
        if missing:
            text = f"without {' and '.join(missing)}, ADD and some of these checks can't work"
            self._found(WARNING, "permission", text, "run it as root, as runtimes do")
        else:
            self._found(OK, "permission", "this user may change networks and enter namespaces")

    def _plugins(self) -> None:
        for directory in self._cni_path.split(":"):
            try:
                names = sorted(os.listdir(directory))
            except OSError as error:
                self._found(WARNING, "plugins", f"{directory}: {error.strerror}")
                continue
            answers = []
            for name in names:
                path = os.path.join(directory, name)
                if os.path.isfile(path) and os.access(path, os.X_OK):
                    answers.append(f"{name} {self._newest_version(path)}")
                    if name == "ipvlan":
                        self._check_identity(path)
            self._found(OK, "plugins", f"{directory}: {', '.join(answers) or 'empty'}")

    def _newest_version(self, path: str) -> str:
        environment = {"CNI_COMMAND": "VERSION", "PATH": os.environ.get("PATH", "")}
        stdin = b'{"cniVersion": "1.0.0"}'
        answer = self._runner.run(Command((path,), stdin=stdin, environment=environment))
        try:
            return str(json.loads(answer.stdout)["supportedVersions"][-1])
        except (ValueError, KeyError, IndexError, TypeError):
            return "(does not answer VERSION)"

    def _check_identity(self, path: str) -> None:
        environment = {"PATH": os.environ.get("PATH", "")}
        answer = self._runner.run(Command((path,), environment=environment))
        printed = answer.stderr.decode("utf-8", "replace").strip()
        if printed != about():
            first = printed.partition("\n")[0][:60]
            text = f"{path} is a different program: {first}"
            self._found(WARNING, "plugins", text, "scripts/install-node installs this one there")

    # A container.

    def _container(self, netns: str) -> Namespace | None:
        try:
            place = namespace.find(netns)
        except (OSError, namespace.NotANamespaceError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            self._found(PROBLEM, "namespace", f"{netns}: {why}")
            return None
        if place.identity == namespace.own():
            text = f"{netns} is the host's namespace, not a container's"
            self._found(PROBLEM, "namespace", text)
            return None
        links = queries.links(self._tx.see(Command(commands.link_show_all(), inside=place)))
        names = ", ".join(link.name for link in links)
        self._found(OK, "namespace", f"{netns} has the interfaces {names}")
        return place

    # Networks.

    def _configurations(self) -> None:
        names = sorted(os.listdir(_CONFIGURATIONS)) if os.path.isdir(_CONFIGURATIONS) else ()
        for name in names:
            file = os.path.join(_CONFIGURATIONS, name)
            if not name.endswith((".conf", ".conflist", ".json")):
                continue
            try:
                networks = configs.load(file, configs.read_source(file))
            except configs.ConfigError as error:
                self._found(PROBLEM, "configuration", str(error))
                continue
            for network in networks:
                count = len(problems.in_config(network))
                text = f"{file}: network {network.label}"
                if count:
                    many = f"{count} problems" if count > 1 else "a problem"
                    self._found(
                        PROBLEM, "configuration", f"{text}: {many}", f"ipvlan validate {file}"
                    )
                else:
                    self._found(OK, "configuration", text)

    def _network(self, network: NetworkConfig, container: Namespace | None) -> None:
        found = problems.in_config(network)
        for problem in found:
            self._found(PROBLEM, "configuration", f"{json_path(problem.path)}: {problem.text}")
        if not found:
            self._found(OK, "configuration", f"{network.source}: network {network.label}")
        try:
            version = str(network.config.get("cniVersion") or VERSION_WHEN_ABSENT)
            conf = netconf.parse(network.config, version)
        except CniError:
            return  # already reported as a problem
        if conf.ipam_type:
            with self._reporting("ipam"):
                self._ipam(conf, network, is_sound=not found)
        with self._reporting("master"):
            self._master(conf, container)

    def _ipam(self, conf: NetConf, network: NetworkConfig, *, is_sound: bool) -> None:
        path = delegate.find(conf.ipam_type, tuple(self._cni_path.split(":")))
        self._found(OK, "ipam", path)
        ipam = network.config["ipam"]
        if conf.ipam_type == "host-local" and is_sound:
            self._leases(network.config)
        elif conf.ipam_type == "dhcp":
            socket = str(ipam.get("daemonSocketPath") or "/run/cni/dhcp.sock")
            if not os.path.exists(socket):
                self._found(PROBLEM, "ipam", f"{socket} does not exist", f"start {path} daemon")

    def _leases(self, config: dict[str, Any]) -> None:
        place = explain.lease_directory(config)
        for each in leases.usage(config):
            text = f"{each.leased} of {each.room} addresses of {each.ranges} are leased, in {place}"
            if each.leased < each.room:
                self._found(OK, "ipam", text)
            else:
                advice = (
                    "delete leases of containers that are gone: each file has its container's ID"
                )
                self._found(PROBLEM, "ipam", text, advice)

    def _master(self, conf: NetConf, container: Namespace | None) -> None:
        if conf.link_in_container and container is None:
            text = "it is in the container; name one with --netns to check it"
            self._found(OK, "master", text)
            return
        master = masters.find(self._tx, conf, container)
        preflight.check_master(master, conf)
        link = master.link
        if not link.is_up:
            self._found(WARNING, "master", masters.is_down(master))
        elif master.home is None and _has_no_carrier(link.name):
            text = f"{link.name} has no carrier"
            self._found(WARNING, "master", text, "check its cable or its switch port")
        else:
            self._found(OK, "master", f"{link.name} is up, MTU {link.mtu}, {link.mac}")
        self._neighbours(conf, master)

    def _neighbours(self, conf: NetConf, master: Master) -> None:
        name = master.link.name
        for rival in explain.rivals(self._tx, self._registry, master):
            text = f"{name} already carries {rival.link.kind}: {rival.describe()}"
            self._found(PROBLEM, "conflicts", text, "use another master, or remove that interface")
        with self._reporting("conflicts"):
            hint = ModeHint(conf.name, "", "", "", (0, 0), conf.mode, conf.flag)
            modes.admit(self._tx, self._registry, master, hint, lambda: None)
            text = f"nothing on {name} uses a mode other than {conf.mode} {conf.flag}"
            self._found(OK, "conflicts", text)


def _has_no_carrier(name: str) -> bool:
    try:
        with open(f"/sys/class/net/{name}/carrier", "rb") as file:
            return file.read().strip() == b"0"
    except OSError:
        return False
