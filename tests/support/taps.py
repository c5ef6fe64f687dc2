"""Taps on the system calls that the package makes for itself.

They are found by looking into every module: a call through ``os`` or ``fcntl``, a function that was
imported from them, and ``open``. So one that comes with a change of the plugin is tapped already.
"""

import fcntl
import importlib
import os
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any
from unittest import mock

import cni_ipvlan

Work = Callable[[], Any]
Observer = Callable[[str, Work], Any]

_SOURCES = (os, fcntl)
_ORIGINS = {"posix", "fcntl"}  # the modules in which functions of those say they are
_MODULES_NOT_IN_CALLS = ("cni_ipvlan.__main__", "cni_ipvlan.cli")
# Functions that fail only when misused, don't raise OSError, or make no system call.
_NEVER_REFUSED = {
    *("close", "dup2", "waitpid", "killpg", "_exit", "set_inheritable", "set_blocking"),
    *("access", "getpid", "geteuid", "uname"),
    *("fspath", "fsencode", "fsdecode", "getenv", "strerror", "waitstatus_to_exitcode"),
}


# How often a command's output is read depends on how it comes, so no two calls would be alike.
_TIMED_CALLS = {"cni_ipvlan.iproute.running": {"read"}}


def tap_system_calls(observe: Observer) -> ExitStack:
    """Pass each system call, as words and what does it, through ``observe`` within the context."""
    stack = ExitStack()
    for module in modules():
        for name, tap in _taps(module, observe):
            stack.enter_context(mock.patch.object(module, name, tap, create=name == "open"))
    return stack


@cache
def modules() -> tuple[ModuleType, ...]:
    """Return all modules that a CNI call may use; imported, or it would make calls untapped."""
    infos = pkgutil.walk_packages(cni_ipvlan.__path__, "cni_ipvlan.")
    names = [each.name for each in infos if not each.name.startswith(_MODULES_NOT_IN_CALLS)]
    return tuple(map(importlib.import_module, names))


def _taps(module: ModuleType, observe: Observer) -> Iterator[tuple[str, Any]]:
    yield "open", _tap(observe, "open", open)
    for name, value in list(vars(module).items()):
        if value in _SOURCES:
            yield (name, _TappedModule(value, observe, _TIMED_CALLS.get(module.__name__, set())))
        elif isinstance(value, BuiltinFunctionType) and value.__module__ in _ORIGINS:
            yield name, _tap(observe, value.__name__, value)


class _TappedModule:
    def __init__(self, module: ModuleType, observe: Observer, untapped: set[str]) -> None:
        self._module = module
        self._observe = observe
        self._untapped = untapped

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._module, name)
        is_function = isinstance(value, BuiltinFunctionType | FunctionType)
        if is_function and name not in self._untapped:
            return _tap(self._observe, name, value)
        return value


def _tap(observe: Observer, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    if name in _NEVER_REFUSED:
        return function

    def tap(*arguments: Any, **options: Any) -> Any:
        words = [name, *(each for each in arguments if isinstance(each, str))]
        return observe(" ".join(words), lambda: function(*arguments, **options))

    return tap
