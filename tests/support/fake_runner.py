"""A fake runner for the plugin, which executes no command, but answers as if it had."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from grammar import is_name, is_query, split_namespace, without_options

from cni_ipvlan.cni import protocol
from cni_ipvlan.cni.request import read
from cni_ipvlan.iproute import commands
from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.iproute.interrupts import Interrupts
from cni_ipvlan.iproute.namespace import Namespace
from cni_ipvlan.iproute.running import Completed, Running
from cni_ipvlan.iproute.transaction import Transaction
from cni_ipvlan.log import Log
from cni_ipvlan.plugin import perform
from cni_ipvlan.plugin.node import Node
from cni_ipvlan.state.registry import Registry

LINK = {
    "ifindex": 2, "ifname": "eth0", "flags": ["UP"], "mtu": 1500, "link_type": "ether",
    "address": "02:00:00:00:00:01",
}  # fmt: skip


class FakeRunner:
    """Records commands, and answers as if each had done its work."""

    def __init__(self, result: object = None) -> None:
        self.commands: list[tuple[str, ...]] = []
        self.interrupts = Interrupts()
        self._result = result

    @contextmanager
    def holding(self, _place: Namespace) -> Iterator[None]:
        yield

    def start(self, command: Command, **_how: object) -> Running:
        running = Running(command, {}, self.interrupts)
        running._process = 0
        running.completed = self.run(command)
        return running

    def finish(self, running: Running) -> Completed:
        assert running.completed
        return running.completed

    def run(self, command: Command, **_how: object) -> Completed:
        argv, stdin = command.entered_argv, command.stdin
        for word in argv:
            os.fsencode(word)  # or no process could be started with it
            assert "\0" not in word
        words = argv[3:] if argv[:2] == ("ip", "-n") else tuple(split_namespace(argv)[1])
        entry = argv[: len(argv) - len(words)]
        if words[0] == "sh" and words[2] == commands.WRITE_AND_RUN:
            self.commands.append(argv)
            words = words[words.index("ip") :]
        if words[-2:] == ("-batch", "-"):
            program = () if entry[:2] == ("ip", "-n") else ("ip",)
            self.commands.append((*entry, *program, "-batch"))
            options = tuple(word for word in words if word not in ("ip", "-batch", "-"))
            lines = [
                ("ip", *options, *line.split(" "))
                for line in stdin.decode("utf-8", "surrogateescape").rstrip("\n").split("\n")
            ]
            self.commands += lines
            answers = [self._answer(line) for line in lines if is_query(line)]
            return Completed(0, b"\n".join(answers), b"", 0.0)
        self.commands.append(argv)
        if "macvlan" in words and not is_query(words):
            return Completed(2, b"", b"RTNETLINK answers: Invalid argument\n", 0.0)
        return Completed(0, self._answer(words), b"", 0.0)

    def _answer(self, words: tuple[str, ...]) -> bytes:
        if words[0] == "cat":
            return b"1\n1\n"
        if not is_query(words):
            is_tool = words[0] in ("ip", "tee", "arping", "tc")
            return b"" if is_tool else json.dumps(self._result).encode()
        kind, _, *args = without_options(words)[1:]
        if kind == "route" or args[:1] == ["type"] or (kind, args) == ("link", ["dev", "net1"]):
            return b"[]"
        name = (args or ["eth0"])[-1]
        names = {"ifname": name} if is_name(name) else {"altnames": [name]}
        return json.dumps([{**LINK, **names, "addr_info": self._addresses()}]).encode()

    def _addresses(self) -> list[dict[str, Any]]:
        run = [without_options(words) for words in self.commands]
        added = [words[3] for words in run if words[1:3] == ["address", "add"]]
        parts = (address.partition("/") for address in added)
        return [{"local": local, "prefixlen": int(length)} for local, _, length in parts]


def call(
    environment: Mapping[str, str], stdin: bytes, directory: Path, runner: FakeRunner
) -> tuple[int, list[bytes]]:
    printed: list[bytes] = []
    log = Log(lambda _text: None, {})
    node = Node(
        runner,  # type: ignore[arg-type]
        Registry(str(directory / "registry")),
        lambda: Transaction(runner),  # type: ignore[arg-type]
        log,
    )
    status = protocol.serve(environment, read(stdin), partial(perform, node), printed.append, log)
    return status, printed
