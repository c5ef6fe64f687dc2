"""The taps of tests/faults: none of the package's system calls is missed."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import taps

from cni_ipvlan.iproute import namespace
from cni_ipvlan.state import locks, registry
from cni_ipvlan.state.attachment import AttachmentId
from cni_ipvlan.state.registry import Registry

ATTACHMENT = AttachmentId("net", "container", "net1")


def test_calls_are_counted_through_modules_and_imported_functions_and_open(tmp_path: Path) -> None:
    met = []

    def meet(words: str, work: Callable[[], Any]) -> Any:
        met.append(words.split(maxsplit=1)[0])
        return work()

    lock = Registry(str(tmp_path / "r")).attachment_lock(ATTACHMENT.key, lambda: None, strict=True)
    with taps.tapped(meet):
        with lock:
            pass
        namespace.find("/proc/self/ns/net")
        namespace.own_has_link("lo")
    assert {"mkdir", "open", "flock", "lockf", "fstat", "unlink", "rmdir", "ioctl"} <= set(met)
    assert "close" not in met


def test_a_call_may_be_refused(tmp_path: Path) -> None:
    def refuse(words: str, _work: Callable[[], Any]) -> Any:
        raise OSError(5, "injected", words)

    with taps.tapped(refuse), pytest.raises(OSError, match="injected: 'mkdir "):
        Registry(str(tmp_path / "r")).attachment_lock("key", lambda: None, strict=True).__enter__()


def test_everything_is_as_before_afterwards() -> None:
    usual = (os, fcntl, fcntl.ioctl)
    assert found() == usual
    with taps.tapped(lambda _words, work: work()):
        assert found() != usual
        assert "open" in vars(namespace)
    assert found() == usual
    assert "open" not in vars(namespace)


def found() -> tuple[object, ...]:
    """What the package's modules call: a module, and its function."""
    return vars(registry)["os"], vars(locks)["fcntl"], vars(namespace)["ioctl"]


@pytest.mark.parametrize("module", taps.modules(), ids=lambda module: module.__name__)
def test_no_function_imports_what_a_tap_on_its_module_would_miss(module: Any) -> None:
    text = Path(module.__file__).read_text(encoding="utf-8")
    assert re.findall(r"^ +(?:import|from) (?:os|fcntl|posix)\b", text, re.MULTILINE) == []
