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
ATTACHMENTS_LOCK = f"attachment_lock({KEY!r}, lambda: None, strict=True)"
MASTERS_LOCK = f"master_lock({MASTER!r}, lambda: None)"
HOLDER = """
import os, subprocess, sys
from cni_ipvlan.state.registry import Registry
registry = Registry(sys.argv[1])

def say(*words):
    print(*words, flush=True)
"""
HOLD, HOLD_MASTER = (
    f"""
with registry.{lock}:
    say("held")
    sys.stdin.readline()
"""
    for lock in (ATTACHMENTS_LOCK, MASTERS_LOCK)
)
HOLD_IN_A_CHILD = f"""
with registry.{ATTACHMENTS_LOCK}:
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
