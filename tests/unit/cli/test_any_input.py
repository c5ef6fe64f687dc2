"""Whatever the command line is given, it answers with sentences and 0, 1 or 2."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import ipvlan
from grammar import is_possible
from hypothesis import given, settings
from hypothesis import strategies as st

from cni_ipvlan.cli.options import is_json_wanted

FILE = "FILE"  # stands for the file whose content is made up
HERE = "/proc/self/ns/net"
STATIC = {"type": "static", "addresses": [{"address": "10.1.0.2/24"}], "routes": [{"dst": "::/0"}]}
VALID = {"cniVersion": "1.0.0", "name": "net", "type": "ipvlan", "master": "lo", "ipam": STATIC}
UNUSUAL = [
    *("", "-", "--", "-c", "a/b", "a\nb", "ü", "\ud800", "\udcff", "\x1b[31m", "1", "net"),
    "9" * 30,
]
WORDS = st.sampled_from(UNUSUAL) | st.text(max_size=8)
KEYS = st.sampled_from(
    [*VALID, "mode", "flag", "mtu", "dns", "plugins", "prevResult", "kind", "items"]
)
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS
    | st.sampled_from(["static", "host-local", "l2", "10.0.0.0/8", "fd00::1/64", "ipvlan", "List"])
)  # fmt: skip
OPTIONS_OF_IPAM = st.sampled_from(
    ["type", "addresses", "address", "routes", "dst", "gw", "gateway", "ranges", "subnet", "items"]
)
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(KEYS | OPTIONS_OF_IPAM, inner, max_size=4)
    ),
    max_leaves=8,
)


def change(key: str, value: Any, *, in_ipam: bool) -> dict[str, Any]:
    return {**VALID, "ipam": {**STATIC, key: value}} if in_ipam else {**VALID, key: value}


CONFIGS = st.builds(change, KEYS | OPTIONS_OF_IPAM, DOCUMENTS, in_ipam=st.booleans()) | DOCUMENTS


def surroundings(config: Any, name: Any, source: str) -> Any:
    """Return a configuration, or what Kubernetes may hold."""
    if source == "a file":
        return config
    text = json.dumps(config) if source == "a text" else config
    kind = "NetworkAttachmentDefinition"
    return {"kind": kind, "metadata": {"name": name}, "spec": {"config": text}}


SOURCES = st.sampled_from(["a file", "a text", "an object"])
WRITERS = st.sampled_from([json.dumps, yaml.safe_dump])
CONTENTS = (
    st.binary(max_size=60)
    | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.builds(
        lambda write, document: write(document).encode("utf-8", "surrogatepass"),
        WRITERS,
        st.builds(surroundings, CONFIGS, SCALARS, SOURCES),
    )
)
# Commands that change nothing, whatever follows them.
COMMANDS = st.sampled_from(
    """\
    validate FILE
    validate FILE --json
    add --dry-run -c FILE --netns HERE
    add --dry-run -c FILE --netns HERE --ipam-result FILE
    add --dry-run -c FILE --netns HERE --prev-result FILE
    del --dry-run -c FILE --netns HERE --container-id a
    check -c FILE --netns HERE --container-id a --prev-result FILE
    add --dry-run --json -c FILE --netns HERE
    gc --dry-run -c FILE a/b
    gc --dry-run --json -c FILE a/b
    doctor -c FILE --cni-path /nowhere
    --dry-run
    --dry-run --json""".replace("HERE", HERE).splitlines()
).map(str.split)
ARGUMENTS = WORDS.filter(is_possible)
OPTIONS = st.sampled_from(
    [
        *("--netns", "--ifname", "--container-id", "--cni-path", "--args", "--network"),
        *("--prev-result", "--ipam-result", "--keep-none", "--json", "--dry-run", "-c", "-v"),
    ]
)


@pytest.fixture(autouse=True, scope="module")
def variables() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CNI_NETNS_OVERRIDE", "1")
        patch.setenv("CNI_PATH", "/nowhere")
        yield


def check(arguments: list[str], content: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "file")
        file.write_bytes(content)
        words = [str(file) if word == FILE else word for word in arguments]
        status, out, err = ipvlan(*words)
    assert status in (0, 1, 2)
    assert not [each for each in ("Traceback", "internal error") if each in err]
    if is_json_wanted(arguments):
        assert isinstance(json.loads(out), dict)
        assert "ipvlan: " not in err
    elif status == 2:
        assert "ipvlan: " in err


@settings(max_examples=250)
@given(COMMANDS, CONTENTS)
def test_no_content_of_a_file_is_too_odd(arguments: list[str], content: bytes) -> None:
    check(arguments, content)


@settings(max_examples=120)
@given(COMMANDS, st.lists(st.tuples(OPTIONS, ARGUMENTS) | st.tuples(ARGUMENTS), max_size=3))
def test_no_argument_is_too_odd(arguments: list[str], options: list[tuple[str, ...]]) -> None:
    words = [word for pair in options for word in pair]
    check([*arguments, *words], json.dumps(VALID).encode())
