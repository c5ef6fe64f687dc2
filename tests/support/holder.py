"""Another process that holds a lock of the registry."""

import subprocess
import sys
import textwrap
from pathlib import Path

from cni_ipvlan.state.attachment import AttachmentId

ATTACHMENT = AttachmentId("net", "container", "net1")
OTHER = AttachmentId("net", "container", "net2")
KEY, OTHER_KEY = ATTACHMENT.key, OTHER.key
MASTER = (4026531840, 2)
HOLDER = """
import os, subprocess, sys, time
from cni_ipvlan.state.registry import Registry
registry = Registry(sys.argv[1])

def say(*words):
    print(*words, flush=True)
"""
HOLD = f"""
with registry.attachment_lock({KEY!r}, lambda: None, strict=True):
    say("held")
    sys.stdin.readline()
say("released")
"""
HOLD_MASTER = f"""
with registry.master_lock({MASTER!r}, lambda: None):
    say("held")
    sys.stdin.readline()
"""
HOLD_IN_A_CHILD = f"""
with registry.attachment_lock({KEY!r}, lambda: None, strict=True):
    child = subprocess.Popen(["sleep", "30"], close_fds=False, stdout=subprocess.DEVNULL)
    say(child.pid)
    sys.stdin.readline()
"""


def never() -> None:
    """Nothing interrupts a wait."""


def process(body: str, directory: Path) -> subprocess.Popen[str]:
    """Start a process that uses the registry in ``directory``."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER + textwrap.dedent(body), str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",  # or Python would import from here what is not installed
    )


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip()
