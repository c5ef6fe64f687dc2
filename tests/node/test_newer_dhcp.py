"""Tests of tests/e2e/test_dhcp.py, with the IPAM plugin dhcp of Debian sid.

On demand, with NEWER=dhcp: what is in sid may change any day. Its package comes from where this
machine gets its own, and is not installed.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import roots
from runtime import PLUGINS

CHECKOUT = Path(__file__).resolve().parents[2]
SUITE, PACKAGE = "sid", "containernetworking-plugins"
# Those that depend on how the daemon asks, renews and releases.
CHOSEN = "own_leases or namespace_was_removed or without_tc_the or without_tc_a"
# Mounts of a lab end with it.
IN_LAB = 'mount --bind "$1" "$2"; shift 2; exec "$@"'


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Have the newer plugins in a directory."""
    place = tmp_path_factory.mktemp("plugins")
    for name in ("lists/partial", "cache/archives/partial"):
        (place / name).mkdir(parents=True)
    lines = [line for line in roots.sources(SUITE) if line.split()[2] == SUITE]
    if roots.OWN == SUITE or not lines:
        pytest.skip(f"this machine's packages are not those of a Debian older than {SUITE}")
    (place / "sources.list").write_text("\n".join([*lines, ""]))
    (place / "apt.conf").write_text(
        f'Dir::State::lists "{place}/lists"; Dir::Cache "{place}/cache";\n'
        f'Dir::Etc::sourcelist "{place}/sources.list"; Dir::Etc::sourceparts "-";\n'
        'APT::Sandbox::User ""; APT::Update::Error-Mode "any";\n' + "\n".join(roots.apt_settings())
    )
    apt = ("env", f"APT_CONFIG={place}/apt.conf", "apt-get", "-q")
    for words in (("update",), ("download", PACKAGE)):
        done = subprocess.run(
            [*apt, *words], cwd=place, capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.fail(f"no package {PACKAGE} of {SUITE}: {done.stderr}")
    package = next(place.glob("*.deb"))
    subprocess.run(("dpkg-deb", "--extract", package, place / "root"), check=True)
    return place / "root" / PLUGINS.lstrip("/")


@pytest.mark.skipif(os.environ.get("NEWER") != "dhcp", reason="on demand, with NEWER=dhcp")
@pytest.mark.timeout(600)
def test_addresses_from_dhcp_with_newer_plugins(plugins: Path) -> None:
    tests = ("tests/e2e/test_dhcp.py", "-k", CHOSEN)
    pytest_ = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)
    lab = ("scripts/lab-kernel", "sh", "-ec", IN_LAB, "sh", str(plugins), PLUGINS)
    done = subprocess.run(
        [*lab, *pytest_], cwd=CHECKOUT, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
