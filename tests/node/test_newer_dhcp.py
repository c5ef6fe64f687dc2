"""Tests of tests/e2e/test_dhcp.py, with the IPAM plugin dhcp of Debian sid.

On demand, with NEWER=dhcp: what is in sid may change any day. Its package comes from where this
machine gets its own, and is not installed.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import roots
from installing import CHECKOUT, run
from runtime import PLUGINS

SUITE, PACKAGE = "sid", "containernetworking-plugins"
# Those that depend on how the daemon asks, renews and releases.
KEYWORDS = "own_leases or namespace_was_removed or without_tc_the or without_tc_a"
# Mounts of a lab end with it.
IN_LAB = 'mount --bind "$1" "$2"; shift 2; exec "$@"'


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Have the newer plugins in a directory."""
    directory = tmp_path_factory.mktemp("plugins") / "root"
    options = ("--variant=extract", f"--include={PACKAGE}")
    try:
        with roots.make_root(directory, SUITE, *options) as root:
            yield root / PLUGINS.lstrip("/")
    except roots.RootError as error:
        pytest.skip(str(error))


@pytest.mark.skipif(os.environ.get("NEWER") != "dhcp", reason="on demand, with NEWER=dhcp")
@pytest.mark.timeout(600)
def test_addresses_from_dhcp_with_newer_plugins(plugins: Path) -> None:
    tests = ("tests/e2e/test_dhcp.py", "-k", KEYWORDS)
    pytest_ = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)
    lab = ("scripts/lab-kernel", "sh", "-ec", IN_LAB, "sh", str(plugins), PLUGINS)
    done = run(*lab, *pytest_, cwd=CHECKOUT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
