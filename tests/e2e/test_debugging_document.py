"""docs/debugging.md is correct: its commands are run, their output is compared."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from runtime import network, static

if TYPE_CHECKING:
    from lab import Node
    from person import Person
    from runtime import Conf

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "debugging.md"
DEFAULT = [{"dst": "0.0.0.0/0"}]
# What is different each time.
VOLATILE = re.compile(r"fe80::[0-9a-f:]+|\biv[a-z2-7]{13}\b")


class Section(NamedTuple):
    """What a section finds: the configurations, and what goes before it."""

    front: Conf
    back: Conf
    before: str


def back(**options: Any) -> Conf:
    return network(name="back", ipam=static("10.2.0.2/24"), **options)


SECTIONS = {
    "The pod never starts": Section(network(name="front", master="eth1"), back(), ""),
    "A second network on the same interface is refused": Section(
        network(name="front"),
        back(mode="l3"),
        "ipvlan add -c front.conf --netns web --container-id web",
    ),
    "A route is refused": Section(
        network(name="front"),
        network(name="back", ipam=static("10.2.0.2/24", gateway="10.3.0.1", routes=DEFAULT)),
        "",
    ),
}


@pytest.mark.parametrize("title", SECTIONS)
def test_commands_of_a_section_print_what_it_shows(node: Node, person: Person, title: str) -> None:
    node.master()
    for name in ("web", "db"):
        node.namespace(name)
    section = SECTIONS[title]
    person.writes(section.front, "front.conf")
    person.writes(section.back, "back.conf")
    person.succeeds(section.before)
    typed = commands(title)
    assert typed
    for line, printed in typed:
        if title == "The pod never starts" and "--dry-run" in line:
            person.writes(network(name="front"), "front.conf")  # corrected as in the text
        status, out, err = person.types(line)
        shown = VOLATILE.sub("…", out + err).splitlines()
        if not printed:
            assert status == 0, (line, out, err)
        elif " doctor " in line:
            assert problems(shown) == printed
        else:
            assert shown == printed


def commands(title: str) -> list[tuple[str, list[str]]]:
    """Return what a section of the document types, and what each prints."""
    text = DOCUMENT.read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    found: list[tuple[str, list[str]]] = []
    for line in re.findall(r"^    (.*)$", text, re.MULTILINE):
        if line.startswith("$ "):
            found.append((line.removeprefix("$ "), []))
        else:
            found[-1][1].append(VOLATILE.sub("…", line))
    return found


def problems(shown: list[str]) -> list[str]:
    """Return the lines about problems: those that the document shows."""
    found = []
    is_problem = False
    for line in shown:
        is_problem = line.startswith("problem ") or (is_problem and line.startswith(" "))
        found += [line] if is_problem else []
    return found


def test_every_section_that_shows_something_is_tried() -> None:
    titles = re.findall(r"^## (.*)$", DOCUMENT.read_text(), re.MULTILINE)
    assert {title for title in titles if commands(title)} == SECTIONS.keys()
