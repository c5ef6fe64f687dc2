"""cni.request: which calls are accepted, and the errors for others."""

import json
from typing import Any

import pytest
from runtime import call_environment

from cni_ipvlan.cni import SUPPORTED_VERSIONS, errors, request
from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.cni.request import interface_name_fault, pod

VERBS = ("ADD", "DEL", "CHECK", "STATUS", "GC")
NEEDED = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"),
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"),
    "STATUS": ("CNI_PATH",),
    "GC": ("CNI_PATH",),
}
SINCE = {"ADD": "0.1.0", "DEL": "0.1.0", "CHECK": "0.4.0", "STATUS": "1.1.0", "GC": "1.1.0"}


def parse(environment: dict[str, str], stdin: bytes) -> request.Request:
    return request.parse(environment, request.read(stdin))


def environment(command: str = "ADD", **changes: str) -> dict[str, str]:
    return call_environment(command, "/run/netns/blue", **{"CNI_CONTAINERID": "dummy-1", **changes})


def stdin(**config: Any) -> bytes:
    return json.dumps({"cniVersion": "1.1.0", "name": "net", "type": "ipvlan", **config}).encode()


def find_error(environment: dict[str, str], stdin: bytes) -> CniError:
    with pytest.raises(CniError) as excinfo:
        parse(environment, stdin)
    return excinfo.value


def test_request_has_everything_from_the_runtime() -> None:
    given_environment = environment(CNI_ARGS="K8S_POD_NAME=web;Ignore=1", CNI_PATH=":/a::/b:")
    given_stdin = stdin(master="eth0")
    result = parse(given_environment, given_stdin)
    assert (result.command, result.container_id, result.ifname) == ("ADD", "dummy-1", "net1")
    assert (result.netns, result.path) == ("/run/netns/blue", ("/a", "/b"))
    assert (result.environment, result.stdin) == (given_environment, given_stdin)
    assert (result.config["master"], result.version, result.network) == ("eth0", "1.1.0", "net")
    for value in ("1", "true", "True", "0", "", "yes"):
        result = parse(environment(CNI_NETNS_OVERRIDE=value), given_stdin)
        assert result.may_share_netns is (value in {"1", "true", "True"})


def test_command_that_is_none_of_the_verbs_is_refused() -> None:
    for command in ("", "add", "VERSION"):
        error = find_error(environment(command), stdin())
        assert error.code == errors.INVALID_ENVIRONMENT
        assert f"CNI_COMMAND is {command!r}" in error.msg
        assert all(verb in error.details for verb in VERBS)


@pytest.mark.parametrize("command", VERBS)
def test_a_verb_names_the_variables_that_it_needs(command: str) -> None:
    complete = {"CNI_COMMAND": command} | {name: environment()[name] for name in NEEDED[command]}
    result = parse(complete, stdin())
    values = {"CNI_CONTAINERID": result.container_id, "CNI_NETNS": result.netns}
    assert values == {name: complete.get(name, "") for name in values}
    assert (result.command, result.ifname) == (command, complete.get("CNI_IFNAME", ""))
    for variable in NEEDED[command]:
        missing = {name: value for name, value in complete.items() if name != variable}
        for incomplete in (missing, {**complete, variable: ""}):
            error = find_error(incomplete, stdin())
            assert error.code == errors.INVALID_ENVIRONMENT
            assert error.msg == f"{command} needs the environment variable {variable}"
    plural = "s" if len(NEEDED[command]) > 1 else ""
    all_of_them = f"{command} needs the environment variable{plural} {', '.join(NEEDED[command])}"
    assert find_error({"CNI_COMMAND": command}, stdin()).msg == all_of_them


@pytest.mark.parametrize("container_id", ["-a", ".a", "a/b", "a\n", "ä", "\udcff"])
def test_other_container_ids_are_refused(container_id: str) -> None:
    for fine in ("a", "0", "a_b.c-d", "A" * 255):
        assert parse(environment(CNI_CONTAINERID=fine), stdin()).container_id == fine
    error = find_error(environment(CNI_CONTAINERID=container_id, CNI_IFNAME="c/d"), stdin())
    assert error.code == errors.INVALID_ENVIRONMENT
    assert f"CNI_CONTAINERID is {container_id!r}" in error.msg
    assert "CNI_IFNAME is 'c/d'" in error.msg
    too_long = environment(CNI_CONTAINERID="A" * 256)
    assert find_error(too_long, stdin()).msg.endswith("it has 256 bytes; 255 are allowed")
    parse({**too_long, "CNI_COMMAND": "DEL"}, stdin())  # that after it must not fail for ever


RESERVED = "the kernel reserves that name for the settings of all interfaces"


def test_interface_name_the_kernel_refuses() -> None:
    for name, fault in (
        ("sixteen-bytes-xx", "it has 16 bytes; 15 are allowed"),
        *((name, "it is the name of a directory") for name in (".", "..")),
        *((name, RESERVED) for name in ("all", "default")),
        ("a/b", "'/' is not allowed in it"),
        ("a:1", "':' is not allowed in it"),
        ("a b", "' ' is not allowed in it"),
        ("a\0b", "'\\x00' is not allowed in it"),
        ("à", "'à' is not allowed in it"),  # in UTF-8 it ends in one of Latin-1's
        ("eth%d", "the kernel treats % as a pattern"),
        ("\udcff", "it is not valid UTF-8"),
    ):
        assert interface_name_fault(name) == fault
        error = find_error(environment(CNI_IFNAME=name), stdin())
        assert error.code == errors.INVALID_ENVIRONMENT
        assert error.msg == f"CNI_IFNAME is {name!r}; {fault}"
        assert interface_name_fault("") == "it is empty"


@pytest.mark.parametrize("command", VERBS)
def test_verb_is_refused_in_versions_older_than_itself(command: str) -> None:
    first = SUPPORTED_VERSIONS.index(SINCE[command])
    for version in SUPPORTED_VERSIONS[first:]:
        assert parse(environment(command), stdin(cniVersion=version)).version == version
    for version in SUPPORTED_VERSIONS[:first]:
        error = find_error(environment(command), stdin(cniVersion=version))
        assert error.code == errors.INCOMPATIBLE_VERSION
        assert error.msg == (
            f"{command} was introduced in CNI {SINCE[command]}; "
            f"the configuration's cniVersion is {version}"
        )


@pytest.mark.parametrize("version", ["0.5.0", "1.0", " 1.0.0", 1, []])
def test_unknown_version_is_refused_with_the_known_ones(version: object) -> None:
    error = find_error(environment(), stdin(cniVersion=version))
    assert json.dumps(version) in error.msg
    if isinstance(version, str):
        assert error.code == errors.INCOMPATIBLE_VERSION
        assert all(version_known in error.details for version_known in SUPPORTED_VERSIONS)
    else:
        assert error.code == errors.DECODING_FAILURE
    for config in ({}, {"cniVersion": ""}, {"cniVersion": None}):
        document = json.dumps({"name": "net", "type": "ipvlan", **config}).encode()
        assert parse(environment(), document).version == "0.1.0"


@pytest.mark.parametrize(
    ("given_stdin", "message"),
    [
        (b"", "standard input is empty"),
        (b"{", "a key in double quotes is missing: line 1, column 2"),
        (b"\xff\xfe", "it is not UTF-8 text"),
        (b"\xef\xbb\xbf", "standard input is empty"),
        *((other, "it is not a JSON object") for other in (b"null", b"[]")),
        (b'{"mtu": NaN}', "NaN is not JSON"),
        (b'{"dns": {"x": [-1e999]}}', "the number -1e999 is too large"),
        (b'{"mtu": ' + b"9" * 5000 + b"}", "999 is too large"),
        (b'{"x": ' + b"[" * 100 + b"]" * 100 + b"}", "it is nested too deeply: more than 100"),
    ],
)
def test_stdin_that_is_no_json_object_is_refused(given_stdin: bytes, message: str) -> None:
    for command in VERBS:
        error = find_error(environment(command), given_stdin)
        assert error.code == errors.DECODING_FAILURE
        assert error.msg.startswith("cannot decode the network configuration: ")
        assert message in error.msg


@pytest.mark.parametrize("name", ["-net", "a/b", "net\n", "\ud800", 5, []])
def test_other_network_names_are_refused(name: object) -> None:
    for command in ("ADD", "CHECK", "STATUS", "GC"):
        for fine in ("net", "0", "a_b.c-d"):
            assert parse(environment(command), stdin(name=fine)).network == fine
        error = find_error(environment(command), stdin(name=name))
        assert error.code == errors.INVALID_CONFIGURATION
        assert f"name is {json.dumps(name)}" in error.msg
        json.dumps(error.document("1.1.0")).encode("ascii")  # lone surrogates included


def test_del_takes_any_network_name() -> None:
    for name, expected in ((None, ""), ("", ""), ("a/b", "a/b"), (5, "")):
        assert parse(environment("DEL"), stdin(name=name)).network == expected
    for value in (None, ""):
        error = find_error(environment(), stdin(name=value))
        assert error.code == errors.INVALID_CONFIGURATION
        assert error.msg == "the network configuration has no name"


def test_byte_order_mark_is_no_part_of_it_and_the_last_of_equal_keys_counts() -> None:
    result = request.read(b'\xef\xbb\xbf{"name": "a", "name": "b"}')
    assert result == (b'{"name": "a", "name": "b"}', {"name": "b"}, None)


def test_answer_is_in_the_version_of_the_request_however_broken() -> None:
    for given_stdin, version in (
        (b'{"cniVersion": "9.9.9"}', "9.9.9"),
        (b"{}", "0.1.0"),
        (b'{"cniVersion": 3}', "1.1.0"),
        (b"", "1.1.0"),
        (b"{", "1.1.0"),
    ):
        assert request.read(given_stdin).version_to_answer == version


def test_pod_is_named_by_two_proper_names() -> None:
    for args, name in (
        ("K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0", "default/web-0"),
        ("IgnoreUnknown=1;K8S_POD_NAME=a.b;X=;K8S_POD_NAMESPACE=n;", "n/a.b"),
        ("K8S_POD_NAMESPACE=default;K8S_POD_NAME=", ""),
        ("K8S_POD_NAMESPACE=default;K8S_POD_NAME=a=b", ""),
        ("K8S_POD_NAMESPACE=default;K8S_POD_NAME=\x1b[2Jweb-0", ""),
        ("K8S_POD_NAMESPACE=default;K8S_POD_NAME=../web-0", ""),
        ("K8S_POD_NAMESPACE=de fault;K8S_POD_NAME=web-0", ""),
        (f"K8S_POD_NAMESPACE=default;K8S_POD_NAME={'x' * 256}", ""),
        (";;==;K8S_POD_NAMESPACE;K8S_POD_NAME", ""),
    ):
        assert pod({"CNI_ARGS": args}) == name
