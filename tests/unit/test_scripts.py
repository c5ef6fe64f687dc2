"""The scripts of this checkout: what they are called with wrongly, and who may call them."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
HELPED = (
    *("build-deb", "demo", "endurance", "fuzz", "install-node", "lab-box", "lab-check"),
    *("lab-kernel", "provision-network", "provision-node", "test"),
)
NOT_ROOTS = ("install-node", "lab-box", "provision-network --interface lo", "provision-node")
# Nobody: another user for root, who may not be able to read these files.
NOBODY = () if os.geteuid() else ("unshare", "--user")


OPTIONS = (
    *("build-bundle", "build-deb", "build-image", "install-node", "lab-box", "lab-check"),
    *("lib/image-entry", "provision-network", "provision-node"),
)
VALUES = (
    *("build-bundle --output", "build-deb --output", "build-image --output"),
    *("install-node --prefix=", "install-node --wheels", "lab-box --name"),
    *("provision-network --interface", "provision-node --packages"),
)
BUILT = ("build-bundle", "build-deb", "build-image")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        *((f"{script} --colour", "no option --colour") for script in OPTIONS),
        *((f"{script} --output /etc/passwd", "not a directory") for script in BUILT),
        *((option, "needs a value") for option in VALUES),
        *(
            (f"{script} now", "no argument now")
            for script in ("build-bundle", "build-image", "lib/image-entry")
        ),
        ("bench --foo", "unrecognized arguments: --foo"),
        ("build-image --bundle /etc/passwd", "no bundle for this machine"),
        ("build-image --bundle /nonexistent", "no such file"),
        ("demo --foo", "no option --foo"),
        ("demo foo", "no argument foo"),
        ("endurance --foo", "no option --foo"),
        ("endurance ten", "give a whole number"),
        ("fuzz --foo", "no option --foo"),
        ("fuzz foo", "give a whole number"),
        ("install-node --bin-dir relative", "absolute"),
        ("install-node --command-dir relative", "absolute"),
        ("install-node --prefix /", "below it"),
        ("install-node --prefix '/with space'", "can be part of it"),
        ("install-node --prefix /a --bin-dir /a/bin", "must not be below"),
        ("install-node --prefix /etc/passwd", "not a directory"),
        ("install-node --prefix relative", "absolute"),
        ("install-node --wheels / --system-packages", "no wheels"),
        ("install-node --wheels /nonexistent", "no such directory"),
        ("install-node --wheels /proc/self/task", "no wheels"),
        ("install-node file", "no argument file"),
        ("lab-box --name 'a b'", "give NAME or OWNER/NAME"),
        ("lab-box --size big", "give a size"),
        ("lab-box --suite ../x", "name of a Debian release"),
        ("lab-check --miniature again", "no argument again"),
        ("lab-kernel --foo", "no option --foo"),
        ("lib/image-entry --health --bin-dir here", "absolute path"),
        ("lib/image-entry --on-stop never", "keep or remove"),
        ("lib/image-entry --prefix here", "absolute path"),
        ("provision-network", "--interface must be given"),
        ("provision-network --interface e --address 10.0.0.1", "ADDRESS/LENGTH"),
        ("provision-network --interface e --address 10.0.0.256/8", "ADDRESS/LENGTH"),
        ("provision-network --interface e --name a/b", "1 to 15 letters"),
        ("provision-network --interface e --route 10.0.0.0/8", "ADDRESS/LENGTH=ADDRESS"),
        ("provision-network --interface e --route 10.0.0.0/8=10.300", "ADDRESS/LENGTH=ADDRESS"),
        ("provision-network --interface e eth0", "no argument eth0"),
        ("provision-node --master 'a b'", "1 to 15 letters"),
        ("provision-node --packages .", "no packages"),
        ("provision-node --packages /nonexistent", "no such directory"),
        ("provision-node --range 10.0.0.1", "FIRST-LAST"),
        ("provision-node --subnet ten", "ADDRESS/LENGTH"),
        ("test --foo", "no option --foo"),
        ("test foo", "no part foo"),
    ],
)
def test_wrong_call_is_one_sentence(command: str, words: str) -> None:
    done = run("bash", "-c", f"exec {SCRIPTS}/{command}")
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


@pytest.mark.parametrize("command", NOT_ROOTS)
def test_others_than_root_are_refused(command: str) -> None:
    done = run(*NOBODY, "bash", "-c", f"exec {SCRIPTS}/{command}")
    assert done.returncode == 1
    assert "only root" in done.stderr


@pytest.mark.parametrize("script", HELPED)
def test_help_describes_the_usage(script: str) -> None:
    done = run(str(SCRIPTS / script), "--help")
    assert run(str(SCRIPTS / script), "-h").stdout == done.stdout
    assert done.stdout.startswith(f"Usage: scripts/{script}")


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv, stdin=subprocess.DEVNULL, cwd="/", capture_output=True, text=True, check=False
    )
