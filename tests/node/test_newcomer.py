"""What README.md tells newcomers, done by one: on a small machine, without being root, to the end.

On demand: ROOTS names the suites of these machines; with --long, it is this machine's if it names
none, and all of scripts/test runs there, rather than a few tests of each tier.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import roots
import sampling
from cloning import commit, git
from installing import copy_everything, run

from cni_ipvlan import __version__

HERE = Path(__file__).parent
MINIMAL = "--include=ca-certificates,git,sudo"
UPSTREAM = "srv/cni-ipvlan"

pytestmark = pytest.mark.timeout(0 if sampling.is_long() else 3600)

TESTED = """\
kernel: some passed, 0 failed
e2e: some passed, 0 failed
faults: some passed, 0 failed
attacks: some passed, 0 failed
"""
EXPECTED = """\
home: 700 newcomer
unit: some passed, 0 failed
demo: some checks passed
{tested}\
temporary files:
files of others in the clone:
version: ipvlan, version {version}
doctor: 0
ADD: 10.1.1.2/24
CHECK: passed
DEL: 0 left
version: ipvlan, version 99.0, of this commit
logs:
different:
new at home: .cache
"""


@pytest.mark.skipif(
    not sampling.is_long() and "ROOTS" not in os.environ, reason="on demand, with --long or ROOTS"
)
@pytest.mark.skipif(os.geteuid() != 0, reason="making a root needs root")
def test_newcomer_tries_installs_upgrades_and_removes_it(tmp_path: Path) -> None:
    lacking = []
    for suite in os.environ.get("ROOTS", roots.SUITE).split():
        try:
            with roots.make_root(tmp_path / suite, suite, MINIMAL) as root:
                tell(root)
        except roots.RootError as error:
            if "ROOTS" not in os.environ:
                raise
            lacking.append(str(error))
    if lacking:
        pytest.skip("; ".join(lacking))


def tell(root: Path) -> None:
    roots.add_newcomer(root)
    copy_everything(root / UPSTREAM)
    git(root / UPSTREAM, "init", "--quiet")
    commit(root / UPSTREAM)
    subprocess.run(("chroot", root, "chown", "-R", f"{roots.USER}:", f"/{UPSTREAM}"), check=True)
    for name in ("newcomer-scenario", "scenario.sh"):
        shutil.copy(HERE / name, root / "srv")
    argv = roots.make_newcomer_argv(root, "/srv/newcomer-scenario", *["all"] * sampling.is_long())
    done = run(*argv)
    output = re.sub(r"\b[1-9]\d* (?=passed|checks)", "some ", done.stdout)
    output = re.sub(" +$", "", output, flags=re.MULTILINE)
    tested = "test: some passed, 0 failed\n" if sampling.is_long() else TESTED
    expected = EXPECTED.format(tested=tested, version=__version__)
    assert (output, done.returncode) == (expected, 0), f"{done.stdout}\n{done.stderr}"
