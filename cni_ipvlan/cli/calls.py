"""The commands that mirror CNI's verbs (add, del, check, status, gc), and how a call is made."""

import json
import os
import secrets
from collections.abc import Callable, Mapping
from functools import cache, partial, reduce
from types import MappingProxyType
from typing import Any, NamedTuple

import click

from cni_ipvlan.cli import attachments, configs, options, output, reading, validate
from cni_ipvlan.cli.dry_run import predict, script
from cni_ipvlan.cli.options import FILE, option
from cni_ipvlan.cni import LATEST_VERSION, SUPPORTED_VERSIONS, VERSION_WHEN_ABSENT, protocol
from cni_ipvlan.cni import result as results
from cni_ipvlan.cni.errors import IO_FAILURE, NOT_AVAILABLE, CniError, Failures
from cni_ipvlan.cni.request import introduced_in, is_known, parse, read
from cni_ipvlan.config import netconf
from cni_ipvlan.iproute.commands import in_shell
from cni_ipvlan.iproute.dry_run import DryRun, Plan
from cni_ipvlan.iproute.interrupts import Interrupts
from cni_ipvlan.log import Log, one_line
from cni_ipvlan.plugin import perform
from cni_ipvlan.plugin.node import Node, assemble

DRY_RUN_VERBS = ("ADD", "DEL", "CHECK", "GC")
DEFAULT_ORIGIN = "the usual directories"  # of CNI_PATH, if nothing sets it
USUAL_DIRECTORIES = ("/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni")
_Values = dict[str, Any]  # of options, or of keys of a configuration

_COMMON_OPTIONS = [options.network_option, options.cni_path_option, options.verbose_option]


class Invocation(NamedTuple):
    """What a runtime would pass, and how to make the call."""

    environment: Mapping[str, str]
    stdin: bytes
    is_dry: bool = False
    as_json: bool = False
    is_verbose: bool = False
    names: Mapping[str, str] = MappingProxyType({})  # of options, by the variables that they set
    ipam_result: results.Result | None = None  # in a dry run, if it is known
    version: str = ""  # the configuration's, if that is older than the verb


def _add_options(*decorators: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda command: reduce(
        lambda decorated, each: each(decorated), reversed(decorators), command
    )


def _attachment_options(*, of_del: bool = False) -> Callable[[Any], Any]:
    id_type = options.container_or_pod if of_del else options.container_id
    id_help = "The container's ID, or for del without -c its pod's name"
    id_help += " [default: a new one for add, else the one found there]."
    name_help = "The interface's name in the container; for del without -c, the recorded one."
    default: Any = {"default": "net1", "show_default": True}
    return _add_options(
        options.config_option(required=not of_del),
        options.netns_option(required=not of_del, may_be_gone=of_del),
        option("--ifname", options.interface_name, "NAME", name_help, **default),
        option("--container-id", id_type, "ID", id_help),
        option("--args", options.arguments, "'K=V;…'", "CNI_ARGS, for the IPAM plugin."),
        option("--prev-result", FILE, "FILE", "The result of the plugin before, or of the ADD."),
        options.dry_run_option,
        *_COMMON_OPTIONS,
    )


@options.command(
    "ipvlan add -c examples/ipvlan0.yaml --netns container1 --dry-run",
    "ipvlan add -c examples/ipvlan0.yaml --netns container1 --ifname eth1 -v",
)
@_attachment_options()
@option(
    "--ipam-result", FILE, "FILE", "The IPAM plugin's result in a dry run, which then calls none."
)
def add(**values: Any) -> None:
    """Attach a container.

    It prints the interface, its addresses and routes as text, or with --json the result as CNI
    defines it. A dry run prints the commands as a script, or with --json its steps.
    """
    if values["ipam_result"]:
        if not values["dry_run"]:
            raise click.UsageError("--ipam-result can only be used with --dry-run")
        values["ipam_result"] = read_result(values["ipam_result"], "--ipam-result")[1]
    is_made_up = not values["container_id"]
    values["container_id"] = values["container_id"] or secrets.token_hex(8)
    _call_attachment("ADD", _choose_network(values).config, values)
    if is_made_up and not values["dry_run"]:
        texts = {name: value for name, value in values.items() if isinstance(value, str)}
        words = (f"--{name.replace('_', '-')}={value}" for name, value in texts.items())
        command = in_shell(("ipvlan", "del", *words))
        output.echo_err(f"container ID {values['container_id']}; to detach it: {command}")


@options.command(
    "ipvlan del --container-id 4bd23c81a90f --dry-run",
    "ipvlan del -c examples/ipvlan0.yaml --netns container1 --ifname eth1",
)
@_attachment_options(of_del=True)
def delete(**values: Any) -> None:
    """Detach a container.

    Root needs no -c and --netns for one that is recorded: --container-id takes its ID, the start of
    that (4 characters do), or its pod's name. The configuration then is the one that the runtime
    has kept.
    """
    if not (values["config"] and values["netns"]):
        _call_attachment("DEL", *_find_recorded(values))
        return
    network = _choose_network(values)
    if values["container_id"] and not values["dry_run"]:
        attachments.check_exists(read_only_node(), network, values)
    _call_attachment("DEL", network.config, values)


def _find_recorded(values: _Values) -> tuple[_Values, _Values]:
    """Return the configuration and the options of an attachment that root has recorded."""
    if not values["container_id"]:
        missing = "'--netns'" if values["config"] else "'-c' / '--config'"
        raise click.UsageError(f"Missing option {missing}, or '--container-id' of a recorded one.")
    source = click.get_current_context().get_parameter_source("ifname")
    config = _choose_network(values).config if values["config"] else None
    network = config.get("name") if config else values["network"]
    ifname = values["ifname"] if source is click.core.ParameterSource.COMMANDLINE else None
    place = read_only_node(), values["container_id"], values["netns"]
    record = attachments.find_record(*place, network=network, ifname=ifname)
    config = config or attachments.find_config(record)
    if config is None:
        output.echo_err(attachments.describe_leases(record))
        config = {"cniVersion": LATEST_VERSION, "name": record.network, "type": "ipvlan"}
    attachment = {key: getattr(record, key) for key in ("container_id", "ifname", "netns")}
    return {**config, "name": record.network}, {**values, **attachment}


@options.command(
    "ipvlan add -c examples/ipvlan0.yaml --netns container1 --json > result.json",
    "ipvlan check -c examples/ipvlan0.yaml --netns container1 --prev-result result.json",
)
@_attachment_options()
def check(**values: Any) -> None:
    """Compare an attachment with what its ADD reported."""
    network = _choose_network(values)
    if not (values["prev_result"] or network.config.get("prevResult")):
        text = "give the result of the ADD with --prev-result FILE; ipvlan add --json prints it"
        raise click.UsageError(text)
    _call_attachment("CHECK", network.config, values)
    if not values["as_json"] and not values["dry_run"]:
        output.echo("the attachment is as ADD left it")


@options.command("ipvlan status -c examples/ipvlan0.yaml")
@_add_options(options.config_option(required=True), *_COMMON_OPTIONS)
def status(**values: Any) -> None:
    """Check whether an ADD could succeed now, and that validate finds no error."""
    network = options.choose_network(values["config"], values["network"])
    config, ipam = dict(network.config), netconf.ipam_type(network.config)
    version = _raise_version(config, "STATUS")
    if version and ipam:
        text = f"not asking the IPAM plugin {ipam}, which may not know STATUS: cniVersion is"
        output.echo_err(f"{text} {version}")
    _call("STATUS", config, {**values, "as_json": False}, version=version)
    for each in validate.check_config(network):
        if not each.is_warning and each.text != reading.DUPLICATE:  # of which an ADD takes the last
            raise CniError(NOT_AVAILABLE, f"{reading.json_path(each.path)}: {each.text}")
    output.echo_json({}) if values["as_json"] else output.echo("ready")


def _parse_attachment(text: str) -> dict[str, str]:
    container_id, _, ifname = text.partition("/")
    if not container_id or not ifname:
        raise click.BadParameter(f"{text!r} is not ID/IFNAME")
    options.interface_name(ifname)
    return {"containerID": options.container_id(container_id), "ifname": ifname}


@options.command(
    "ipvlan gc -c examples/ipvlan0.yaml 4bd23c81a90f/net1 90a1f3/net1 --dry-run",
    "ipvlan gc -c examples/ipvlan0.yaml --keep-existing",
)
@click.argument("valid", type=_parse_attachment, nargs=-1, metavar="[ID/IFNAME]…")
@click.option("--keep-existing", is_flag=True, help="Those that are on this node are valid.")
@click.option("--keep-none", is_flag=True, help="No attachment of the network is valid.")
@_add_options(options.config_option(required=False), options.dry_run_option, *_COMMON_OPTIONS)
def gc(
    valid: tuple[dict[str, str], ...], keep_existing: bool, keep_none: bool, **values: Any
) -> None:
    """Remove what is left of a network's attachments, except valid ones: ID/IFNAME.

    An interface in a container that still exists is reported and kept: del removes it. The IPAM
    plugin releases the addresses of containers that are gone. With --keep-existing, those are valid
    whose interface or container is there: for a node whose runtime never calls GC. No add of the
    network may run meanwhile. Then -c may be left out, for all networks of this node.
    """
    if [bool(valid), keep_existing, keep_none].count(True) != 1:
        text = "give one of: the valid attachments as ID/IFNAME, --keep-existing, or --keep-none"
        raise click.UsageError(text)
    is_of_all = not values["config"]
    if is_of_all and (not keep_existing or values["as_json"] or values["network"]):
        text = "give the network's file with -c; for all networks, give only --keep-existing, no"
        raise click.UsageError(f"{text} --json, which is one document, and no --network")
    if is_of_all:
        groups = configs.read_networks().values()
        networks = [each for group in groups for each in configs.select_stores(group)]
        if not networks:
            where = f"{configs.DIRECTORY} has no network of ipvlan, and libcni has kept none"
            output.echo_err(f"{where}; -c FILE names one")
    else:
        networks = [options.choose_network(values["config"], values["network"])]
    if valid:
        attachments.check_whole_ids(read_only_node(), networks[0].name, valid)
    failures = Failures()
    for network in networks:
        with failures.noted():
            if keep_existing:
                valid = attachments.list_existing(read_only_node(), network.name)
            config = {**network.config, "cni.dev/valid-attachments": valid}
            try:
                _call("GC", config, values, version=_raise_version(config, "GC"))
            except CniError as error:
                error.add_details(f"file: {network.source}" if is_of_all else "")
                raise
    for fault in configs.read_directory().faults if is_of_all else ():
        with failures.noted():
            raise CniError(IO_FAILURE, str(fault))
    failures.raise_any()


def _choose_network(values: _Values) -> configs.NetworkConfig:
    """Return the chosen network; print which plugins of its list are left out."""
    network = options.choose_network(values["config"], values["network"])
    others = ", ".join((*network.before, *network.after))
    if others:
        text = f"of the list {network.name}, only ipvlan is called; left out: {others}"
        output.echo_err(one_line(text))
    return network


def _call_attachment(command: str, network_config: _Values, values: _Values) -> None:
    """Make a call about an attachment; raises UsageError if its container ID is not found."""
    config, netns, ifname = dict(network_config), values["netns"], values["ifname"]
    _raise_version(config, command)
    if values["prev_result"]:
        previous, result = read_result(values["prev_result"], "--prev-result")
        if command == "CHECK":
            if not result.interfaces and {"ip4", "ip6"} & previous.keys():  # CNI 0.2.0 has none
                ips = tuple(each._replace(interface=0) for each in result.addresses)
                own = results.Interface(ifname, sandbox=netns)
                result = result._replace(interfaces=(own,), addresses=ips)
            previous = results.render(result, str(config.get("cniVersion")))
        config["prevResult"] = previous
    names = {"network": config.get("name"), "ifname": ifname}
    container_id = values["container_id"]
    if not container_id:
        container_id = attachments.find_record(read_only_node(), "", netns, **names).container_id
    variables = {"CNI_CONTAINERID": container_id, "CNI_NETNS": netns, "CNI_IFNAME": ifname}
    variables |= {"CNI_ARGS": values["args"]} if values["args"] else {}
    _call(command, config, values, **variables)


def _call(
    command: str, config: _Values, values: _Values, *, version: str = "", **variables: str
) -> None:
    path, origin = find_cni_path(values["cni_path"])
    environment = {**os.environ, **variables, "CNI_COMMAND": command, "CNI_PATH": path}
    names = {"CNI_NETNS": "--netns", "CNI_IFNAME": "--ifname", "CNI_PATH": origin or DEFAULT_ORIGIN}
    is_dry, flags = values.get("dry_run", False), (values["as_json"], values["verbose"])
    call = Invocation(environment, json.dumps(config).encode(), is_dry, *flags, names)
    make(call._replace(ipam_result=values.get("ipam_result"), version=version))


def _raise_version(config: _Values, command: str) -> str:
    """Raise cniVersion to one that has a verb; return the older one, or "" if that has it already.

    So people can use every verb, even if a runtime could not with this configuration.
    """
    version = str(config.get("cniVersion") or VERSION_WHEN_ABSENT)
    if version not in SUPPORTED_VERSIONS or is_known(command, version):
        return ""
    config["cniVersion"] = introduced_in(command)
    return version


def find_cni_path(directories: str | None) -> tuple[str, str]:
    """Return CNI_PATH, and what sets it: --cni-path, CNI_PATH in the environment, or nothing ("").

    If nothing sets it, it has the usual directories that exist.
    """
    origin = "--cni-path" if directories else "CNI_PATH"
    path = directories or os.environ.get("CNI_PATH")
    if path:
        return ":".join(os.path.abspath(part) for part in path.split(":") if part), origin
    existing = [directory for directory in USUAL_DIRECTORIES if os.path.isdir(directory)]
    return ":".join(existing or USUAL_DIRECTORIES), ""


def read_result(file: str, option: str) -> tuple[dict[str, Any], results.Result]:
    """Return a result in a file, as JSON and parsed; raises BadParameter."""
    try:
        documents = reading.read(file, configs.read_source(file))
        document: Any = next((each.value for each in documents), None)
        return document, results.parse(document, LATEST_VERSION)
    except reading.ConfigError as error:
        raise options.option_error(str(error), option) from None
    except CniError as error:
        raise options.option_error(f"{file}: {error.msg}", option) from None


def make(call: Invocation) -> None:
    """Make a call and print its outcome; raises CniError."""
    log = _make_log(call.environment, is_verbose=call.is_verbose)
    begin = partial(_make_node, call.environment, log)
    try:
        request = parse(call.environment, read(call.stdin))
        request = request._replace(version=call.version or request.version)
        if call.is_dry:
            prediction = predict.make(request, begin, call.ipam_result)
            if call.as_json:
                output.echo_json(predict.render_json(prediction))
            else:
                output.echo(*script.render(prediction).split("\n"))
            if prediction.failure:  # it is in the document, too
                raise click.exceptions.Exit(1) if call.as_json else prediction.failure
            return
        log.open(request.config)

        def deliver(result: results.Result) -> None:
            rendered = results.render(result, request.version)
            output.echo_json(rendered) if call.as_json else output.print_result(result)

        perform(begin(), request, deliver)
    except CniError as error:
        log.fail(str(error))
        raise name_options(error, call.names) from None
    if call.as_json and request.command != "ADD":
        output.echo_json({})


def name_options(error: CniError, names: Mapping[str, str]) -> CniError:
    """Return an error that names its subject by the option that a person has typed."""
    name = names.get(error.subject, error.subject)
    if error.subject in error.msg:
        error.msg = error.msg.replace(error.subject, name, 1)
    else:
        error.details = error.details.replace(error.subject, name, 1)
    return error


def serve_call(call: Invocation) -> tuple[int, bytes]:
    """Make a call as a runtime does; return its exit status and what it prints."""
    log = _make_log(call.environment, is_verbose=call.is_verbose)
    request = read(call.stdin)
    log.open(request.config)
    node = _make_node(call.environment, log)
    stdout = bytearray()
    status = protocol.serve(call.environment, request, partial(perform, node), stdout.extend, log)
    return status, bytes(stdout)


def read_only_node() -> Node:
    """Return a node whose transactions change nothing."""
    return _make_node(os.environ, _make_log({}), Plan())


def _make_node(environment: Mapping[str, str], log: Log, plan: Plan | None = None) -> Node:
    interrupts = Interrupts()
    interrupts.install()
    node = assemble(environment, interrupts, log)
    if plan is None:
        return node
    return node._replace(registry=node.registry.read_only, begin=lambda: DryRun(node.runner, plan))


def _make_log(environment: Mapping[str, str], *, is_verbose: bool = False) -> Log:
    kind = output.Narrator if is_verbose else Log
    # Without a cache, each dry run of a call would print the same warnings.
    return kind(cache(lambda text: output.echo_err(*text.split("\n"))), environment)
