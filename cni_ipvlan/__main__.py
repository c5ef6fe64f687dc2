"""The entry point: a runtime's call goes to ``entry``, everything else to the command line."""

import os
import sys

# Needs no import: importing json may be what fails.
_CANNOT_RUN = (
    b'{"cniVersion": "1.0.0", "code": 5, "msg": "ipvlan cannot run here: %s", "details": '
    b'"Python itself failed; its files are incomplete, or memory or open files are limited too '
    b'low: see ulimit -a."}\n'
)


def main() -> int:
    """Answer one call; return the exit status, or exit at once after a runtime's call."""
    _leave_unusable_directory()
    if len(sys.argv) == 1 and not (
        "_IPVLAN_COMPLETE" in os.environ and "CNI_COMMAND" not in os.environ
    ):
        import gc

        # A call is short: the end of the process frees its memory.
        gc.disable()
        os._exit(_serve())
    from cni_ipvlan.cli import program

    return program.main()


def _serve() -> int:
    """Serve a runtime's call; answer even if there is no memory to import the code for it."""
    try:
        from cni_ipvlan import entry

        return entry.serve()
    except Exception as error:
        if not os.environ.get("CNI_COMMAND"):
            raise
        os.write(1, _CANNOT_RUN % type(error).__name__.encode("ascii"))
        return 1


def _leave_unusable_directory() -> None:
    """Go to / if the current directory was deleted or is unreadable: commands complain."""
    try:
        os.chdir(os.getcwd())
    except OSError:
        os.chdir("/")


if __name__ == "__main__":
    sys.exit(main())
