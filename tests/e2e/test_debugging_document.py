"""docs/debugging.md is correct: its commands are run, their output is compared."""

import os
import re
from typing import Any, NamedTuple

import document_commands
import pytest
from command_line import User
from lab import LOGS, Node, run
from runtime import Conf, Runtime, host_local, network, static

DOCUMENT = "docs/debugging.md"
COMMANDS = list(document_commands.read_commands(DOCUMENT))
POD = {
    "PATH": os.environ["PATH"],
    "CNI_CONTAINERID": "db",
    "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=db-0",
}
DEFAULT = [{"dst": "0.0.0.0/0"}]
# Parts of the output that differ in each run.
VOLATILE = re.compile(
    r"\d{4}-\d\d-\d\dT[\d:.]+Z|fe80::[0-9a-f:]+|\b(?:iv[a-z2-7]{13}|ipvl[0-9]+)\b|(?:[0-9a-f]{2}:){5}[0-9a-f]{2}"
)


class Section(NamedTuple):
    """What a section finds: configurations, which containers are attached, and which ended."""

    front: Conf
    back: Conf
    attached: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    is_captured: bool = False  # whether the runtime has called ADD of the other one


def conf(name: str, address: str, gateway: str = "", **options: Any) -> Conf:
    routes = DEFAULT if gateway else []
    return network(name=name, ipam=static(address, gateway=gateway, routes=routes), **options)


FRONT = conf("front", "10.1.0.2/24")
BACK = conf("back", "10.2.0.2/24")
SECTIONS = {
    "No network in the pod": Section(conf("front", "10.1.0.2/24", "10.1.0.254"), BACK, ("front",)),
    "Two pods can't talk": Section(
        conf("front", "10.1.0.2/24", flag="private"),
        conf("back", "10.1.0.3/24", flag="private"),
        ("front", "back"),
    ),
    "A pod and its own host can't talk": Section(FRONT, conf("back", "10.1.0.3/24"), ("back",)),
    "ADD fails on one node only": Section({**FRONT, "master": "eth1"}, BACK),
    "A second network on the same interface is refused": Section(
        FRONT, {**BACK, "mode": "l3"}, ("front",)
    ),
    "A route is refused": Section(FRONT, conf("back", "10.2.0.2/24", "10.3.0.1")),
    "Addresses run out, or something seems left over": Section(
        network(name="front", ipam=host_local("10.1.0.0/24")), BACK, ("front",), ("web",)
    ),
    "A call has failed, and is over": Section(
        FRONT, conf("back", "10.1.0.2/24", captureDir="calls"), ("front",), is_captured=True
    ),
}
CONTAINERS = {"front": "web", "back": "db"}


@pytest.mark.parametrize("title", SECTIONS)
def test_commands_print_what_is_shown(node: Node, runtime: Runtime, user: User, title: str) -> None:
    node.make_connected_master().ip("address add 10.1.0.1/24 dev eth0")
    node.host.ip("address add 10.1.0.10/24 dev eth0")
    section = SECTIONS[title]
    user.write_conf(section.front, "front.conf")
    user.write_conf(section.back, "back.conf")
    for name, container in CONTAINERS.items():
        node.make_namespace(container)
        if name in section.attached:
            options = f"-c {name}.conf --netns {container} --container-id {container}"
            user.check_output(f"ipvlan add {options}")
    for container in section.removed:
        run("ip", "netns", "delete", container)
    if section.is_captured:
        (LOGS / "calls").mkdir(0o700)
        runtime.add("/run/netns/db", section.back, **POD).error()
    for line, printed in read_session(title):
        if "--dry-run" in line and "eth1" in section.front["master"]:
            user.write_conf(FRONT, "front.conf")  # corrected as in the text
        status, out, _ = user.run(f"{{ {line}; }} 2>&1")
        output = VOLATILE.sub("…", out).splitlines()
        if not printed:
            assert status == 0, (line, out)
        elif " doctor " in line:
            assert select_problems(output) == printed
        else:
            assert output == printed
        for remedy in re.findall(r"^ +(ip .*)$", out, re.MULTILINE):
            user.check_output(remedy)


def read_session(title: str) -> list[tuple[str, list[str]]]:
    return [
        (command.text, [VOLATILE.sub("…", line) for line in command.printed])
        for command in COMMANDS
        if command.section == title
    ]


def select_problems(lines: list[str]) -> list[str]:
    """Return the lines about problems: those that the document shows."""
    problems = []
    is_problem = False
    for line in lines:
        is_problem = line.startswith("problem ") or (is_problem and line.startswith(" "))
        problems += [line] if is_problem else []
    return problems


def test_every_section_that_shows_something_is_tried() -> None:
    assert {command.section for command in COMMANDS} == SECTIONS.keys()
