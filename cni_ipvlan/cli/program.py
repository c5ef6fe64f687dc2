"""The command line ``ipvlan``: its entry point, and replaying a runtime's call."""

from __future__ import annotations

import os
import sys
import traceback
from typing import TYPE_CHECKING

import click

from cni_ipvlan import __version__
from cni_ipvlan.cli import answer, calls, configs, inspection, output, reach, verbs
from cni_ipvlan.cli.calls import Call, CallOptions
from cni_ipvlan.cli.options import Commands, script_option

if TYPE_CHECKING:
    from collections.abc import Sequence

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_REPLAYABLE = ("ADD", "DEL", "CHECK", "GC")
_KNOWN = (*_REPLAYABLE, "STATUS")
_INTERRUPTED = 130  # what shells return after ^C


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, by default the process's own; return the exit status.

    0 for success, 1 for a failure, 2 for bad input. Failing to write the output is a
    failure, reported unless the reader has closed the pipe.
    """
    try:
        status = ipvlan.main(arguments, prog_name="ipvlan", standalone_mode=False)
    except click.UsageError as error:
        output.print_error(error.format_message())
        if error.ctx:
            output.echo_err(f"    try: {error.ctx.command_path} --help")
        return 2
    except configs.ConfigError as error:
        output.print_error(str(error))
        return 2
    except click.Abort:
        return _INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last boundary: a bug is reported in a sentence, too
        if output.give_up_stdout():
            return 1
        place = traceback.extract_tb(error.__traceback__)[-1]
        output.print_error(
            f"internal error at {os.path.basename(place.filename)}:{place.lineno}: "
            f"{type(error).__name__}: {error}"
        )
        return 1
    return status if isinstance(status, int) else 0


@click.group(cls=Commands, invoke_without_command=True, context_settings=_CONTEXT)
@click.version_option(__version__, prog_name="ipvlan")
@click.option("--dry-run", is_flag=True, help="Print what the call in the CNI variables would do.")
@script_option
@click.option("-v", "--verbose", is_flag=True, help="Make that call, and print each command.")
@click.pass_context
def ipvlan(ctx: click.Context, dry_run: bool, form: str, verbose: bool) -> int | None:
    r"""Attach containers to a host interface through ipvlan.

    A container runtime runs this program without arguments. People use the
    commands below, or replay a runtime's call without changing anything:

    \b
        CNI_COMMAND=ADD CNI_CONTAINERID=c CNI_NETNS=/run/netns/c CNI_IFNAME=eth0 \
            CNI_PATH=/opt/cni/bin ipvlan --dry-run < net.conf
    """
    if ctx.invoked_subcommand:
        if dry_run or verbose:
            raise click.UsageError(
                f"options go after the command: ipvlan {ctx.invoked_subcommand} …"
            )
        return None
    command = os.environ.get("CNI_COMMAND")
    if not command:
        if dry_run or verbose:
            raise click.UsageError("to replay a runtime's call, set CNI_COMMAND and its variables")
        click.echo(ctx.get_help())
        return 0
    if not dry_run and not verbose:
        raise click.UsageError("to replay a runtime's call, give --dry-run or -v")
    if command not in (_REPLAYABLE if dry_run else _KNOWN):
        raise click.UsageError(f"cannot replay {command!r}, only {', '.join(_REPLAYABLE)}")
    call = Call(dict(os.environ), sys.stdin.buffer.read())
    return calls.make(call, CallOptions(dry_run, form == "json", verbose))


for _command in (
    verbs.add,
    verbs.delete,
    verbs.check,
    verbs.status,
    verbs.gc,
    inspection.validate,
    inspection.show,
    inspection.doctor_command,
    reach.probe_command,
    reach.trace_command,
    answer.ipam_answer,
):
    ipvlan.add_command(_command)
