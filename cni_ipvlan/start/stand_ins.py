"""Import a module without those of its imports that a call does not use.

A container runtime waits for every import of a call. While a module is imported, stand-ins
replace modules that would take long. A stand-in loads the real module when an attribute is
used that it does not have. docs/performance.md tells what that saves.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any


def load(name: str, stand_ins: Mapping[str, Mapping[str, object]]) -> Any:
    """Return the module ``name``, imported with stand-ins if that is possible.

    ``stand_ins`` are the attributes that it uses, while it is imported, of each module
    that is replaced. A module that is loaded already is not.
    """
    replaced = {each: _StandIn(each) for each in stand_ins if each not in sys.modules}
    for each, stand_in in replaced.items():
        stand_in.__dict__.update(stand_ins[each])
    sys.modules.update(replaced)
    # If this fails, the normal import below raises the error or succeeds.
    with suppress(Exception):
        __import__(name)
    for each, stand_in in replaced.items():
        if sys.modules.get(each) is stand_in:
            del sys.modules[each]
    return __import__(name)


class _StandIn(ModuleType):
    def __getattr__(self, name: str) -> object:
        """Load the real module for any other attribute."""
        if name.startswith("__"):
            raise AttributeError(name)  # asked by the import system itself
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        __import__(self.__name__)
        return getattr(sys.modules[self.__name__], name)


class _Pattern:
    """A regular expression that is compiled when it is used."""

    def __init__(self, *arguments: Any) -> None:
        self._arguments = arguments

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def method(*arguments: Any) -> Any:
            import re

            return getattr(re.compile(*self._arguments), name)(*arguments)

        return method


# The flags are those of CPython: SRE_FLAG_ASCII and so on, Modules/_sre/sre_constants.h.
RE = {"compile": _Pattern, "ASCII": 256, "DOTALL": 16, "MULTILINE": 8, "VERBOSE": 64}
