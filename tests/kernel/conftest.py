"""The plugin in this very process, on namespaces that are made and thrown away for each test.

This tier may use everything the package has, real commands and real IPAM plugins.
"""

from pathlib import Path

import pytest
from executable import Executable
from person import QuickPerson
from runtime import Runtime, call_in_process
from scene import Scene


@pytest.fixture
def runtime() -> Runtime:
    return Runtime(call_in_process)


@pytest.fixture
def person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> QuickPerson:
    monkeypatch.chdir(tmp_path)
    return QuickPerson(Executable(), tmp_path)


@pytest.fixture
def off(scene: Scene) -> Scene:
    """Have a container in which IPv6 is off."""
    for name in ("all", "default"):
        scene.one.sysctl(f"net/ipv6/conf/{name}/disable_ipv6", 1)
    scene.one.ip("link set dev lo up")
    return scene
