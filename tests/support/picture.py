"""A terminal session as an SVG, which forges show."""

import re
from html import escape

COLUMNS = 118
FONT, HEIGHT, WIDTH, MARGIN = 13, 18, 7.83, 14
# What a line begins with, and how it is drawn.
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
        place = f'x="{MARGIN}" y="{number * HEIGHT + MARGIN - 5}" xml:space="preserve"'
        drawn.append(f'<text {place} style="{style}">{escape(line, quote=False)}</text>')
    return "\n".join([*drawn, "</g></svg>", ""])
