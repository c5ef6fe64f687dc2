"""The entrance: a runtime's call goes to the door, everything else to the command line."""

from __future__ import annotations

import os
import sys

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# Ready to print: to import json may be what can't be done.
_LAST_WORDS = (
    b'{"cniVersion": "1.0.0", "code": 5, "msg": "ipvlan cannot run here: %s", "details": '
    b'"Python itself failed, as it does where memory or files are limited: see ulimit -a."}\n'
)


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
        os._exit(_serve())
    from cni_ipvlan.cli import program

    return program.main()


def _serve() -> int:
    """Serve a runtime's call; answer it even where there is no memory to load what serves it."""
    try:
        from cni_ipvlan import entry

        return entry.serve()
    except Exception as error:
        if not os.environ.get("CNI_COMMAND"):
            raise
        os.write(1, _LAST_WORDS % type(error).__name__.encode("ascii"))
        return 1


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
