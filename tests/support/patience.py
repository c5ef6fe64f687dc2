"""How long tests wait for what should have happened: longer where a machine is busy."""

import os


def extend(seconds: float) -> float:
    """Return a limit of time times TESTS_PATIENCE, which scripts/test sets."""
    return seconds * float(os.environ.get("TESTS_PATIENCE") or 1)
