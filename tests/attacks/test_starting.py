"""A runtime gets one answer even if Python can't start, or dies before it can answer.

With fewer than 11 files, dash (sh on Debian) gives up before it reads a line of the launcher;
so does the loader of shared libraries with very little memory. Then nothing of this project runs.
"""

import json
import resource
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from executable import Executable
from runtime import call_environment, network, stdin_of
from sampling import sample

MAIN = Path(sysconfig.get_paths()["purelib"]) / "cni_ipvlan" / "__main__.py"
MIB = 1 << 20
# The shells that may run the launcher, and how many open files each needs to begin.
SHELLS = {"dash": 11, "bash --posix": 4, "busybox sh": 11}
VERBS = {
    "ADD": (call_environment("ADD", "/run/netns/none"), b"{"),
    "VERSION": ({"CNI_COMMAND": "VERSION"}, b'{"cniVersion": "1.0.0"}'),
}


INSTALLED_SHELLS = [each for each in SHELLS if each != "dash" and shutil.which(each.split()[0])]


@pytest.fixture(params=["dash", *INSTALLED_SHELLS])
def shell(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.mark.parametrize("verb", VERBS)
def test_few_files_get_one_answer(ipvlan: Executable, shell: str, verb: str) -> None:
    for number in sample(range(SHELLS[shell], 25), 3):
        call_with_limit([*shell.split(), ipvlan.path], verb, resource.RLIMIT_NOFILE, number)


@pytest.mark.parametrize("verb", list(VERBS))
@pytest.mark.parametrize("limit", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_little_memory_is_answered(ipvlan: Executable, shell: str, verb: str, limit: str) -> None:
    for size in sample([*range(6, 40, 2), 80], 2):
        command = [*shell.split(), ipvlan.path]
        document = call_with_limit(command, verb, getattr(resource, limit), size * MIB)
        if size < 16:
            assert document["code"] == 5
            assert str(size * MIB) in document["msg"]


@pytest.mark.parametrize("limit", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_python_that_runs_out_of_memory_answers_yet(limit: str) -> None:
    """The launcher refuses so little memory, but another Python may need more than it asks for."""
    python = [sys.executable, "-I", "-X", "utf8", str(MAIN)]
    # Explaining an invalid option takes more memory than anything else.
    stdin = stdin_of(network(mtu="x"))
    all_sizes = {"RLIMIT_AS": range(18, 40), "RLIMIT_DATA": range(6, 24)}[limit]
    sizes = [all_sizes[0], *sample(all_sizes[1:-1], 1), all_sizes[-1]]
    kind = getattr(resource, limit)
    codes = [call_with_limit(python, "ADD", kind, size * MIB, stdin)["code"] for size in sizes]
    assert (codes[0], codes[-1]) == (5, 7)


def test_a_directory_as_standard_input_is_reported(ipvlan: Executable, shell: str) -> None:
    script = ("/bin/sh", "-c", f'exec {shell} "$0" </', ipvlan.path)
    path = {"PATH": "/usr/bin:/bin"}
    for verb in ("ADD", "DEL", "VERSION"):
        environment = {**path, **call_environment(verb, "/run/netns/none")}
        done = subprocess.run(script, env=environment, capture_output=True, check=False)
        document = json.loads(done.stdout)
        assert (done.returncode, document["code"], done.stderr) == (1, 5, b"")
        assert "directory" in document["msg"]
    done = subprocess.run(script, env=path, capture_output=True, check=False)  # as people call it
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"standard input is a directory\n" in done.stderr


def call_with_limit(
    command: list[str], verb: str, limit: int, value: int, stdin: bytes | None = None
) -> dict[str, Any]:
    """Call within a limit; return the one document, which is an error or VERSION's answer."""
    environment, default_stdin = VERBS[verb]
    done = subprocess.run(
        command,
        input=default_stdin if stdin is None else stdin,
        env=environment,
        preexec_fn=lambda: resource.setrlimit(limit, (value, value)),
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.stdout, (value, done)
    document: dict[str, Any] = json.loads(done.stdout)
    assert (done.returncode, "code" in document) in {(1, True), (0, False)}, (value, done)
    assert verb == "VERSION" or done.returncode == 1
    return document
