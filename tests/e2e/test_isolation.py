"""Nothing in the caller's surroundings changes what the command does."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from executable import Executable
from runtime import call_environment, network, stdin_of
from scene import Scene

EVIL_MODULES = ("sitecustomize", "json", "os", "sh", "click", "site", "cni_ipvlan", "encodings")
EVIL = {
    **dict.fromkeys(("PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "HOME"), "{evil}"),
    **dict.fromkeys(("PYTHONSTARTUP", "ENV", "BASH_ENV"), "{evil}/os.py"),
    "PYTHONPLATLIBDIR": "{evil}",
    "PYTHONEXECUTABLE": "/bin/false",
    "PYTHONINSPECT": "1",
    "PYTHONVERBOSE": "1",
    "PYTHONWARNINGS": "error",
    "PYTHONOPTIMIZE": "2",
    "PYTHONBREAKPOINT": "os.abort",
    "PYTHONIOENCODING": "utf-16",
    "IFS": "/",
    "CDPATH": "/",
    "PATH": "/nonexistent:relative::",
}
ENVIRONMENTS: dict[str, dict[str, str]] = {
    "nothing but CNI": {},
    "all of it evil": EVIL,
    "a locale": {"LC_ALL": "C", "LANG": "tlh_KX", "PYTHONUTF8": "0", "LANGUAGE": "de", "PATH": ""},
}


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory of modules that leave a trace when they are loaded; it must not be there."""
    directory = tmp_path_factory.mktemp("evil")
    trace = directory / "trace"
    packages = Path(f"python{sys.version_info.major}.{sys.version_info.minor}", "site-packages")
    for below in ("", "lib" / packages, "lib" / packages.parent, ".local/lib" / packages):
        (directory / below).mkdir(parents=True, exist_ok=True)
        for name in EVIL_MODULES:
            text = f"open({str(trace)!r}, 'w')\nraise SystemExit\n"
            (directory / below / f"{name}.py").write_text(text)
    yield directory
    assert not trace.exists()


@pytest.mark.parametrize("case", ENVIRONMENTS)
def test_no_environment_or_current_directory_changes_what_an_add_does(
    scene: Scene, ipvlan: Executable, evil: Path, case: str
) -> None:
    extra = {key: value.format(evil=evil) for key, value in ENVIRONMENTS[case].items()}
    name = scene.node.master("ünï")  # whatever the locale, names are in UTF-8

    environment = call_environment("ADD", scene.one, CNI_IFNAME=name, **extra)
    answer = ipvlan.start(environment, stdin_of(network(master=name)), directory=evil).end()

    result = answer.result()
    assert result["interfaces"][0]["name"] == name
    assert result["ips"] == [{"interface": 0, "address": "10.1.0.2/24"}]
    assert scene.one.addresses(name) == ["10.1.0.2/24"]
    assert answer.stderr == ""


def test_the_ipam_plugin_gets_the_callers_environment_and_stdin_as_they_are(scene: Scene) -> None:
    ipam = scene.ipam(ips=["10.1.0.2/24"])
    stdin = stdin_of(network(ipam=ipam, args={"x": "ü"})) + b"\n  "
    environment = call_environment(
        "ADD",
        scene.one,
        CNI_PATH=f"/nonexistent:{scene.fake.path}",
        CNI_ARGS="K8S_POD_NAME=pod;IgnoreUnknown=1",
        HTTP_PROXY="http://proxy.example",
        PYTHONPATH="/somewhere",
    )

    scene.runtime.raw(stdin, environment).result()

    got = scene.fake.environment("ADD")
    assert {name: got.get(name) for name in environment} == environment
    assert scene.fake.stdin("ADD") == stdin
