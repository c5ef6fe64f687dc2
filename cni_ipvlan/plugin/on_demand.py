"""Modules that most calls don't need: each is imported when it is first used.

A runtime waits for every import.
"""

from __future__ import annotations

from cni_ipvlan.start.namedtuple import TYPE_CHECKING

__all__ = ["causes", "explain", "inventory"]

if TYPE_CHECKING:
    from cni_ipvlan.plugin import causes, explain, inventory
else:

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(name)
        return __import__(f"{__package__}.{name}", fromlist=(name,))
