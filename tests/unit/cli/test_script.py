"""cli.dry_run: the changes of a dry run as a shell would run them."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from doubles import write_program
from hypothesis import example, given, settings
from hypothesis import strategies as st
from shells import paste_script

from cni_ipvlan.cli.dry_run import script
from cni_ipvlan.cli.dry_run.predict import Prediction
from cni_ipvlan.iproute import machine
from cni_ipvlan.iproute.commands import OPTIONAL, Command
from cni_ipvlan.iproute.dry_run import Plan
from cni_ipvlan.iproute.machine import Module

ADD = Command(("ip", "link", "add", "link", "eth0", "name", "x", "type", "ipvlan"), "create it")
RESULT = {"ips": ["it's"]}

# Any argument that a process may be given.
ARGUMENTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@pytest.fixture(autouse=True)
def able(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = Module(machine.LOADED, "it has ipvlan")
    monkeypatch.setattr(machine, "ipvlan_module", lambda: loaded)
    monkeypatch.setattr(machine, "missing_capabilities", list)


def shell(*changes: Command, verb: str = "ADD", assumptions: tuple[str, ...] = ()) -> str:
    plan = Plan(harmless=("static",))
    plan.changes += changes
    plan.assumptions += assumptions
    return script.render(Prediction({"CNI_COMMAND": verb, "CNI_IFNAME": "net1"}, plan, RESULT))


def steps(text: str) -> list[str]:
    lines = text.splitlines()
    return lines[lines.index("trap 'exit 1' HUP INT PIPE TERM") + 1 : -3]


def run(text: str) -> str:
    """Return what the steps print; a result follows it."""
    done = subprocess.run(["sh"], input=text, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.removesuffix(f"{json.dumps(RESULT)}\n")


def test_bundles_script_uses_its_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tmp_path / "it's"
    write_program(bundle / "programs/ip", "#!/bin/sh\necho the bundle\\'s")
    monkeypatch.setattr("sys.prefix", str(bundle))
    text = shell(Command(("sh", "-c", "ip")), verb="DEL")
    assert run(text + '\nexec echo "$PATH"\n') == f"the bundle's\n{os.environ['PATH']}\n"


def test_each_step_is_a_line_with_its_purpose_below_what_is_assumed() -> None:
    text = shell(Command(("true",), "create \x1b]0;x\x07\nrm -rf\r\u2028x"))
    assert steps(text) == ["true  # create ]0;x rm -rf x"]
    text = shell(ADD)
    assert text.startswith("# dry run of ADD: nothing was changed; interface net1\n(\n")
    assert steps(text) == ["ip link add link eth0 name x type ipvlan  # create it"]
    assert text.endswith("\n)")
    assert shell().splitlines()[1:] == ["# there is nothing to do"]
    assert shell(ADD, assumptions=("0", "1")).splitlines()[1:3] == ["# assumed: 0", "# assumed: 1"]


@settings(max_examples=40)
@given(st.lists(ARGUMENTS, min_size=1, max_size=3), ARGUMENTS)
@example(["a b", "it's", "$HOME", "`id`", "a\\", "#", "-x", "*", "~", "!!", "ü", "\x1b[31m"], "x")
def test_a_shell_gets_any_argument_as_it_is(words: list[str], purpose: str) -> None:
    text = shell(Command(("printf", r"%s\0", *words), purpose))
    done = subprocess.run(["sh"], input=text.encode(), capture_output=True, check=True)
    assert all(line.isprintable() for line in text.split("\n"))
    assert done.stdout.decode().split("\0")[:-1] == words


def test_input_and_parameters_reach_the_command(tmp_path: Path) -> None:
    script = f"#!/bin/sh\ncd '{tmp_path}'; env >env; cat >stdin; echo noise\n"
    plugin = write_program(tmp_path / "plugin", script)
    stdin = json.dumps({"a": ["it's\n$x", 1]}, indent=4).encode()
    variables = {"CNI_ARGS": "A=1;B=it's", "CNI_X": ""}
    step = shell(Command((str(plugin),), "ask it", stdin=stdin, environment=variables))
    done = subprocess.run(["sh"], input=step, capture_output=True, text=True, check=True)
    assert (json.loads(done.stdout), done.stderr) == (RESULT, "noise\n")
    assert json.loads((tmp_path / "stdin").read_text()) == json.loads(stdin)
    assert {"CNI_ARGS=A=1;B=it's", "CNI_X="} <= set((tmp_path / "env").read_text().splitlines())


@pytest.mark.parametrize(("program", "length"), [("bash", 30000), ("dash", 3000)])
def test_any_input_survives_an_interactive_shell(tmp_path: Path, program: str, length: int) -> None:
    document = {"long": ["!echo !! it's\\n$x"] * (length // 20)}
    step = Command(("tee", str(tmp_path / "stdin")), "keep it", stdin=json.dumps(document).encode())
    assert paste_script(program, shell(step, verb="DEL"))[0] == 0
    assert json.loads((tmp_path / "stdin").read_text()) == document


def test_a_step_that_may_fail_or_was_run_already_does_not_end_the_shell() -> None:
    failing = shell(Command(("false",), "fail"), Command(("echo", "on"), "go on"), verb="DEL")
    done = subprocess.run(["sh"], input=failing, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "on\n")  # all steps of other verbs are tried
    may_fail = Command(("false",), "try it", accept=OPTIONAL)
    was_run = Command(("/cni/static",), "ask static")
    text = shell(was_run, may_fail, Command(("echo", "on"), "go on"))
    assert steps(text)[0] == "# already run, since it changes nothing: ask static"
    assert run(text) == "on\n"
