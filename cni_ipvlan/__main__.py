"""The entrance: a runtime's call goes to the door, everything else to the command line."""

from __future__ import annotations

import os
import sys

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def main() -> int:
    """Answer one call; return the exit status, or end with it where nothing is left to do."""
    _find_packages()
    _leave_unusable_directory()
    if len(sys.argv) == 1 and not (
        "_IPVLAN_COMPLETE" in os.environ and "CNI_COMMAND" not in os.environ
    ):
        import gc

        # A call is short: what it leaves, the end of the process collects.
        gc.disable()
        from cni_ipvlan import door

        os._exit(door.serve())
    from cni_ipvlan.cli import program

    return program.main()


def _find_packages() -> None:
    """Make this package and its dependencies importable, without site where that is possible.

    The interpreter is started without site-packages (-S): reading them costs
    more than finding what is needed right here, or where the executable says.
    """
    if _ROOT not in sys.path:
        sys.path.append(_ROOT)
    if not all(_is_importable(name) for name in ("sh", "jsonschema")):
        import site

        site.main()


def _leave_unusable_directory() -> None:
    """Go where one can come back to, as sh does around a command: one may be deleted or closed."""
    try:
        os.chdir(os.getcwd())
    except OSError:
        os.chdir("/")


def _is_importable(name: str) -> bool:
    places = (os.path.join(place, name) for place in sys.path)
    return any(os.path.exists(place) or os.path.exists(place + ".py") for place in places)


if __name__ == "__main__":
    sys.exit(main())
