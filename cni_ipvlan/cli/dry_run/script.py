"""A dry run as a script for sh: one block, to be pasted into a shell or piped into one.

It runs in a subshell, so that nothing of it stays in a person's shell. That of ADD has beside
each step what undoes it, which is done in reverse order if a step fails, or on ^C.
"""

import json
from collections.abc import Iterator, Mapping
from shlex import join, quote

from cni_ipvlan.cli.dry_run import answer
from cni_ipvlan.cli.dry_run.predict import Prediction, assumptions, is_allocation
from cni_ipvlan.cli.output import styled
from cni_ipvlan.iproute.commands import ABSENT, OPTIONAL, Command
from cni_ipvlan.iproute.dry_run import ADD_LINK
from cni_ipvlan.iproute.runner import own_programs

_SHOWN_ASSUMPTIONS = 10
_ABOUT = {"container": "CNI_CONTAINERID", "interface": "CNI_IFNAME", "namespace": "CNI_NETNS"}
_LONG = 1000  # characters; a terminal without line editing cuts lines at 4096

# What is not there needs no undo.
_REMOVE = """eval "$remove" 2>&1 | grep -v 'Cannot find device' >&2"""
_RELEASE = 'eval "$release" >&2'
_UNDOING = """\
set -e; unset IFS
undo() {{
    trap '' HUP INT PIPE TERM
    set +e
    echo 'failed; undoing what was done' >&2
    eval "$restore"
    {first}
    {second}
}}
restore='' remove='' release=''
trap undo EXIT
trap 'exit 1' HUP INT PIPE TERM"""
# A refusal because of an allocation that an earlier ADD has made leaves that one alone.
_KEEP = "case $answer in *'duplicate allocation is not allowed'*) release='' ;; esac"
_ANSWER = """\
answer=$(ipam ADD) || {{
    printf '%s\\n' "$answer" >&2
    {keep}
    exit 1
}}  {purpose}
checked=$(printf '%s\\n' "$answer" | {reader})  {check}
answered() {{ printf '%s\\n' "$checked" | sed -n "s/^$1 //p"; }}
ipv4=$(answered ipv4)
ipv6=$(answered ipv6)"""


def text(made: Prediction) -> str:
    """Return the steps with their purposes as comments."""
    given, assumed = made.environment, assumptions(made.plan)
    head = f"dry run of {given['CNI_COMMAND']}: nothing was changed"
    lines = ["; ".join((head, *whose(given)))]
    lines += [f"assumed: {each}" for each in assumed[:_SHOWN_ASSUMPTIONS]]
    if len(assumed) > _SHOWN_ASSUMPTIONS:
        lines.append(f"assumed: {len(assumed) - _SHOWN_ASSUMPTIONS} more")
    if not made.plan.changes and not made.looks:
        return "\n".join(map(_comment, (*lines, "there is nothing to do")))
    path = [f'export PATH={quote(own)}:"$PATH"'] if (own := own_programs()) else []
    steps = _all_or_nothing(made) if given["CNI_COMMAND"] == "ADD" else _each(made)
    return "\n".join((*map(_comment, lines), "(", *path, *steps, ")"))


def whose(environment: Mapping[str, str]) -> list[str]:
    """Return phrases about the attachment that a call is about."""
    return [f"{word} {environment[name]}" for word, name in _ABOUT.items() if environment.get(name)]


def _each(made: Prediction) -> Iterator[str]:
    """Yield steps that are all tried, as DEL, CHECK and GC do; the status is 1 if one fails."""
    yield "status=0"
    for step in (*made.plan.changes, *made.looks):
        # An IPAM plugin may be older than GC.
        is_needed = step.accept != OPTIONAL and step.parameters.get("CNI_COMMAND") != "GC"
        yield _step(made, step, "|| status=1" if is_needed else "|| :")
    yield "exit $status"


def _all_or_nothing(made: Prediction) -> Iterator[str]:
    """Yield steps that are undone if one fails, as ADD does."""
    changes = made.plan.changes
    undos = (undo for step in changes for undo in step.undo)
    is_last = all(undo.comes_last for undo in undos if undo.command.environment is not None)
    first, second = (_REMOVE, _RELEASE) if is_last else (_RELEASE, _REMOVE)
    yield _UNDOING.format(first=first, second=second)
    remove: list[str] = []
    for step in changes:
        if not made.plan.was_run(step):
            yield from _undo(step, remove)
        if is_allocation(made.plan, step):
            yield _ANSWER.format(
                keep="release=''" if made.has_older else _KEEP,
                purpose=_comment(step.purpose),
                reader=join(made.reader),
                check=_comment("refuses what add would refuse"),
            )
            for test, why in made.refused.items():
                yield f"{test} || {_exit(why)}"
            continue
        is_looped = any(word in answer.STAND_INS for word in step.argv)
        families = [each for each in made.only if step in made.only[each] and not is_looped]
        condition = f'[ -z "$ipv{families[0]}" ] || ' if families else ""
        yield condition + _step(made, step, "|| :" if step.accept in (ABSENT, OPTIONAL) else "")
    result = '"$answer"' if made.reader else _one_line(json.dumps(made.result).encode())
    what = "what the IPAM plugin has answered" if made.reader else "the result"
    yield f"printf '%s\\n' {result}  {_comment(what)}"
    yield "trap - EXIT HUP INT PIPE TERM"


def _undo(step: Command, remove: list[str]) -> Iterator[str]:
    """Yield what prepares the undo of a step, before it: it may fail halfway.

    The interface is removed from the first place where it is: the kernel moves it in one go.
    """
    before = len(remove)
    for undo in step.undo:
        command = undo.command
        if command.environment is not None:  # it calls the IPAM plugin
            argv = [word for word in command.full_argv if not word.startswith("CNI_COMMAND=")]
            call = f'{argv[0]} CNI_COMMAND="$1" {join(argv[1:])}'
            yield f"network={_one_line(command.stdin)}"
            yield _printable(f"ipam() {{ printf '%s\\n' \"$network\" | {call}; }}")
            yield "release='ipam DEL'"
        elif undo.only_if is None:
            if step.argv[:3] == ADD_LINK:  # another's must not be undone
                name = command.argv[-1]
                why = _exit(f"{name} was made meanwhile; make the dry run again")
                yield _printable(f"! ip link show dev {quote(name)} >/dev/null 2>&1 || {why}")
            yield _printable(f"restore={quote(_line(command) + '; ')}$restore")
        else:
            remove.append(join(command.full_argv))
    if len(remove) > before:
        yield _printable(f"remove={quote(' || '.join(remove))}")


def _exit(why: str) -> str:
    return f"{{ echo {quote(why)} >&2; exit 1; }}"


def _step(made: Prediction, step: Command, otherwise: str) -> str:
    if made.plan.was_run(step):
        return _comment(f"already run, since it changes nothing: {step.purpose}")
    return _line(step, otherwise)


def _line(step: Command, otherwise: str = "") -> str:
    """Return a command as a line, or as a loop over what the IPAM plugin answers."""
    loops = {word: answer.STAND_INS[word] for word in step.argv if word in answer.STAND_INS}
    head = next((head for head, _ in loops.values()), "")
    words = [loops[word][1] if word in loops else quote(word) for word in step.full_argv]
    if step.stdin:
        output = ">&2" if step.environment is not None else ">/dev/null"
        words = ["printf '%s\\n'", _one_line(step.stdin), "|", *words, output]
    line = _printable(" ".join([*words, otherwise] if otherwise else words))
    if step.purpose:
        line += f"  {_comment(step.purpose)}"
    return f"{head}; do\n    {line}\ndone" if head else line


def _one_line(stdin: bytes) -> str:
    """Return standard input as a shell's word: on one line, unless it is long."""
    text = stdin.decode("utf-8", "surrogateescape").rstrip("\n")
    if not text.isprintable():
        text = json.dumps(json.loads(text))
    if len(text) > _LONG:
        # Interactive bash could take "!" in a later line of a word for one of its history.
        text = json.dumps(json.loads(text), indent=1).replace("!", "\\u0021")
    return quote(text)


def _printable(command: str) -> str:
    """Return the same command for a shell, in printable characters and line breaks only."""
    if all(line.isprintable() for line in command.split("\n")):
        return command
    octals = "".join(f"\\{byte:03o}" for byte in command.encode("utf-8", "surrogateescape"))
    return f"eval \"$(printf '{octals}')\""


def _comment(text: str) -> str:
    """Return a text as a one-line shell comment without escape sequences."""
    plain = "".join(char if char.isprintable() else " " for char in text)
    return styled("# " + " ".join(plain.split()), fg="green")
