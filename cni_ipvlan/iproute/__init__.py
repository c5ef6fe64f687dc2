"""ip(8): build commands, run them, parse their output. Knows nothing of CNI."""


class IprouteError(Exception):
    """What goes wrong with a command: the root of this package's errors."""
