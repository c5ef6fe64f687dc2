"""What a call of a runtime may import: a budget by name, for time depends on the machine."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(sysconfig.get_paths()["purelib"])
MAIN = ROOT / "cni_ipvlan" / "__main__.py"

# What the interpreter has imported before it comes to us.
_PROBE = "import os, sys; print(*sys.modules)"

# json and sh need these, whatever we do; with names of each Python from 3.10 on.
STANDARD_LIBRARY = {
    *("_blake2", "_collections", "_functools", "_heapq", "_json", "_operator", "_queue", "_sre"),
    *(
        "_locale",
        "_struct",
        "_weakrefset",
        "atexit",
        "binascii",
        "collections",
        "contextlib",
        "copyreg",
    ),
    *("errno", "enum", "fcntl", "functools", "gc", "heapq", "itertools", "json", "json.decoder"),
    *("json.encoder", "json.scanner", "keyword", "math", "operator", "pwd", "queue", "re"),
    *("re._casefix", "re._compiler", "re._constants", "re._parser", "reprlib", "select", "shlex"),
    *("signal", "sre_compile", "sre_constants", "sre_parse", "struct", "termios", "threading"),
    *("types", "warnings", "weakref", "collections.abc", "__future__", "_opcode_metadata"),
    *("_signal", "_thread", "_weakref", "time", "_collections_abc"),
}
OURS = {
    "ADD": {
        *("plugin.add", "plugin.addressing", "plugin.configure", "plugin.links", "plugin.master"),
        *("plugin.modes", "plugin.preflight"),
        *("cni.result", "config.quick_check"),
    },
    "CHECK": {
        *("plugin.addressing", "plugin.check", "plugin.master", "plugin.preflight"),
        *("cni.result", "config.quick_check"),
    },
    "DEL": {"plugin.delete", "plugin.links"},
    "GC": {"plugin.gc", "plugin.links"},
    # The last where the kernel has no ipvlan.
    "STATUS": {
        *("plugin.master", "plugin.preflight", "plugin.status"),
        *("config.quick_check", "iproute.machine"),
    },
}
OURS_ALWAYS = {
    *("_namedtuple", "entry", "log"),
    *("cni", "cni.delegate", "cni.errors", "cni.protocol", "cni.request", "cni.strict_json"),
    *("cni.version", "cni.versions"),
    *("config", "config.netconf"),
    *("iproute", "iproute._sh", "iproute.causes", "iproute.commands", "iproute.namespace"),
    *("iproute.queries", "iproute.runner", "iproute.transaction"),
    *("plugin", "plugin.explain", "plugin.ipam", "plugin.node"),
    *("state", "state.locks", "state.registry"),
}


def imported(verb: str, stdin: str, cni_path: Path = Path("/nonexistent")) -> set[str]:
    """The modules that a call imports over those of a bare interpreter."""
    python = [sys.executable, "-IS", "-X", "utf8"]
    bare = subprocess.run([*python, "-c", _PROBE], capture_output=True, text=True, check=True)
    environment = {
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": "c",
        "CNI_NETNS": "/nonexistent",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": str(cni_path),
    }
    ran = subprocess.run(
        [*python, "-X", "importtime", str(MAIN)],
        env=environment,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in ran.stderr.splitlines() if line.startswith("import time:")]
    names = {line.rpartition("|")[2].strip() for line in lines[1:]}
    return names - set(bare.stdout.split())


def config(verb: str) -> str:
    """A configuration without faults, so that all of a call's modules are needed."""
    document: dict[str, object] = {
        "cniVersion": "1.1.0",
        "name": "net",
        "type": "ipvlan",
        "master": "lo",
        "ipam": {"type": "static"},
        "cni.dev/valid-attachments": [],
    }
    if verb == "CHECK":
        document["prevResult"] = {"cniVersion": "1.1.0", "interfaces": [], "ips": []}
    return json.dumps(document)


@pytest.mark.parametrize("verb", sorted(OURS))
def test_a_call_imports_what_it_needs_and_no_more(verb: str, tmp_path: Path) -> None:
    ipam = tmp_path / "static"
    ipam.write_text("#!/bin/sh\n")
    ipam.chmod(0o755)
    names = imported(verb, config(verb), tmp_path)
    ours = {name.removeprefix("cni_ipvlan.") for name in names if name.startswith("cni_ipvlan.")}
    assert ours <= OURS_ALWAYS | OURS[verb]
    others = {name for name in names if not name.startswith("cni_ipvlan")}
    assert "sh" in others
    allowed = STANDARD_LIBRARY | {"sh", "ipaddress", "importlib"}
    assert others - allowed == set()


def test_version_imports_next_to_nothing() -> None:
    names = imported("VERSION", '{"cniVersion": "1.0.0"}')
    assert {name for name in names if name.startswith("cni_ipvlan.")} == {
        "cni_ipvlan.cni",
        "cni_ipvlan.cni.version",
        "cni_ipvlan.cni.versions",
        "cni_ipvlan.entry",
        "cni_ipvlan._namedtuple",
    }
    assert {name.partition(".")[0] for name in names if not name.startswith("cni_ipvlan")} <= {
        *("__future__", "_collections", "collections", "gc", "itertools", "keyword", "operator"),
        *("_operator", "reprlib", "_collections_abc"),
    }


def test_a_faulty_configuration_is_explained_with_jsonschema() -> None:
    names = imported("ADD", '{"cniVersion": "1.0.0", "name": "n", "type": "ipvlan", "mtu": "x"}')
    assert "jsonschema" in names
