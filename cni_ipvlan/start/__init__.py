"""What makes a call start fast: a runtime waits for every import, some hundred times a day.

Python's own start takes 8 to 10 ms. Imported as usual, what a call needs of the standard library
and of sh would take 75 ms more; with the modules here it takes 9. ``sh``, ``json`` and ``signal``
are the real ones, imported without the modules that only their unused features need
(``stand_ins``). ``namedtuple`` has what is used of typing, without that module.
tests/unit/test_imports.py holds what may be imported; docs/performance.md has the figures.
"""

from __future__ import annotations

__all__ = ["signal"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
else:
    import _signal as signal  # the same functions and numbers, but no enum with their names
