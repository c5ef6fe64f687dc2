"""sh, without what it does only for uses that are not ours.

asyncio, logging, importlib.metadata and others cost more than the rest of a call
(docs/performance.md). While sh is imported, stand-ins take their place, which
become the real modules when something is asked of them that is not foreseen
here: so whatever sh does, it does right. A sh that can't be imported so is
imported as usual.

sh starts a command by fork, which copies the page tables of a Python process;
posix_spawn does not. So where sh asks os for spawnve, the environment that sh was
given is asked to spawn. Only sh's foreground mode is used, always with ``_env``.
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
    """Stands in for names of typing in annotations, which nobody reads."""

    def __class_getitem__(cls, _item: object) -> type:
        return cls


# What sh asks of each module while it is being imported, versions 2.2 to 2.4.
_FORESEEN: dict[str, dict[str, object]] = {
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
        """Become the real module for whatever was not foreseen."""
        if name.startswith("__"):
            raise AttributeError(name)  # the import system's own questions
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        __import__(self.__name__)
        return getattr(sys.modules[self.__name__], name)


class Environment(dict[str, str]):
    """A command's environment, which sh hands through unchanged to where it is started."""

    def spawn(self, program: str, argv: list[str]) -> int:
        """Run the command to its end; return its exit status, or minus the signal's number."""
        raise NotImplementedError


class _Os(ModuleType):
    """The module os, but for spawnve."""

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)

    @staticmethod
    def spawnve(_mode: int, program: str, argv: list[str], environment: Environment) -> int:
        """Start a program as its environment knows how."""
        return environment.spawn(program, argv)


def load() -> Any:
    """Return the module sh, whose foreground commands are started by their Environment.

    Raises ImportError when this sh can't be used so: without it, no signal would
    reach what it starts.
    """
    sh = _import()
    names = getattr(sh.Command.__call__, "__globals__", {})
    if not isinstance(names.get("os"), _Os):
        if names.get("os") is not os:
            raise ImportError("this version of sh is not supported; 2.2 to 2.4 are")
        names["os"] = _Os("os")
    return sh


def _import() -> Any:
    stand_ins = {name: _StandIn(name) for name in _FORESEEN if name not in sys.modules}
    for name, stand_in in stand_ins.items():
        stand_in.__dict__.update(_FORESEEN[name])
    sys.modules.update(stand_ins)
    # Whatever goes wrong so, the ordinary import decides.
    with suppress(Exception):
        __import__("sh")
    for name, stand_in in stand_ins.items():
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]
    return __import__("sh")
