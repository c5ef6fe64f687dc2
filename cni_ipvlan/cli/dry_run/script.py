"""A dry run as a script for sh: one block, to be pasted into a shell or piped into one.

It runs in a subshell, so that nothing of it stays in a person's shell. The script of ADD has the
undo of each step beside it; if a step fails, or on ^C, the undos run in reverse order.
"""

import json
from collections.abc import Iterator, Mapping
from shlex import join, quote

from cni_ipvlan.cli.dry_run import predict
from cni_ipvlan.cli.dry_run.predict import STAND_INS, Prediction
from cni_ipvlan.cli.output import styled
from cni_ipvlan.iproute import commands
from cni_ipvlan.iproute.commands import ABSENT, OPTIONAL, Command
from cni_ipvlan.iproute.dry_run import ADD_LINK
from cni_ipvlan.iproute.runner import own_programs
from cni_ipvlan.plugin.links import key_in_name

_ADD_ROUTE = ("ip", "route", "add")
_VARIABLES = {"container": "CNI_CONTAINERID", "interface": "CNI_IFNAME", "namespace": "CNI_NETNS"}
_MOST_CHARACTERS = 1000  # of a line; a terminal without line editing cuts lines at 4096

# An interface that is not there needs no undo.
_REMOVE = """eval "$remove" 2>&1 | grep -v 'Cannot find device' >&2"""
_RELEASE = 'eval "$release" >&2'
_UNDO_SETUP = """\
set -e; unset IFS
undo() {{
    trap '' HUP INT PIPE TERM
    set +e
    echo 'failed; undoing what was done' >&2
    eval "$restore"
    {first}
    {second}
    eval "$unmake"
}}
restore='' remove='' release='' unmake=''
trap undo EXIT
trap 'exit 1' HUP INT PIPE TERM"""
# If the plugin refuses because of an earlier ADD's allocation, that one is not released.
_KEEP = "case $answer in *'duplicate allocation is not allowed'*) release='' ;; esac"
_READ_ANSWER = """\
answer=$(ipam ADD) || {{
    printf '%s\\n' "$answer" >&2
    {keep}
    exit 1
}}  {purpose}
checked=$(printf '%s\\n' "$answer" | {reader})  {check}
answered() {{ printf '%s\\n' "$checked" | sed -n "s/^$1 //p"; }}
has_route() {{ answered route | cut -d ' ' -f 1 | grep -qxF "$1"; }}
ipv4=$(answered ipv4)
ipv6=$(answered ipv6)"""


# Others may use what attachments share by then, as a script has no locks; and a dry run can't ask
# whether a VLAN is free before the container's interface is removed.
_IN_USE = """\
in_use() {{
    ip link show dev "$1" >/dev/null 2>&1 || return
    if ! {{ ip route show dev "$1"; ip -6 route show dev "$1"; }} | grep -q . &&
        {probe} 2>&1 | grep -q 'Invalid argument'; then
        return 1
    fi
    echo "$1 is kept, since it may be in use" >&2
}}"""


def render(prediction: Prediction) -> str:
    """Return the steps with their purposes as comments."""
    environment = prediction.environment
    title = f"dry run of {environment['CNI_COMMAND']}: nothing was changed"
    lines = ["; ".join((title, *describe_attachment(environment)))]
    lines += [f"assumed: {each}" for each in predict.list_assumptions(prediction.plan)]
    if not prediction.plan.changes and not prediction.queries:
        return "\n".join(map(_comment, (*lines, "there is nothing to do")))
    path = [f'export PATH={quote(programs)}:"$PATH"'] if (programs := own_programs()) else []
    is_add = environment["CNI_COMMAND"] == "ADD"
    steps = _undoable_steps(prediction) if is_add else _independent_steps(prediction)
    if any(map(_removes_shared, prediction.plan.changes)):
        probe = join(commands.link_add_macvlan_refused("$1")).replace("'$1'", '"$1"')
        path.append(_IN_USE.format(probe=probe))
    return "\n".join((*map(_comment, lines), "(", *path, *steps, ")"))


def describe_attachment(environment: Mapping[str, str]) -> list[str]:
    """Return phrases about the attachment that a call is about."""
    names = _VARIABLES.items()
    return [f"{word} {environment[name]}" for word, name in names if environment.get(name)]


def _independent_steps(prediction: Prediction) -> Iterator[str]:
    """Yield steps that are all tried, as DEL, CHECK and GC do; the status is 1 if one fails."""
    yield "status=0"
    for step in (*prediction.plan.changes, *prediction.queries):
        # An IPAM plugin may be older than GC.
        is_needed = step.accept != OPTIONAL and step.parameters.get("CNI_COMMAND") != "GC"
        yield _step(prediction, step, "|| status=1" if is_needed else "|| :")
    yield "exit $status"


def _removes_shared(step: Command) -> bool:
    """Whether a step removes a link of the host that others may use: a VLAN, or hostAccess' own."""
    is_of_host = step.netns is None and not key_in_name(step.argv[-1])
    return is_of_host and step.argv[:-1] == commands.link_delete("")[:-1]


def _undoable_steps(prediction: Prediction) -> Iterator[str]:
    """Yield steps that are undone if one fails, as ADD does."""
    changes = prediction.plan.changes
    undos = (undo for step in changes for undo in step.undo)
    is_last = all(undo.comes_last for undo in undos if undo.command.environment is not None)
    first, second = (_REMOVE, _RELEASE) if is_last else (_RELEASE, _REMOVE)
    yield _UNDO_SETUP.format(first=first, second=second)
    remove: list[str] = []
    for step in changes:
        if not prediction.plan.was_run(step):
            yield from _undo(step, remove)
        if predict.is_allocation(prediction.plan, step):
            yield _READ_ANSWER.format(
                keep="release=''" if prediction.has_older else _KEEP,
                purpose=_comment(step.purpose),
                reader=_printable(join(prediction.reader)),
                check=_comment("refuses what add would refuse"),
            )
            for test, why in prediction.refusals.items():
                yield f"{test} || {_exit(why)}"
            continue
        is_looped = any(word in STAND_INS for word in step.argv)
        families = [family for family, steps in prediction.family_changes.items() if step in steps]
        condition = f'[ -z "$ipv{families[0]}" ] || ' if families and not is_looped else ""
        if prediction.reader and step.argv[:3] == _ADD_ROUTE and step.netns and not is_looped:
            condition += f"has_route {quote(step.argv[3])} || "
        if step.accept == ABSENT:  # a parameter of the kernel
            condition += _printable(f"[ ! -e {quote(step.argv[-1])} ]") + " || "
        otherwise = "|| :" if step.accept == OPTIONAL else ""
        yield condition + _step(prediction, step, otherwise)
    result = '"$answer"' if prediction.reader else _one_line(json.dumps(prediction.result).encode())
    purpose = "what the IPAM plugin has answered" if prediction.reader else "the result"
    yield f"printf '%s\\n' {result}  {_comment(purpose)}"
    yield "trap - EXIT HUP INT PIPE TERM"


def _undo(step: Command, remove: list[str]) -> Iterator[str]:
    """Yield lines that prepare the undo of a step; they come before it, since it may fail halfway.

    The first of the ``remove`` commands that finds the interface removes it.
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
            variable = "restore"
            # The undo must not remove another's link: neither this one, nor the container's. With
            # a VLAN, the interface on it would go, and ``remove`` go on to one that has its name.
            if step.argv[:3] == ADD_LINK:
                variable = "unmake"
                name = command.argv[-1]
                why = _exit(f"{name} was made meanwhile; make the dry run again")
                yield _printable(f"! ip link show dev {quote(name)} >/dev/null 2>&1 || {why}")
            yield _printable(f"{variable}={quote(_line(command) + '; ')}${variable}")
        else:
            remove.append(join(command.full_argv))
    if len(remove) > before:
        yield _printable(f"remove={quote(' || '.join(remove))}")


def _exit(why: str) -> str:
    return f"{{ echo {quote(why)} >&2; exit 1; }}"


def _step(prediction: Prediction, step: Command, otherwise: str) -> str:
    if prediction.plan.was_run(step):
        return _comment(f"already run, since it changes nothing: {step.purpose}")
    condition = f"in_use {quote(step.argv[-1])} || " if _removes_shared(step) else ""
    return condition + _line(step, otherwise)


def _line(step: Command, otherwise: str = "") -> str:
    """Return a command as a line, or as a loop over what the IPAM plugin answers."""
    loops = {word: STAND_INS[word] for word in step.argv if word in STAND_INS}
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
    if len(text) > _MOST_CHARACTERS:
        # In a later line of a word, an interactive bash could expand "!" from its history.
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
