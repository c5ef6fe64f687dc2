"""Parse and check a runtime's call: its environment and standard input."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress

from cni_ipvlan.cni import LATEST_VERSION, SUPPORTED_VERSIONS, VERSION_WHEN_ABSENT, strict_json
from cni_ipvlan.cni.errors import (
    DECODING_FAILURE,
    INCOMPATIBLE_VERSION,
    INVALID_CONFIGURATION,
    INVALID_ENVIRONMENT,
    CniError,
    shortened,
)
from cni_ipvlan.cni.strict_json import quote
from cni_ipvlan.start.namedtuple import Any, NamedTuple

# verb: (variables that must be set and not empty, version that introduced the verb)
_VERBS = {
    "ADD": (("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"), "0.1.0"),
    "DEL": (("CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"), "0.1.0"),
    "CHECK": (("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"), "0.4.0"),
    "STATUS": (("CNI_PATH",), "1.1.0"),
    "GC": (("CNI_PATH",), "1.1.0"),
}
_LONGEST_VERSION = 20  # characters of an unsupported version that an answer repeats
_LONGEST_IDENTIFIER = 255  # bytes; IPAM plugins use identifiers as file names
# Less the terminating NUL: IFNAMSIZ and ALTIFNAMSIZ, <linux/if.h>.
_INTERFACE_NAME_BYTES = 15
ALTERNATIVE_NAME_BYTES = 127
_SEPARATORS = "/:\0 \t\n\v\f\r"
_LATIN_1_SPACE = 0xA0
_NAME_OF_ALL = "the kernel reserves that name for the settings of all interfaces"


class Stdin(NamedTuple):
    """Standard input, decoded once; if that failed, ``config`` is empty and ``failure`` set."""

    content: bytes
    config: dict[str, Any]
    failure: CniError | None = None

    @property
    def version_to_answer(self) -> str:
        """The CNI version to answer in, also for invalid input."""
        with suppress(CniError):
            version = _get_version(self.config)
            if self.failure is None and len(version) <= _LONGEST_VERSION:
                return version
        return LATEST_VERSION


class Request(NamedTuple):
    """One call of the plugin: the verb, and the attachment it is about.

    ``netns`` is CNI_NETNS as given, which may be empty for DEL, STATUS and GC;
    ``path`` has the directories in CNI_PATH; ``environment`` and ``stdin`` are
    passed to delegates unchanged; ``config`` is stdin, decoded.
    """

    command: str
    container_id: str
    netns: str
    ifname: str
    path: tuple[str, ...]
    may_share_netns: bool
    environment: Mapping[str, str]
    stdin: bytes
    config: dict[str, Any]
    version: str

    @property
    def network(self) -> str:
        """The network's name; empty for a DEL without one."""
        name = self.config.get("name")
        return name if isinstance(name, str) else ""


def read(stdin: bytes) -> Stdin:
    """Decode standard input, without a byte order mark, which plugins in Go can't decode.

    ``parse`` raises what is wrong with it.
    """
    stdin = stdin.removeprefix(strict_json.BYTE_ORDER_MARK)
    why = "it is not a JSON object"
    try:
        document = strict_json.decode(stdin)
    except ValueError as error:
        document, why = None, str(error) if stdin.strip() else "standard input is empty"
    if isinstance(document, dict):
        return Stdin(stdin, document)
    failure = CniError(DECODING_FAILURE, f"cannot decode the network configuration: {why}")
    return Stdin(stdin, {}, failure)


def parse(environment: Mapping[str, str], stdin: Stdin) -> Request:
    """Check a call and return it as a Request.

    Raises CniError: 4 for the environment (naming every wrong variable), 6 when
    stdin is not a JSON object or its version not a string, 1 for a version that is
    unknown or older than the verb, 7 for an invalid network name (SPEC.md, "Parameters").
    """
    command = environment.get("CNI_COMMAND", "")
    if command not in _VERBS:
        what = f"CNI_COMMAND is {command!r}, which is not a CNI command"
        raise CniError(INVALID_ENVIRONMENT, what, f"known: {', '.join([*_VERBS, 'VERSION'])}")
    _check_environment(environment, command)
    if stdin.failure is not None:
        raise stdin.failure
    version = _get_version(stdin.config)
    if version not in SUPPORTED_VERSIONS:
        known = f"supported: {', '.join(SUPPORTED_VERSIONS)}"
        raise CniError(INCOMPATIBLE_VERSION, f"cniVersion {quote(version)} is not supported", known)
    if not is_known(command, version):
        since = f"{command} was introduced in CNI {introduced_in(command)}"
        what = f"{since}; the configuration's cniVersion is {version}"
        raise CniError(INCOMPATIBLE_VERSION, what)
    if command != "DEL":
        _check_network_name(stdin.config)
    return Request(
        command=command,
        container_id=environment.get("CNI_CONTAINERID", ""),
        netns=environment.get("CNI_NETNS", ""),
        ifname=environment.get("CNI_IFNAME", ""),
        path=tuple(part for part in environment.get("CNI_PATH", "").split(":") if part),
        may_share_netns=environment.get("CNI_NETNS_OVERRIDE", "").lower() in ("1", "true"),
        environment=environment,
        stdin=stdin.content,
        config=stdin.config,
        version=version,
    )


def pod(environment: Mapping[str, str]) -> str:
    """Return NAMESPACE/NAME of the Kubernetes pod that CNI_ARGS names; empty if there is none.

    Names that Kubernetes would not accept are ignored, so the text is short and printable.
    """
    pairs = (each.partition("=") for each in environment.get("CNI_ARGS", "").split(";"))
    arguments = {key: value for key, _, value in pairs}
    names = [arguments.get(f"K8S_POD_{each}", "") for each in ("NAMESPACE", "NAME")]
    return "" if any(map(identifier_fault, names)) else "/".join(names)


def introduced_in(command: str) -> str:
    """Return the CNI version that introduced a command."""
    return _VERBS[command][1]


def is_known(command: str, version: str) -> bool:
    """Whether a supported CNI version has a command."""
    return SUPPORTED_VERSIONS.index(version) >= SUPPORTED_VERSIONS.index(introduced_in(command))


def _get_version(config: Mapping[str, Any]) -> str:
    """Return the CNI version of a configuration; raises CniError 6."""
    version = config.get("cniVersion")
    if version in (None, ""):
        return VERSION_WHEN_ABSENT
    if not isinstance(version, str):
        what = f'cniVersion is {quote(version)}; it must be a string such as "1.0.0"'
        raise CniError(DECODING_FAILURE, what)
    return version


def interface_name_fault(
    name: str, longest: int = _INTERFACE_NAME_BYTES, *, by_libcni: bool = False
) -> str:
    """Return why the kernel would not accept ``name`` for an interface; empty if it would.

    ``longest`` is how many bytes it may have: ALTERNATIVE_NAME_BYTES for an altname.
    ``by_libcni`` is whether only the rules count that libcni has, too (pkg/utils, utils.go).

    The rule is dev_valid_name() in net/core/dev.c. It accepts ``%``, which
    __dev_alloc_name() then expands or refuses, and "all" and "default", which
    sysctl_dev_name_is_allowed() refuses since /proc/sys/net/ipv4/conf uses them.
    """
    try:
        encoded = name.encode("utf-8")
    except UnicodeEncodeError:
        return "it is not valid UTF-8"
    # The kernel's isspace() uses Latin-1.
    spaces = () if by_libcni else [each for each in name if _LATIN_1_SPACE in each.encode()]
    character = next((each for each in name if each in _SEPARATORS or each in spaces), "")
    faults = {
        "it is empty": not encoded,
        f"it has {len(encoded)} bytes; {longest} are allowed": len(encoded) > longest,
        "it is the name of a directory": name in (".", ".."),
        f"{character!r} is not allowed in it": character != "",
        "the kernel treats % as a pattern": "%" in name and not by_libcni,
        _NAME_OF_ALL: name in ("all", "default") and not by_libcni,
    }
    return next((fault for fault, is_fault in faults.items() if is_fault), "")


def _check_environment(environment: Mapping[str, str], command: str) -> None:
    required, _ = _VERBS[command]
    missing = [variable for variable in required if not environment.get(variable)]
    if missing:
        what = f"the environment variable{'s' if len(missing) > 1 else ''} {', '.join(missing)}"
        raise CniError(INVALID_ENVIRONMENT, f"{command} needs {what}")
    checks: dict[str, Callable[..., str]]
    checks = {"CNI_CONTAINERID": identifier_fault, "CNI_IFNAME": interface_name_fault}
    by_libcni = command == "DEL"  # that after a refused ADD must not fail for ever
    faults = [
        f"{name} is {shortened(repr(environment[name]))}; {fault}"
        for name, check in checks.items()
        if name in required and (fault := check(environment[name], by_libcni=by_libcni))
    ]
    if faults:
        raise CniError(INVALID_ENVIRONMENT, "; ".join(faults))


def _check_network_name(config: Mapping[str, Any]) -> None:
    name = config.get("name")
    if name in (None, ""):
        raise CniError(INVALID_CONFIGURATION, "the network configuration has no name")
    fault = identifier_fault(name) if isinstance(name, str) else "it must be a string"
    if fault:
        raise CniError(INVALID_CONFIGURATION, f"name is {quote(name)}; {fault}")


def identifier_fault(text: str, *, by_libcni: bool = False) -> str:
    """Return why a network or a container may not have a name; empty if it may.

    ``by_libcni`` is whether only the rules count that libcni has, too (pkg/utils, utils.go).
    """
    is_plain = text.isascii() and all(each.isalnum() or each in "_.-" for each in text)
    if not is_plain or not text[:1].isalnum():
        return "it must start with a letter or digit, followed by letters, digits, '_', '.' or '-'"
    is_long = len(text) > _LONGEST_IDENTIFIER and not by_libcni
    return f"it has {len(text)} bytes; {_LONGEST_IDENTIFIER} are allowed" if is_long else ""
