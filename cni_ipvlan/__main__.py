"""The entrance: a runtime's call goes to the door, everything else to the command line."""

from __future__ import annotations

import os
import sys

# Ready to print: to import json may be what can't be done.
_LAST_WORDS = (
    b'{"cniVersion": "1.0.0", "code": 5, "msg": "ipvlan cannot run here: %s", "details": '
    b'"Python itself failed, as it does where memory or files are limited: see ulimit -a."}\n'
)


def main() -> int:
    """Answer one call; return the exit status, or end with it where nothing is left to do."""
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


def _leave_unusable_directory() -> None:
    """Go where one can come back to, as sh does around a command: one may be deleted or closed."""
    try:
        os.chdir(os.getcwd())
    except OSError:
        os.chdir("/")


if __name__ == "__main__":
    sys.exit(main())
