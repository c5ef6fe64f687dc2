"""scripts/demo, from beginning to end."""

import re

import pytest
from installing import CHECKOUT, run

CHANGES = """\
<       "cniVersion": "0.3.1",
---
>       "cniVersion": "1.0.0",
16c16
<                   "address": "10.10.10.2/24",
---
>                   "address": "10.10.10.3/24",
"""


@pytest.fixture(scope="module")
def shown() -> str:
    """Return what the demo prints; all that it expects must hold."""
    done = run(CHECKOUT / "scripts/demo")
    assert done.returncode == 0, done.stdout
    assert re.search(r"^[0-9]+ checks passed$", done.stdout, re.MULTILINE)
    return done.stdout


def test_demo_says_first_on_which_kernel_it_runs(shown: str) -> None:
    assert re.match(r"This runs on (a kernel started|this machine's own kernel).*, Linux \d", shown)


def test_demo_shows_each_ping_with_its_output(shown: str) -> None:
    assert len(re.findall(r"^\$ ip netns exec \w+ ping ", shown, re.MULTILINE)) == 6
    assert len(re.findall(r"^64 bytes from 10\.10\.10\.", shown, re.MULTILINE)) == 6


def test_demo_shows_what_it_changes_in_the_example(shown: str) -> None:
    assert CHANGES in shown
    assert '>       "cniVersion": "0.4.0",' in shown


def test_demo_runs_the_documents_pod(shown: str) -> None:
    pod = (CHECKOUT / "examples/ipvpod0.yaml").read_text()
    assert f"$ cat examples/ipvpod0.yaml\n{pod}" in shown
    command = "/bin/bash -c -- 'while true; do sleep 300000; done;'"
    assert f"$ ip netns exec ipvpod0 {command} &" in shown
    assert "  default/ipvpod0  " in shown  # ipvlan show
