"""Import sh without the modules that only its unused features need.

Importing asyncio, logging, threading, re and others takes longer than the rest of a call.
Only sh's foreground mode is used, always with ``_env``, and that needs none of them.

sh starts a command with fork, which copies the page tables of a Python process; posix_spawn does
not. So ``os.spawnve`` in sh calls ``spawn`` of the environment that sh was given. Around it, sh
changes to the current directory and back, which can fail when the command runs already: not here.
"""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from types import ModuleType

from cni_ipvlan.start import signal, stand_ins

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


# The attributes of each module that sh 2.2 to 2.4 uses while it is imported.
_USED_ATTRIBUTES: dict[str, dict[str, object]] = {
    "asyncio": {"Queue": object},
    "getpass": {},
    "glob": {"glob": None},
    "importlib.metadata": {"version": lambda _name: "", "PackageNotFoundError": ImportError},
    "inspect": {},
    "locale": {"getpreferredencoding": sys.getfilesystemencoding},
    "logging": {},
    "platform": {"system": lambda: os.uname().sysname},
    "pty": {},
    "pwd": {},
    "signal": {name: number for name, number in vars(signal).items() if name[:3] == "SIG"},
    "queue": {"Empty": Exception, "Queue": object},
    "re": {**stand_ins.RE, "match": lambda *_: None},  # it finds no names of signals, for errors
    "shlex": {"quote": None},
    "struct": {},
    "termios": {},
    "textwrap": {},
    "threading": {"RLock": nullcontext, "local": type("local", (), {})},
    "traceback": {},
    "tty": {},
    "typing": dict.fromkeys(("Any", "Dict", "Type", "Union"), list),  # only for annotations
    "warnings": {},
    "weakref": {},
}


class _Os(ModuleType):
    """The module os, with another spawnve, and without a current directory."""

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)

    @staticmethod
    def spawnve(_mode: int, program: str, argv: list[str], environment: Any) -> Any:
        """Run a program with its environment's ``spawn``."""
        return environment.spawn(program, argv)

    @staticmethod
    def getcwd() -> str:
        """Return a directory for ``chdir``."""
        return "."

    @staticmethod
    def chdir(_path: str) -> None:
        """Stay where we are."""


def load() -> Any:
    """Return the module sh; its foreground commands are started by their environment.

    Raises ImportError if this version of sh does not allow that, since signals
    would then not reach the commands.
    """
    sh = stand_ins.load("sh", _USED_ATTRIBUTES)
    names = getattr(sh.Command.__call__, "__globals__", {})
    if names.get("os") is not os:
        raise ImportError("this version of sh is not supported; 2.2 to 2.4 are")
    names["os"] = _Os("os")
    return sh
