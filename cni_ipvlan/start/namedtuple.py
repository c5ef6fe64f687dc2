"""NamedTuple and Any, without the cost of importing typing, and of a constructor for each class.

A container runtime waits for every import of a call. collections.namedtuple, which typing uses,
compiles a constructor for each class, of which an ADD has 27. Here all share one. Type checkers
use typing's; tests/unit/test_imports.py compares the two.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any as Any  # noqa: PLC0414 - re-exported, as the next
    from typing import NamedTuple as NamedTuple  # noqa: PLC0414
else:
    from _collections import _tuplegetter  # with which namedtuple makes its attributes

    Any = None  # only named in annotations, which are not evaluated

    class NamedTuple(tuple):
        """The base of a class whose annotations are the fields of a tuple."""

        __slots__ = ()
        _fields: tuple[str, ...] = ()
        _defaults: dict[str, Any] = {}  # noqa: RUF012 - each class has its own

        def __init_subclass__(cls) -> None:
            """Make attributes of the fields, and take their values as defaults."""
            cls._fields = tuple(cls.__annotations__)
            cls._defaults = {each: vars(cls)[each] for each in cls._fields if each in vars(cls)}
            for number, each in enumerate(cls._fields):
                setattr(cls, each, _tuplegetter(number, ""))

        def __new__(cls, *values: Any, **named: Any) -> NamedTuple:
            """Return a tuple of these values, and of defaults; raises TypeError."""
            missing = cls._fields[len(values) :]
            try:
                if missing:
                    defaults = cls._defaults | named if named else cls._defaults
                    values += tuple([defaults[each] for each in missing])
                if named.keys() <= {*missing} and len(values) == len(cls._fields):
                    return tuple.__new__(cls, values)
            except KeyError as error:
                raise TypeError(f"{cls.__name__} lacks {error}") from None
            raise TypeError(f"{cls.__name__} has the fields {', '.join(cls._fields)}")

        def __repr__(self) -> str:
            """Return the fields with their values."""
            values = (f"{name}={value!r}" for name, value in self._asdict().items())
            return f"{type(self).__name__}({', '.join(values)})"

        def _asdict(self) -> dict[str, Any]:
            return dict(zip(self._fields, self, strict=True))

        def _replace(self, **changes: Any) -> NamedTuple:
            values = [changes.pop(*pair) for pair in self._asdict().items()]
            if changes:
                raise TypeError(f"{type(self).__name__} has no {', '.join(changes)}")
            return tuple.__new__(type(self), values)
