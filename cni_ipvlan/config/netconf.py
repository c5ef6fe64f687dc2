"""The network configuration: parsed from JSON and checked into a NetConf."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from functools import cache

from cni_ipvlan.cni.errors import INVALID_CONFIGURATION, CniError, shortened
from cni_ipvlan.cni.request import ALTERNATIVE_NAME_BYTES, interface_name_fault
from cni_ipvlan.start import json
from cni_ipvlan.start.namedtuple import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any

    from cni_ipvlan.cni.result import Result

LEASES = "/var/lib/cni/networks"  # of host-local, unless dataDir is another directory
_SCHEMA_FILE = os.path.join(os.path.dirname(__file__), "netconf.schema.json")
MAC_RULE = "an ipvlan interface always has its master's"
_JSON_TYPES = {
    "string": "a string",
    "integer": "a whole number",
    "object": "a JSON object",
    "array": "a list",
    "boolean": "true or false",
}


_PATTERNS = {  # of the schema, in words
    "name": "it must start with a letter or digit, followed by letters, digits, '_', '.' or '-'",
    "ipam.type": "it must be the name of a plugin, which has no slash",
}


# What other programs call an option, or a key of a route, and what it is called here.
FOREIGN = {
    **dict.fromkeys(("vlanId", "vlanID", "vlan_id"), "vlan"),
    **dict.fromkeys(("parent", "device"), "master"),
    "ipvlan_mode": "mode",
    "ipvlan_flag": "flag",
    "ipMasq": "",  # ipvlan changes no source addresses
    **dict.fromkeys(("gateway", "via"), "gw"),
}
NOTHING_HERE = "is another plugin's, and does nothing here"


class Fault(NamedTuple):
    """An invalid option: its path, and a sentence with its value and what is allowed."""

    path: tuple[str | int, ...]
    text: str


class NetConf(NamedTuple):
    """The options of a network.

    ``master`` and ``ipam_type`` are empty when not given; ``mtu`` (bytes) is 0 for
    the kernel's default, ``vlan`` 0 for none; ``dns`` and ``prev_result`` are None when
    absent. If several interfaces may be the master, ``masters`` has their names and patterns,
    and ``master`` is empty.
    """

    name: str
    master: str = ""
    mode: str = "l2"
    flag: str = "bridge"
    mtu: int = 0
    ipam_type: str = ""
    link_in_container: bool = False
    check_ipv4_conflict: bool = False
    host_access: bool = False
    routes_via_host: tuple[str, ...] = ()
    vlan: int = 0
    dns: Mapping[str, Any] | None = None
    prev_result: Result | None = None
    masters: tuple[str, ...] = ()


def parse(config: Mapping[str, Any], version: str) -> NetConf:
    """Check a configuration against the schema; ``version`` is its CNI version.

    Raises CniError 7 naming each invalid option, its value and what is allowed;
    6 or 1 when prevResult can't be parsed.
    """
    found = faults(config)
    if found:
        raise CniError(INVALID_CONFIGURATION, "; ".join(fault.text for fault in found))
    ipam = config.get("ipam") or {}
    dns = config.get("dns")
    masters = masters_of(config)
    is_one = len(masters) == 1 and not is_pattern(masters[0])
    return NetConf(
        name=config["name"],
        master=masters[0] if is_one else "",
        mode=config.get("mode") or "l2",
        flag=config.get("flag") or "bridge",
        mtu=int(config.get("mtu") or 0),
        ipam_type=ipam.get("type") or "",
        link_in_container=bool(config.get("linkInContainer")),
        check_ipv4_conflict=bool(config.get("checkIPv4Conflict")),
        host_access=bool(config.get("hostAccess")),
        routes_via_host=tuple(config.get("routesViaHost") or ()),
        vlan=int(config.get("vlan") or 0),
        dns={key: value for key, value in dns.items() if value} if dns else None,
        prev_result=_prev_result(config, version),
        masters=() if is_one else masters,
    )


def faults(config: Mapping[str, Any]) -> list[Fault]:
    """Return every invalid option, by the schema and by rules it can't express."""
    found = [*_schema_faults(config), *_master_faults(config), *_ipam_faults(config)]
    found += [*_mac_faults(config), *_host_access_faults(config), *_vlan_faults(config)]
    return [*found, *_routes_via_host_faults(config)]


def ipam_type(config: Mapping[str, Any]) -> str:
    """Return the IPAM plugin's name in a configuration that may be invalid; empty for none.

    It is also empty if the name is this plugin's: no such ADD can have succeeded,
    so there is nothing to release.
    """
    name = _ipam_type(config)
    return name if isinstance(name, str) and name != config.get("type") else ""


def lease_directory(config: Mapping[str, Any]) -> str:
    """Return where host-local keeps a network's leases, whose configuration may be invalid."""
    ipam = config.get("ipam")
    base = ipam.get("dataDir") if isinstance(ipam, dict) else None
    return f"{base or LEASES}/{config.get('name')}"


def masters_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names and patterns in the option master of a configuration; none by default."""
    given = config.get("master") or ()
    entries = given if isinstance(given, (list, tuple)) else (given,)
    return tuple(each for each in entries if isinstance(each, str))


def is_pattern(entry: str) -> bool:
    """Whether an entry of the option master is a pattern, if no interface has that very name."""
    return any(character in entry for character in "*?[")


def options() -> list[str]:
    """Return the names of all options."""
    return list(schema()["properties"])


def suspicious_keys(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return keys that look like a misspelt option, or are another program's, each with ours.

    That is empty if there is no such option. Of routes, only those of other programs are found.
    """
    known = options()
    found = []
    for key in config:
        if key not in known:
            near = (option for option in known if is_one_slip(key, option))
            meant = FOREIGN.get(key, next(near, None))
            if meant is not None and meant in (*known, ""):
                found.append((key, meant))
    ipam = config.get("ipam")
    routes = ipam.get("routes") if isinstance(ipam, dict) else None
    for route in routes if isinstance(routes, list) else ():
        keys = route if isinstance(route, dict) else ()
        found += [(key, FOREIGN[key]) for key in keys if FOREIGN.get(key) == "gw"]
    return list(dict.fromkeys(found))  # each once, of however many routes


@cache
def schema() -> dict[str, Any]:
    """Return the JSON Schema of the options; it must not be changed."""
    with open(_SCHEMA_FILE, encoding="utf-8") as file:
        document: dict[str, Any] = json.loads(file.read())
    return document


def _schema_faults(config: Mapping[str, Any]) -> list[Fault]:
    from cni_ipvlan.config.quick_check import is_valid

    rules = schema()
    if is_valid(config, rules):
        return []
    from jsonschema import Draft202012Validator

    found: dict[tuple[str, ...], Any] = {}
    for error in Draft202012Validator(rules).iter_errors(config):
        place = tuple(map(str, error.path))
        # Report one fault for each option; the list of allowed values implies the type.
        if place not in found or error.validator == "enum":
            found[place] = error
    return [Fault(tuple(found[place].path), explain(found[place])) for place in sorted(found)]


def explain(error: Any) -> str:
    """Describe a jsonschema ValidationError: the option, its value, what is allowed."""
    option = ".".join(str(part) for part in error.path)
    value = _shown(error.instance)
    rule = error.validator_value
    if error.validator == "required":
        missing = [name for name in rule if name not in error.instance]
        return f"{' and '.join(missing)} must be given"
    if error.validator == "enum":
        allowed = ", ".join(str(each) for each in rule if each)
        return f"{option} is {value}; allowed: {allowed}"
    if error.validator == "type":
        kinds = [rule] if isinstance(rule, str) else rule
        allowed = " or ".join(_JSON_TYPES[kind] for kind in kinds if kind != "null")
        return f"{option} is {value}; it must be {allowed}"
    if error.validator == "minimum":
        return f"{option} is {value}; it must be {rule} or more"
    if error.validator == "maximum":
        return f"{option} is {value}; it must be {rule} or less"
    if error.validator == "format":
        return f"{option} is {value}; {error.cause}"
    if error.validator == "minItems":
        return f"{option} is {value}; it must have an entry"
    if error.validator == "maxItems":
        return f"{option} has {len(error.instance)} entries; {rule} are allowed"
    return f"{option} is {value}; {_PATTERNS[option]}"


def _shown(value: object) -> str:
    return shortened(json.dumps(value))


def _master_faults(config: Mapping[str, Any]) -> list[Fault]:
    master = config.get("master")
    entries: list[Any] = master if isinstance(master, list) else [master] if master else []
    found = []
    for index, entry in enumerate(entries):
        fault = isinstance(entry, str) and interface_name_fault(entry, ALTERNATIVE_NAME_BYTES)
        if fault:
            path = ("master", index) if isinstance(master, list) else ("master",)
            text = f"{'.'.join(map(str, path))} is {_shown(entry)}; {fault}"
            found.append(Fault(path, text))
    return found


def _ipam_type(config: Mapping[str, Any]) -> object:
    ipam = config.get("ipam")
    return ipam.get("type") if isinstance(ipam, dict) else None


def _ipam_faults(config: Mapping[str, Any]) -> list[Fault]:
    name = _ipam_type(config)
    if not name or name != config.get("type"):
        return []
    return [Fault(("ipam", "type"), f"ipam.type is {_shown(name)}, which is not an IPAM plugin")]


def _mac_faults(config: Mapping[str, Any]) -> list[Fault]:
    """Refuse a MAC address that a pod asks for, rather than give it another one."""
    found = []
    for path in (("runtimeConfig", "mac"), ("args", "cni", "mac")):
        part: Any = config
        for key in path:
            part = part.get(key) if isinstance(part, dict) else None
        if part:
            text = f"{'.'.join(path)} asks for the MAC address {_shown(part)}; {MAC_RULE}"
            found.append(Fault(path, text))
    return found


def _host_access_faults(config: Mapping[str, Any]) -> list[Fault]:
    """Refuse what keeps the host's ipvlan interface from the containers'."""
    if config.get("hostAccess") is not True:
        return []
    flag, path = config.get("flag") or "bridge", ("hostAccess",)
    found = []
    if flag != "bridge":
        text = f"hostAccess needs the flag bridge; {_shown(flag)} keeps interfaces apart"
        found.append(Fault(path, text))
    if config.get("linkInContainer") is True:
        text = "hostAccess needs a master on the host; with linkInContainer it is in the container"
        found.append(Fault(path, text))
    return found


def _routes_via_host_faults(config: Mapping[str, Any]) -> list[Fault]:
    subnets = config.get("routesViaHost")
    if not isinstance(subnets, list) or not subnets:
        return []
    from ipaddress import ip_network

    found = []
    if config.get("hostAccess") is not True:
        found.append(Fault(("routesViaHost",), "routesViaHost needs hostAccess"))
    for index, subnet in enumerate(subnets):
        if not isinstance(subnet, str):
            continue  # the schema says so
        why = "it must be a subnet such as 10.96.0.0/12"
        with suppress(ValueError):
            network = ip_network(subnet, strict=False)
            why = f"did you mean {network}?" if str(network) != subnet else ""
            if network.prefixlen == 0:
                why = "a default route is for ipam.routes"
        if why:
            text = f"routesViaHost.{index} is {_shown(subnet)}; {why}"
            found.append(Fault(("routesViaHost", index), text))
    return found


def _vlan_faults(config: Mapping[str, Any]) -> list[Fault]:
    if not config.get("vlan") or config.get("linkInContainer") is not True:
        return []
    return [Fault(("vlan",), "vlan needs a master on the host; linkInContainer is set")]


def _prev_result(config: Mapping[str, Any], version: str) -> Result | None:
    document = config.get("prevResult")
    if document is None:
        return None
    from cni_ipvlan.cni import result as results

    try:
        return results.parse(document, version)
    except CniError as error:
        raise CniError(error.code, f"prevResult: {error.msg}", error.details) from None


def is_one_slip(key: str, option: str) -> bool:
    """Whether they differ by case only, or by one added, missing, changed or swapped letter."""
    key, option = key.lower(), option.lower()
    start = 0
    while start < min(len(key), len(option)) and key[start] == option[start]:
        start += 1
    rest, wanted = key[start:], option[start:]
    return (
        rest[1:] == wanted[1:]  # another letter
        or rest[1:] == wanted  # one more
        or rest == wanted[1:]  # one less
        or (rest[:2] == wanted[1::-1] and rest[2:] == wanted[2:])  # swapped
    )
