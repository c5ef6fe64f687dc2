"""The README's picture shows what the commands print today; where it does not, it is drawn anew."""

import re
from html import escape
from pathlib import Path

import pytest
from command_line import User
from lab import Node
from runtime import network, static

PICTURE = Path(__file__).resolve().parents[2] / "docs/session.svg"
ADD = "ipvlan add -c back.conf --netns db --ifname net2"
LINES = ("ipvlan show", ADD, "ipvlan trace web db | grep -v ^ok")
VOLATILE = re.compile(r"fe80::[0-9a-f:]+")  # different each time


@pytest.mark.slow
def test_picture_shows_what_the_commands_print(node: Node, user: User) -> None:
    node.make_connected_master()
    for number, name in enumerate(("web", "db"), start=2):
        front = network(name="front", flag="private", ipam=static(f"10.1.0.{number}/24"))
        user.write_conf(front, f"{name}.conf")
        node.make_namespace(name)
        user.check_output(f"ipvlan add -c {name}.conf --netns {name} --container-id {name}")
    user.write_conf(network(name="back", mode="l3", ipam=static("10.2.0.2/24")), "back.conf")
    lines: list[str] = []
    for line in LINES:
        printed = user.run(f"{{ {line}; }} 2>&1")[1].splitlines()
        lines += [f"$ {line}", *printed, ""]
    drawn, before = draw(lines[:-1]), PICTURE.read_text(encoding="utf-8")
    if VOLATILE.sub("", drawn) != VOLATILE.sub("", before):
        PICTURE.write_text(drawn, encoding="utf-8")  # which a lab forgets, unless told to keep it
        pytest.fail(f"to draw it anew: scripts/lab-kernel --write docs .venv/bin/pytest {__file__}")


COLUMNS = 118
FONT, HEIGHT, WIDTH, MARGIN = 13, 18, 7.83, 14
# The beginnings of lines, and the colour of each.
STYLES = {
    r"\$ ": "fill:#7ee787;font-weight:bold",
    r"(ipvlan:|problem)": "fill:#ff9492",
    r"(verdict|next):": "fill:#fff;font-weight:bold",
}


def draw(lines: list[str]) -> str:
    width = round(COLUMNS * WIDTH + 2 * MARGIN)
    height = len(lines) * HEIGHT + 2 * MARGIN
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}">',
        f'<g font-family="DejaVu Sans Mono,monospace" font-size="{FONT}" fill="#d1d7e0">',
        '<rect width="100%" height="100%" rx="8" fill="#151b23"/>',
    ]
    for number, line in enumerate(lines, start=1):
        style = next((STYLES[begin] for begin in STYLES if re.match(begin, line)), "")
        attributes = f'x="{MARGIN}" y="{number * HEIGHT + MARGIN - 5}" xml:space="preserve"'
        drawn.append(f'<text {attributes} style="{style}">{escape(line, quote=False)}</text>')
    return "\n".join([*drawn, "</g></svg>", ""])
