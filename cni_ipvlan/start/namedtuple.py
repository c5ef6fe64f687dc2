"""typing.NamedTuple, without the cost of importing typing.

A container runtime waits for every import of a call. Type checkers use typing's.
"""

from __future__ import annotations

from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any
    from typing import NamedTuple as NamedTuple  # noqa: PLC0414 - re-exported
else:

    class _Meta(type):
        def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> type:
            """Make a tuple of the annotated names, with the class's methods and defaults."""
            if not bases:
                return super().__new__(cls, name, bases, namespace)
            fields = list(namespace.pop("__annotations__"))
            defaults = [namespace.pop(field) for field in fields if field in namespace]
            made = namedtuple(  # noqa: PYI024 - that is the point
                name, fields, defaults=defaults, module=namespace["__module__"]
            )
            return type(name, (made,), {"__slots__": (), **namespace})

    class NamedTuple(metaclass=_Meta):
        """The base of a class whose annotations are the fields of a tuple."""
