"""The entrance: a runtime's call goes to the door, everything else to the command line."""

from __future__ import annotations

import os
import sys

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def main() -> int:
    """Answer one call; return the exit status."""
    _find_packages()
    if len(sys.argv) == 1:
        from cni_ipvlan import door

        return door.serve()
    from cni_ipvlan import cli

    return cli.main()


def _find_packages() -> None:
    """Make this package and its dependencies importable, without site where that is possible.

    The interpreter is started without site-packages (-S): reading them costs
    more than finding what is needed right here.
    """
    if _ROOT not in sys.path:
        sys.path.append(_ROOT)
    beside = all(
        os.path.exists(os.path.join(_ROOT, name))
        or os.path.exists(os.path.join(_ROOT, name + ".py"))
        for name in ("sh", "jsonschema")
    )
    if not beside:
        import site

        site.main()


if __name__ == "__main__":
    sys.exit(main())
