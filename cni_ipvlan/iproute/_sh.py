"""Import sh without the modules that only its unused features need.

Importing asyncio, logging, importlib.metadata and others takes longer than the rest
of a call (docs/performance.md). While sh is imported, stand-ins replace them. A
stand-in loads the real module when an attribute is used that is not listed here,
so sh works as always. If sh can't be imported with stand-ins, it is imported normally.

sh starts a command with fork, which copies the page tables of a Python process;
posix_spawn does not. So ``os.spawnve`` in sh calls ``spawn`` of the environment that
sh was given. Only sh's foreground mode is used, always with ``_env``.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _Subscriptable:
    """Stands in for names of typing, which sh uses in annotations only."""

    def __class_getitem__(cls, _item: object) -> type:
        return cls


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
    "textwrap": {},
    "traceback": {},
    "tty": {},
    "typing": dict.fromkeys(("Any", "Dict", "Type", "Union"), _Subscriptable),
}


class _StandIn(ModuleType):
    def __getattr__(self, name: str) -> object:
        """Load the real module for any other attribute."""
        if name.startswith("__"):
            raise AttributeError(name)  # asked by the import system itself
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        __import__(self.__name__)
        return getattr(sys.modules[self.__name__], name)


class _Os(ModuleType):
    """The module os, with another spawnve."""

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)

    @staticmethod
    def spawnve(_mode: int, program: str, argv: list[str], environment: Any) -> Any:
        """Run a program with its environment's ``spawn``."""
        return environment.spawn(program, argv)


def load() -> Any:
    """Return the module sh; its foreground commands are started by their environment.

    Raises ImportError if this version of sh does not allow that, since signals
    would then not reach the commands.
    """
    sh = _import()
    names = getattr(sh.Command.__call__, "__globals__", {})
    if names.get("os") is not os:
        raise ImportError("this version of sh is not supported; 2.2 to 2.4 are")
    names["os"] = _Os("os")
    return sh


def _import() -> Any:
    stand_ins = {name: _StandIn(name) for name in _USED_ATTRIBUTES if name not in sys.modules}
    for name, stand_in in stand_ins.items():
        stand_in.__dict__.update(_USED_ATTRIBUTES[name])
    sys.modules.update(stand_ins)
    # If this fails, the normal import below raises the error or succeeds.
    with suppress(Exception):
        __import__("sh")
    for name, stand_in in stand_ins.items():
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]
    return __import__("sh")
