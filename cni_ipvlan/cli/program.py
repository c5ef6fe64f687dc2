"""The command line ``ipvlan``: its entry point, and replaying a runtime's call."""

import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path

import click

from cni_ipvlan import __version__
from cni_ipvlan.cli import calls, configs, output, replay
from cni_ipvlan.cli.connectivity.command import probe_command, trace_command
from cni_ipvlan.cli.doctor.command import doctor_command
from cni_ipvlan.cli.dry_run.predict import ipam_answer
from cni_ipvlan.cli.options import JSON, is_json_wanted
from cni_ipvlan.cli.reading import ConfigError
from cni_ipvlan.cli.show.command import show
from cni_ipvlan.cli.validate.command import validate
from cni_ipvlan.cni import SUPPORTED_VERSIONS, errors
from cni_ipvlan.iproute import IprouteError
from cni_ipvlan.iproute.namespace import NotANamespaceError
from cni_ipvlan.plugin.codes import INTERRUPTED
from cni_ipvlan.plugin.explain import as_cni_error

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_GROUPS = {
    "Look": (show, probe_command, trace_command, doctor_command, calls.status, calls.check),
    "Change": (calls.add, calls.delete, calls.gc, replay.replay),
    "Files": (validate, ipam_answer),
}
_LONGEST_HELP = 200  # of a command, in the list; click cuts it to what fits one line
_BAD_INPUT = (
    *(errors.INCOMPATIBLE_VERSION, errors.UNSUPPORTED_FIELD, errors.INVALID_ENVIRONMENT),
    *(errors.DECODING_FAILURE, errors.INVALID_CONFIGURATION),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, by default the process's own; return the exit status.

    0 for success, 1 for a failure, 2 for bad input. Failing to write the output is a failure.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        status = ipvlan.main(words, prog_name="ipvlan", standalone_mode=False)
    except Exception as error:  # noqa: BLE001 - the last boundary: a bug is reported in a sentence, too
        return _report(error, as_json=is_json_wanted(words))
    return status if isinstance(status, int) else 0


def _report(error: Exception, *, as_json: bool) -> int:
    failure = _convert_error(error)
    try:
        output.echo()  # writes what is still buffered
        if as_json:
            output.echo_json(output.failure_document(failure))
        else:
            output.print_failure(failure)
    except click.exceptions.Exit:
        return 1
    if isinstance(error, click.Abort):
        return 130  # what shells return after ^C
    return 2 if failure.code in _BAD_INPUT else 1


def _convert_error(error: Exception) -> errors.CniError:
    if isinstance(error, (errors.CniError, IprouteError, OSError)):
        with suppress(NotANamespaceError):  # as_cni_error raises it again
            return as_cni_error(error)
    if isinstance(error, ConfigError):
        return errors.CniError(errors.INVALID_CONFIGURATION, str(error))
    if isinstance(error, click.UsageError):
        hint = f"try: {error.ctx.command_path} --help" if error.ctx else ""
        return errors.CniError(errors.INVALID_ENVIRONMENT, error.format_message(), hint)
    if isinstance(error, click.Abort):
        return errors.CniError(INTERRUPTED, "interrupted from the keyboard")
    frame = traceback.extract_tb(error.__traceback__)[-1]
    location = f"{os.path.basename(frame.filename)}:{frame.lineno}"
    msg = f"internal error at {location}: {type(error).__name__}: {error}"
    return errors.CniError(errors.INTERNAL, msg)


class _Commands(click.Group):
    """The commands in groups."""

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands, those first that change nothing."""
        for title, commands in _GROUPS.items():
            rows = [(each.name or "", each.get_short_help_str(_LONGEST_HELP)) for each in commands]
            with formatter.section(title):
                formatter.write_dl(rows)


def _print_version(*, as_json: bool) -> None:
    file = Path(__file__).parents[1] / "commit"  # pip installs no such file
    commit = file.read_text("ascii").strip() if file.exists() else None
    if as_json:
        versions = {"version": __version__, "commit": commit}
        output.echo_json({**versions, "supportedVersions": SUPPORTED_VERSIONS})
    else:
        output.echo(f"ipvlan, version {__version__}" + (f", commit {commit}" if commit else ""))


@click.group(cls=_Commands, invoke_without_command=True, context_settings=_CONTEXT)
@click.option("-V", "--version", is_flag=True, help="Print the version and exit.")
@click.option("--dry-run", is_flag=True, help="Print what the call in the CNI variables would do.")
@click.option("-v", "--verbose", is_flag=True, help="Make that call, and print each command.")
@click.pass_context
def ipvlan(ctx: click.Context, version: bool, dry_run: bool, as_json: bool, verbose: bool) -> None:
    """Attach containers to a host interface through ipvlan.

    A container runtime runs this program without arguments. People use the
    commands below, or replay a runtime's call without changing anything:

    \b
        CNI_COMMAND=ADD CNI_CONTAINERID=c CNI_NETNS=/run/netns/c CNI_IFNAME=eth0 \\
            CNI_PATH=/opt/cni/bin ipvlan --dry-run < net.conf
    """  # noqa: D301 - in a raw string, click would not know the mark of lines to keep
    has_options = dry_run or as_json or verbose
    command = os.environ.get("CNI_COMMAND")
    verbs = calls.DRY_RUN_VERBS if dry_run else (*calls.DRY_RUN_VERBS, "STATUS")
    if version:
        _print_version(as_json=as_json)
        ctx.exit()
    if ctx.invoked_subcommand:
        if has_options:
            text = f"options go after the command: ipvlan {ctx.invoked_subcommand} …"
            raise click.UsageError(text)
    elif not command and not has_options:
        output.echo(*ctx.get_help().split("\n"))
    elif not command or not (dry_run or verbose):
        text = "give a command, such as ipvlan show -j; or to replay a runtime's call, set "
        raise click.UsageError(f"{text}CNI_COMMAND and its variables, and give --dry-run or -v")
    elif command not in verbs:
        raise click.UsageError(f"cannot replay {command!r}, only {', '.join(verbs)}")
    else:
        stdin = configs.read_standard_input()
        calls.make(calls.Invocation(dict(os.environ), stdin, dry_run, as_json, verbose))


ipvlan.params.append(JSON)
for _command in chain(*_GROUPS.values()):
    ipvlan.add_command(_command)
