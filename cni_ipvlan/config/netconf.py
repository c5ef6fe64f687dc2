"""The network configuration: parsed from JSON and checked into a NetConf."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from functools import cache

from cni_ipvlan.cni.errors import INVALID_CONFIGURATION, CniError
from cni_ipvlan.cni.request import ALTERNATIVE_NAME_BYTES, interface_name_fault
from cni_ipvlan.cni.strict_json import quote
from cni_ipvlan.start import json
from cni_ipvlan.start.namedtuple import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from cni_ipvlan.cni.result import Result

Path = tuple[str | int, ...]
DEFAULT_DATA_DIR = "/var/lib/cni/networks"  # of host-local, without the option dataDir
_SCHEMA_FILE = os.path.join(os.path.dirname(__file__), "netconf.schema.json")
MAC_RULE = "an ipvlan interface always has its master's"
_TYPES = {
    "string": "a string",
    "integer": "a whole number",
    "object": "a JSON object",
    "array": "a list",
    "boolean": "true or false",
}
# What a value must be: for a pattern by its option, else by the keyword of the schema.
_RULES = {
    "minimum": "it must be {} or more",
    "maximum": "it must be {} or less",
    "minItems": "it must have an entry",
    "name": "it must start with a letter or digit, followed by letters, digits, '_', '.' or '-'",
    "ipam.type": "it must be the name of a plugin, which has no slash",
}
# An option's name in other programs, or that of a route's key, and the name it has here.
FOREIGN_KEYS = {
    **dict.fromkeys(("vlanId", "vlanID", "vlan_id"), "vlan"),
    **dict.fromkeys(("parent", "device"), "master"),
    "ipvlan_mode": "mode",
    "ipvlan_flag": "flag",
    "ipMasq": "",  # ipvlan changes no source addresses
    **dict.fromkeys(("gateway", "via"), "gw"),
}
NO_EFFECT = "is another plugin's, and does nothing here"


class Problem(NamedTuple):
    """What is wrong with an option: its path, and a sentence with its value and what is allowed.

    It is an error if something is refused, is ignored, or does harm; it is a warning
    if the network works all the same, or works for some.
    """

    path: Path
    text: str
    is_warning: bool = False


class NetConf(NamedTuple):
    """The options of a network.

    ``master`` and ``ipam_type`` are empty when not given; ``mtu`` (bytes) is 0 for the kernel's
    default, ``vlan`` 0 for none; ``dns`` and ``prev_result`` are None when absent. If several
    interfaces may be the master, ``masters`` has their names and patterns, and ``master`` is empty.
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
    if problems := find_problems(config):
        raise CniError(INVALID_CONFIGURATION, "; ".join(problem.text for problem in problems))
    dns, masters, (mode, flag) = config.get("dns"), masters_of(config), mode_of(config)
    is_one = len(masters) == 1 and not is_pattern(masters[0])
    return NetConf(
        name=config["name"],
        master=masters[0] if is_one else "",
        mode=mode,
        flag=flag,
        mtu=mtu_of(config),
        ipam_type=ipam_type(config),
        link_in_container=bool(config.get("linkInContainer")),
        check_ipv4_conflict=bool(config.get("checkIPv4Conflict")),
        host_access=bool(config.get("hostAccess")),
        routes_via_host=tuple(config.get("routesViaHost") or ()),
        vlan=int(config.get("vlan") or 0),
        dns={key: value for key, value in dns.items() if value} if dns else None,
        prev_result=_parse_prev_result(config, version),
        masters=() if is_one else masters,
    )


def find_problems(config: Mapping[str, Any]) -> list[Problem]:
    """Return every invalid option, by the schema and by rules it can't express."""
    return [*_check_schema(config), *_check_values(config), *_check_host_options(config)]


def ipam_type(config: Mapping[str, Any]) -> str:
    """Return the IPAM plugin's name in a configuration that may be invalid; empty for none.

    It is also empty if the name is this plugin's: no such ADD can have succeeded,
    so there is nothing to release.
    """
    name = value_at(config, "ipam", "type")
    return name if isinstance(name, str) and name != config.get("type") else ""


def mode_of(config: Mapping[str, Any]) -> tuple[str, str]:
    """Return mode and flag of a configuration that may be invalid."""
    return config.get("mode") or "l2", config.get("flag") or "bridge"


def mtu_of(config: Mapping[str, Any]) -> int:
    """Return the option mtu; 0 if it is no whole number, as 1500.0 is."""
    mtu: Any = config.get("mtu")
    return int(mtu) if type(mtu) in (int, float) and mtu % 1 == 0 else 0


def lease_directory(config: Mapping[str, Any]) -> str:
    """Return where host-local keeps a network's leases, whose configuration may be invalid."""
    return f"{value_at(config, 'ipam', 'dataDir') or DEFAULT_DATA_DIR}/{config.get('name')}"


def masters_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names and patterns in the option master of a configuration; none by default."""
    return tuple(each for each in _masters(config) if isinstance(each, str))


def _masters(config: Mapping[str, Any]) -> list[Any]:
    masters = config.get("master") or []
    return masters if isinstance(masters, list) else [masters]


def is_pattern(entry: str) -> bool:
    """Whether an entry of the option master is a pattern, if no interface has that very name."""
    return any(character in entry for character in "*?[")


def find_suspicious_keys(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return keys that look like a misspelt option, or are another program's, each with our name.

    The name is empty if we have no such option. In routes, only keys of other programs are found.
    """
    options = load_schema()["properties"]
    suspicious: dict[str, str] = {}
    for key in config:
        if key not in options:
            similar = next((option for option in options if is_typo(key, option)), None)
            option = FOREIGN_KEYS.get(key, similar)
            if option is not None and option in (*options, ""):
                suspicious[key] = option
    routes = value_at(config, "ipam", "routes")
    for route in routes if isinstance(routes, list) else ():
        keys = route if isinstance(route, dict) else ()
        suspicious |= {key: "gw" for key in keys if FOREIGN_KEYS.get(key) == "gw"}
    return list(suspicious.items())


@cache
def load_schema() -> dict[str, Any]:
    """Return the JSON Schema of the options; it must not be changed."""
    with open(_SCHEMA_FILE, encoding="utf-8") as file:
        document: dict[str, Any] = json.loads(file.read())
    return document


def _check_schema(config: Mapping[str, Any]) -> list[Problem]:
    from cni_ipvlan.config.quick_check import is_valid

    rules = load_schema()
    if is_valid(config, rules):
        return []
    from jsonschema import Draft202012Validator

    errors: dict[tuple[str, ...], Any] = {}
    for error in Draft202012Validator(rules).iter_errors(config):
        path = tuple(map(str, error.path))
        # Report one problem for each option; the list of allowed values implies the type.
        if path not in errors or error.validator == "enum":
            errors[path] = error
    return [
        Problem((*error.path, *_missing_keys(error)[:1]), describe_schema_error(error))
        for _, error in sorted(errors.items())
    ]


def _missing_keys(error: Any) -> list[str]:
    """Return the keys that an object should have, of a jsonschema ValidationError about them."""
    keys = error.validator_value if error.validator == "required" else ()
    return [key for key in keys if key not in error.instance]


def describe_schema_error(error: Any) -> str:
    """Describe a jsonschema ValidationError: the option, its value, what is allowed."""
    rule, keyword, option = error.validator_value, error.validator, _dotted_path(error.path)
    if keyword == "required":
        return f"{' and '.join(_missing_keys(error))} must be given"
    if keyword == "maxItems":
        return f"{option} has {len(error.instance)} entries; {rule} are allowed"
    if keyword == "enum":
        why = f"allowed: {', '.join(filter(None, rule))}"
    elif keyword == "type":
        kinds = [rule] if isinstance(rule, str) else rule
        why = f"it must be {' or '.join(_TYPES[kind] for kind in kinds if kind != 'null')}"
    elif keyword == "format":
        why = error.cause
    else:
        why = _RULES[option if keyword == "pattern" else keyword].format(rule)
    return f"{option} is {quote(error.instance)}; {why}"


def _check_values(config: Mapping[str, Any]) -> Iterator[Problem]:
    is_list = isinstance(config.get("master"), list)
    for index, entry in enumerate(_masters(config)):
        why = isinstance(entry, str) and interface_name_fault(entry, ALTERNATIVE_NAME_BYTES)
        if why:
            yield _problem(("master", index) if is_list else ("master",), entry, why)
    name = value_at(config, "ipam", "type")
    if name and name == config.get("type"):
        yield _problem(("ipam", "type"), name, "it is not an IPAM plugin")
    for path in (("runtimeConfig", "mac"), ("args", "cni", "mac")):
        if mac := value_at(config, *path):  # a pod asks for it, and would get another one
            text = f"{_dotted_path(path)} asks for the MAC address {quote(mac)}; {MAC_RULE}"
            yield Problem(path, text)


def _check_host_options(config: Mapping[str, Any]) -> Iterator[Problem]:
    has_host_access, (_, flag) = config.get("hostAccess") is True, mode_of(config)
    is_in_container = config.get("linkInContainer") is True
    if has_host_access and flag != "bridge":
        text = f"hostAccess needs the flag bridge; {quote(flag)} keeps interfaces apart"
        yield Problem(("hostAccess",), text)
    if has_host_access and is_in_container:
        text = "hostAccess needs a master on the host; with linkInContainer it is in the container"
        yield Problem(("hostAccess",), text)
    if config.get("vlan") and is_in_container:
        yield Problem(("vlan",), "vlan needs a master on the host; linkInContainer is set")
    subnets = config.get("routesViaHost")
    if subnets and isinstance(subnets, list):
        if not has_host_access:
            yield Problem(("routesViaHost",), "routesViaHost needs hostAccess")
        rule = load_schema()["properties"]["routesViaHost"]
        for index, subnet in enumerate(subnets[: rule["maxItems"]]):  # _check_schema refuses more
            if isinstance(subnet, str) and (why := _find_subnet_fault(subnet)):
                yield _problem(("routesViaHost", index), subnet, why)


def _find_subnet_fault(text: str) -> str:
    from ipaddress import ip_network

    try:
        subnet = ip_network(text, strict=False)
    except ValueError:
        return "it must be a subnet such as 10.96.0.0/12"
    if "%" in text:
        return "it must have no zone"
    if subnet.prefixlen == 0:
        return "a default route is for ipam.routes"
    return f"did you mean {subnet}?" if str(subnet) != text else ""


def _problem(path: Path, value: object, why: str) -> Problem:
    return Problem(path, f"{_dotted_path(path)} is {quote(value)}; {why}")


def _dotted_path(path: Iterable[object]) -> str:
    return ".".join(map(str, path))


def value_at(value: object, *path: str) -> Any:
    """Return what a path of keys leads to; None if it leads nowhere."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _parse_prev_result(config: Mapping[str, Any], version: str) -> Result | None:
    document = config.get("prevResult")
    if document is None:
        return None
    from cni_ipvlan.cni import result as results

    try:
        return results.parse(document, version)
    except CniError as error:
        raise CniError(error.code, f"prevResult: {error.msg}", error.details) from None


def is_typo(key: str, option: str) -> bool:
    """Whether they differ by case only, or by one added, missing, changed or swapped letter."""
    key, option = key.lower(), option.lower()
    start = 0
    while start < min(len(key), len(option)) and key[start] == option[start]:
        start += 1
    key_end, option_end = key[start:], option[start:]
    return (
        key_end[1:] == option_end[1:]  # another letter
        or key_end[1:] == option_end  # one more
        or key_end == option_end[1:]  # one less
        or (key_end[:2] == option_end[1::-1] and key_end[2:] == option_end[2:])  # swapped
    )
