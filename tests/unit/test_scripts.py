"""The scripts of this checkout: what they are called with wrongly, and who may call them."""

import os
import re
from pathlib import Path

import pytest
import yaml
from installing import CHECKOUT, needs_users, run

SCRIPTS = CHECKOUT / "scripts"
HELPED = (
    *("build-deb", "demo", "install-node", "lab-box", "lab-check"),
    *("lab-kernel", "provision-network", "provision-node", "test"),
)
NOT_ROOTS = ("install-node", "lab-box", "provision-network --interface lo", "provision-node")
# For root another user, who may not be able to read these files; for others one without sudo.
NOBODY = ("setpriv", "--no-new-privs") if os.geteuid() else ("unshare", "--user")
# What a script prints for a call.
INVALID = {
    "no option --colour": [
        *("build-bundle --colour", "build-deb --colour", "build-image --colour", "demo --colour"),
        *("install-node --colour", "lab-box --colour"),
        *("lab-check --colour", "lab-kernel --colour", "lib/image-entry --colour"),
        *("provision-network --colour", "provision-node --colour", "test --colour"),
    ],
    # As args: [--force --once] in a manifest. Nothing is to be installed in any case: hence foo.
    "no option --force --": [
        *("install-node '--force --check' foo", "lib/image-entry '--force --once' foo")
    ],
    "unrecognized arguments: --foo": ["bench --foo"],
    "needs a value": [
        *("build-bundle --output", "build-deb --output", "build-image --output"),
        *("install-node --prefix=", "install-node --wheels"),
        *("provision-network --interface", "provision-node --packages"),
    ],
    "no argument foo": [
        *("build-bundle foo", "build-image foo", "demo foo", "install-node foo"),
        *("lab-check --miniature foo", "lib/image-entry foo"),
        "provision-network --interface e foo",
    ],
    "give one tier of": ["test foo", "test lint unit"],
    "not a directory": [
        *("build-bundle --output /etc/passwd", "build-deb --output /etc/passwd"),
        *("build-image --output /etc/passwd", "install-node --prefix /etc/passwd"),
    ],
    "not the name of a bundle": ["build-image --bundle /etc/passwd"],
    "give one of": ["build-bundle --architecture mips"],
    "no such file": ["build-image --bundle /nonexistent"],
    "absolute": [
        *("install-node --bin-dir here", "install-node --command-dir here"),
        *("install-node --prefix here", "lib/image-entry --prefix here"),
        "lib/image-entry --health --bin-dir here",
    ],
    "below it": ["install-node --prefix /"],
    "can be part of it": ["install-node --prefix '/with space'"],
    "must not be below": ["install-node --prefix /a --bin-dir /a/bin"],
    "no wheels": [
        *("install-node --wheels / --system-packages", "install-node --wheels /sys"),
        "install-node --wheels /none",
    ],
    "keep or remove": ["lib/image-entry --on-stop never"],
    "--interface must be given": ["provision-network"],
    "no packages": ["provision-node --packages .", "provision-node --packages /none"],
}


@pytest.mark.parametrize(
    ("command", "words"), [(each, words) for words, calls in INVALID.items() for each in calls]
)
def test_wrong_call_is_one_sentence(command: str, words: str) -> None:
    done = run("bash", "-c", f"exec '{SCRIPTS}'/{command}")
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_packages_without_wheels_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.deb").touch()
    done = run(str(SCRIPTS / "provision-node"), "--packages", str(tmp_path))
    assert done.returncode == 2
    assert done.stderr == (
        f"provision-node: --packages {tmp_path}: there are no wheels (*.whl) in it\n"
    )


@needs_users
@pytest.mark.parametrize("command", NOT_ROOTS)
def test_others_than_root_are_refused(command: str) -> None:
    done = run(*NOBODY, "bash", "-c", f"exec '{SCRIPTS}'/{command}")
    assert done.returncode == 1
    assert "only root" in done.stderr


@pytest.mark.parametrize("script", HELPED)
def test_help_describes_the_usage(script: str) -> None:
    done = run(str(SCRIPTS / script), "--help")
    assert run(str(SCRIPTS / script), "-h").stdout == done.stdout
    assert done.stdout.startswith(f"Usage: scripts/{script}")


def test_what_is_checked_before_a_commit_is_what_lint_checks() -> None:
    lint = (SCRIPTS / "lib/lint").read_text()
    checks = re.findall(r"^ +check '?([\w -]+?)'? [\"s]", lint, re.MULTILINE)
    config = yaml.safe_load((CHECKOUT / ".pre-commit-config.yaml").read_text())
    assert [each["name"] for each in config["repos"][0]["hooks"]] == checks


def test_each_word_of_the_newcomers_scenario_names_a_test() -> None:
    """That scenario runs on demand only, and would be the last to know."""
    scenario = (CHECKOUT / "tests/node/newcomer-scenario").read_text()
    selections = re.findall(r"scripts/test (\w+) -q -k '(.+?)'", scenario)
    assert len(selections) > 3
    for tier, words in selections:
        files = [*(CHECKOUT / "tests" / tier).rglob("test_*.py")]
        names = [each.stem for each in files]
        for file in files:
            names += re.findall("def (test_.+?)[(]", file.read_text())
        for word in words.split(" or "):
            assert any(word in name for name in names), (tier, word)
