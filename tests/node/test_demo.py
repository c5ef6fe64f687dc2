"""scripts/demo, from beginning to end."""

import re

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


def test_demo_shows_what_it_does_and_all_that_it_expects_holds() -> None:
    done = run(CHECKOUT / "scripts/demo")
    text = done.stdout
    assert done.returncode == 0, text
    assert re.search(r"^[0-9]+ checks passed$", text, re.MULTILINE)
    assert re.match(r"This runs on (a kernel started|this machine's own kernel).*, Linux \d", text)
    assert len(re.findall(r"^\$ ip netns exec \w+ ping ", text, re.MULTILINE)) == 6
    assert len(re.findall(r"^64 bytes from 10\.10\.10\.", text, re.MULTILINE)) == 6
    assert CHANGES in text
    assert '>       "cniVersion": "0.4.0",' in text
    pod = (CHECKOUT / "examples/ipvpod0.yaml").read_text()
    assert f"$ cat examples/ipvpod0.yaml\n{pod}" in text
    command = "/bin/bash -c -- 'while true; do sleep 300000; done;'"
    assert f"$ ip netns exec ipvpod0 {command} &" in text
    assert "  default/ipvpod0  " in text  # ipvlan show
