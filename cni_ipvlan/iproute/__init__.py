"""ip(8): build commands, run them, parse their output."""


class IprouteError(Exception):
    """The base class of this package's errors."""
