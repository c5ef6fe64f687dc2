"""For any input: at most one document, no false success, and only expected commands.

The whole plugin runs here in a simulated world: no command is executed; each is checked against a
strict grammar and answered as ip(8) and IPAM plugins would. FUZZ_EXAMPLES is the number of inputs.
"""

import json
import os
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from fake_runner import FakeRunner, call
from grammar import is_allowed, is_possible
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from runtime import call_environment
from sampling import sample

from cni_ipvlan.cni.errors import INTERNAL
from cni_ipvlan.config import netconf
from cni_ipvlan.config.quick_check import is_valid
from cni_ipvlan.iproute import namespace
from cni_ipvlan.iproute.namespace import Namespace

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "400"))
MANY = settings(
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
VERBS = ("ADD", "DEL", "CHECK", "STATUS", "GC")
MOST_BYTES = 1 << 16  # of an answer, whatever was asked

# Inputs.


# Any code points, lone surrogates and NUL among them, and those that mean something somewhere.
MEANINGFUL = (
    "", ".", "..", "/", "//", "-", "--", "-x", "-all", "-force", "-batch", "-j", "-d", "-4", "show",
    "a b", "a\nb", "a\0b", "a#b", 'a"b', "a'b", "a\\b", "a;b", "$(id)", "`id`", "|id", "dev",
    "help", "all", "default", "lo", "netns", "type", "veth", "up", "%d", "eth%d", "\x85", "\u2028",
    "ü", "\ud800", "\udcff", "🦆" * 4, "x" * 15, "x" * 16, "x" * 5000, "net", "eth0", "1", "0",
    "one", "ipvlan", "l2", "vepa", "true",
)  # fmt: skip
TEXT = st.sampled_from(MEANINGFUL) | st.text(st.characters(exclude_categories=()), max_size=20)
# What an environment can hold: no NUL, and of lone surrogates those that stand for bytes.
VALUES = TEXT.filter(is_possible)
NUMBERS = st.integers() | st.floats() | st.sampled_from([2**31, 2**32, 2**64, 10**400, -1, 0.5])
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
ATTACHMENTS_KEY = "cni.dev/valid-attachments"
PROPERTIES = netconf.load_schema()["properties"]
OPTIONS = (*PROPERTIES, ATTACHMENTS_KEY, "disableCheck")
NAMES = TEXT | st.sampled_from(
    ["eth0", "net1", "altname-" + "x" * 119, "a#b", "-x", "-j", "show", "-batch", "type", "ü",
     "dev", "help", 'q"', "x" * 15]
)  # fmt: skip
PATTERNS = st.sampled_from(["*", "e*", "?*", "[!x]*", "[", "[a-", "*" * 120, "[]]", "-*", "a?b"])
ADDRESSES = st.sampled_from(
    ["10.1.0.2/24", "fd00::2/64", "::ffff:1.2.3.4/96", "0.0.0.0/0", "10.1.0.2", "10.1.0.2/240",
     "fe80::1%lo/64", "10.1.0.2/24 dev lo", "-6", "default"]
)  # fmt: skip
GATEWAYS = st.sampled_from(["10.1.0.1", "fd00::1", "", "10.1.0.1 dev lo", "fe80::1%lo", "inet6"])
U32 = st.integers(0, 2**32 - 1) | JSON
ROUTES = st.fixed_dictionaries(
    {"dst": ADDRESSES | TEXT},
    optional={
        "gw": GATEWAYS | TEXT,
        **dict.fromkeys(("mtu", "advmss", "priority", "table", "scope"), U32),
    },
)
RESULTS = st.fixed_dictionaries(
    {"ips": st.lists(st.fixed_dictionaries(
        {"address": ADDRESSES | TEXT}, optional={"gateway": GATEWAYS, "interface": U32}
    ), min_size=1, max_size=3)},
    optional={
        "cniVersion": st.sampled_from(["0.4.0", "1.0.0", "1.1.0", "9.9.9"]) | JSON,
        "routes": st.lists(ROUTES, max_size=3),
        "interfaces": st.lists(
            st.fixed_dictionaries(
                {"name": NAMES}, optional={"sandbox": TEXT, "mac": TEXT, "mtu": U32}
            ),
            max_size=2,
        ),
        "dns": JSON,
    },
)  # fmt: skip
ATTACHMENTS = st.lists(st.fixed_dictionaries({"containerID": TEXT, "ifname": NAMES}) | JSON)
# Nearly valid configurations, with which an ADD gets far.
CONFIGURATIONS = st.fixed_dictionaries(
    {
        "cniVersion": st.sampled_from(["1.1.0", "1.0.0", "0.4.0"]),
        "name": st.sampled_from(["net", "a.b-c_d"]) | TEXT,
        "type": st.just("ipvlan"),
        ATTACHMENTS_KEY: ATTACHMENTS,
    },
    optional={
        # Any option that is not among those below, new ones too.
        **dict.fromkeys(set(OPTIONS) - {"cniVersion", "name", "type", ATTACHMENTS_KEY}, JSON),
        "master": NAMES | PATTERNS | st.lists(NAMES | PATTERNS, max_size=3),
        "mode": st.sampled_from(["l2", "l3", "l3s", ""]) | TEXT,
        "flag": st.sampled_from(["bridge", "private", "vepa"]) | TEXT,
        "mtu": st.integers(0, 1500) | NUMBERS,
        "ipam": st.fixed_dictionaries(
            {"type": st.sampled_from(["host-local", "-x", "a b", "static"]) | TEXT}
        ),
        "linkInContainer": st.booleans(),
        "prevResult": RESULTS,
        "dns": JSON,
        "mtuu": JSON,
    },
)
ENVIRONMENTS = st.fixed_dictionaries(
    {
        "CNI_COMMAND": st.sampled_from(VERBS),
        "CNI_CONTAINERID": st.sampled_from(["one", "a.b-c_d"]) | VALUES,
        "CNI_NETNS": st.sampled_from(
            ["/run/netns/c", "/run/netns/-all", "/proc/1/ns/net", "/x y/$(id)", "1", "-x", ""]
        )
        | VALUES,
        "CNI_IFNAME": NAMES.filter(is_possible),
        "CNI_PATH": st.sampled_from(["/cni", "/cni:-x", "-x", "relative", ":", "/a b"]) | VALUES,
    },
    optional={"CNI_ARGS": VALUES, "CNI_NETNS_OVERRIDE": VALUES, "PATH": VALUES},
)
DOCUMENTS = st.dictionaries(TEXT, JSON, max_size=4) | st.fixed_dictionaries(
    {}, optional=dict.fromkeys(OPTIONS, JSON)
)


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have any path lead to a namespace or a plugin, and no process be in another namespace."""

    def find(path: str) -> Namespace:
        if not path.startswith("/"):
            return real(path)
        directory, _, name = path.rpartition("/")
        return Namespace(path, name if directory == "/run/netns" else "", (1, 2))

    real = namespace.find
    monkeypatch.setattr(namespace, "find", find)
    monkeypatch.setattr(namespace, "find_others", lambda _deadline: iter(()))
    monkeypatch.setattr(namespace, "leads_to", lambda _path, _identity: True)
    monkeypatch.setattr("os.path.isfile", is_possible)
    monkeypatch.setattr("os.access", lambda _path, _mode: True)


def encode(document: object) -> bytes:
    return json.dumps(document).encode()


def assert_answer(environment: Mapping[str, str], status: int, printed: list[bytes]) -> None:
    assert len(printed) <= 1
    document: Any = json.loads(printed[0]) if printed else None
    assert len(b"".join(printed)) < MOST_BYTES or status == 0
    if status:
        assert status == 1
        assert document.keys() <= {"cniVersion", "code", "msg", "details"}
        assert document["code"] != INTERNAL, document
        assert document["code"] > 0
        assert document["msg"]
    elif environment["CNI_COMMAND"] == "ADD":
        assert document["ips"] is not None
        assert "code" not in document
    else:
        assert document is None


@MANY
@given(st.binary(max_size=200) | JSON.map(encode) | DOCUMENTS.map(encode), ENVIRONMENTS)
@example(b'{"cniVersion": "1.0.0", "name": NaN}', {"CNI_COMMAND": "DEL"})
@example(b'{"name": "a", "name": "b", "cniVersion": "1.0.0"}', {"CNI_COMMAND": "GC"})
@example(b"[" * 100_000, {"CNI_COMMAND": "ADD"})
@example(b"\xef\xbb\xbf{}", {"CNI_COMMAND": "STATUS"})
@example(b'{"name": "n", "type": "ipvlan"}', {"CNI_COMMAND": "DEL", "CNI_NETNS": ""})
def test_any_input_gets_one_answer(
    fakes: None, tmp_path: Path, stdin: bytes, environment: dict[str, str]
) -> None:
    complete = {**complete_environment("ADD"), **environment}
    assert_answer(complete, *call(complete, stdin, tmp_path, FakeRunner()))


@MANY
@given(ENVIRONMENTS, CONFIGURATIONS, RESULTS | JSON)
def test_no_input_becomes_an_option_or_another_command(
    fakes: None,
    tmp_path: Path,
    environment: dict[str, str],
    configuration: dict[str, Any],
    result: object,
) -> None:
    runner = FakeRunner(result)
    answer = call(environment, encode(configuration), tmp_path, runner)
    assert_answer(environment, *answer)
    assert [command for command in runner.commands if not is_allowed(command)] == []


@MANY
@given(CONFIGURATIONS, RESULTS)
def test_an_add_that_gets_far_runs_only_expected_commands(
    fakes: None, tmp_path: Path, configuration: dict[str, Any], result: dict[str, Any]
) -> None:
    fine = {"name": "net", "mode": "l2", "flag": "bridge", "ipam": {"type": "host-local"}}
    valid = {
        key: value
        for key, value in configuration.items()
        if key not in {"dns", "prevResult"} and is_valid(value, PROPERTIES.get(key, {}))
    }
    conf = {**valid, **fine}
    environment = complete_environment("ADD")
    runner = FakeRunner(result)

    answer = call(environment, encode(conf), tmp_path, runner)

    assert_answer(environment, *answer)
    assume(runner.commands)
    assert [command for command in runner.commands if not is_allowed(command)] == []


def test_the_fake_runner_lets_an_add_come_to_its_end(fakes: None, tmp_path: Path) -> None:
    ips = [{"address": each} for each in ("10.1.0.2/24", "fd00:1::2/64")]
    runner = FakeRunner({"ips": ips, "routes": [{"dst": "::/0"}]})
    stdin = with_defaults({"ipam": {"type": "host-local"}})
    status, _ = call(complete_environment("ADD"), stdin, tmp_path, runner)
    assert (status, runner.commands.count(("/cni/host-local",))) == (0, 1)
    run = {" ".join(command) for command in runner.commands}
    assert "ip -j -d route add ::/0 dev net1" in run
    assert [*(tmp_path / "registry").glob("on-*/*")]


@pytest.mark.parametrize(
    ("verb", "key"), [("GC", ATTACHMENTS_KEY), *sample(product(VERBS, OPTIONS), 11)]
)
def test_size_is_no_trouble(fakes: None, tmp_path: Path, verb: str, key: str) -> None:
    for value in ("x" * 1_000_000, ["y"] * 200_000, 10**4000):  # the most that is read is 1 MiB
        stdin = with_defaults({key: value})
        environment = complete_environment(verb)
        assert_answer(environment, *call(environment, stdin, tmp_path, FakeRunner()))


def with_defaults(options: dict[str, Any]) -> bytes:
    """Return a configuration with these options, and with what each needs."""
    return encode(
        {"cniVersion": "1.1.0", "name": "net", "type": "ipvlan", "master": "eth0", **options}
    )


def complete_environment(verb: str) -> dict[str, str]:
    return call_environment(verb, "/run/netns/c", CNI_PATH="/cni")
