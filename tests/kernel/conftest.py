"""The plugin in this very process, on namespaces that are made and thrown away for each test.

This tier may use everything the package has, real commands and real IPAM plugins.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest
from executable import Executable
from person import QuickPerson
from runtime import Answer, Runtime

from cni_ipvlan.cni import protocol
from cni_ipvlan.cni.request import read
from cni_ipvlan.iproute.interrupts import Interrupts
from cni_ipvlan.log import Log
from cni_ipvlan.plugin import perform
from cni_ipvlan.plugin.node import assemble


@pytest.fixture
def runtime() -> Runtime:
    return Runtime(call_in_process)


@pytest.fixture
def person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> QuickPerson:
    """Have a person who may call the command, in a directory of its own."""
    monkeypatch.chdir(tmp_path)
    return QuickPerson(Executable(), tmp_path)


def call_in_process(environment: Mapping[str, str], stdin: bytes) -> Answer:
    stdout: list[bytes] = []
    stderr: list[str] = []
    log = Log(stderr.append, environment)
    node = assemble(environment, Interrupts(), log)
    status = protocol.serve(environment, read(stdin), partial(perform, node), stdout.append, log)
    return Answer(status, b"".join(stdout), "\n".join(stderr))
