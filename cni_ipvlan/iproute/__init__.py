"""ip(8) of iproute2: what to say to it and how to read its answers. Knows nothing of CNI."""


class IprouteError(Exception):
    """What goes wrong with a command: the root of this package's errors."""
