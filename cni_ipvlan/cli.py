"""The command line for people."""

import sys


def main() -> int:
    """Run the command line; return the exit status."""
    print("ipvlan: the command line is not there yet", file=sys.stderr)
    return 2
