"""The commands of the documents that are typed in a clone, one after the other."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from document_commands import BASH, PLACEHOLDER_VALUES, find_commands_of_tier
from installing import run

PIPLESS = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
RELEASE = f"""
git init --quiet
git config user.name tester
git config user.email tester@localhost
git add --all
git commit --quiet --message 'a release'
git tag {PLACEHOLDER_VALUES["TAG"]}
"""
# With other directories than this machine's where root writes.
SCRIPT = f"""
for path in /mnt /opt /usr/local/bin /usr/local/share /var/log; do
    mount -t tmpfs tmpfs "$path"
done
for line; do
    if ! {shlex.join(BASH)} "$line" </dev/null >/mnt/output 2>&1; then
        echo "failed: $line"
        cat /mnt/output
    fi
done
"""


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can install the plugin")
def test_commands_of_the_documents_succeed(fresh_checkout: Path, wheels: Path) -> None:
    environment = {**PIPLESS, "GIT_CONFIG_GLOBAL": os.devnull, "PIP_CONFIG_FILE": os.devnull}
    environment |= {"PIP_FIND_LINKS": str(wheels), "PIP_NO_INDEX": "1"}
    subprocess.run(["bash", "-ec", RELEASE], check=True, cwd=fresh_checkout, env=environment)
    (fresh_checkout / ".venv").symlink_to(sys.prefix)
    (fresh_checkout / PLACEHOLDER_VALUES["DIR"]).symlink_to(wheels)
    lines = [each.line for commands in find_commands_of_tier("node").values() for each in commands]
    script = ("unshare", "--mount", "bash", "-ec", SCRIPT, "bash")
    done = run(*script, *lines, cwd=fresh_checkout, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
