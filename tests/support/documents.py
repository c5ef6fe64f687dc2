"""README.md and docs/, read with a parser of Markdown: headings, links, code, commands."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[2]
_FILES = (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"))
NAMES = sorted(str(path.relative_to(ROOT)) for path in _FILES)
_PARSER = MarkdownIt("commonmark").enable("table")


class Code(NamedTuple):
    """A block of code, and its language."""

    text: str
    section: str
    language: str


@cache
def tokens(name: str) -> list[Token]:
    return parse((ROOT / name).read_text(encoding="utf-8"))


def parse(markdown: str) -> list[Token]:
    return _PARSER.parse(markdown)


def text_of(token: Token) -> str:
    return "".join(each.content for each in token.children or [] if each.type != "html_inline")


def headings(name: str) -> list[str]:
    nodes = tokens(name)
    return [text_of(nodes[at + 1]) for at, each in enumerate(nodes) if each.type == "heading_open"]


def anchors(name: str) -> set[str]:
    words = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings(name))
    return {each.replace(" ", "-") for each in words}


def links(name: str) -> list[str]:
    return targets(tokens(name))


def targets(parsed: list[Token]) -> list[str]:
    return [
        str(child.attrs.get("href") or child.attrs["src"])
        for token in parsed
        for child in token.children or []
        if child.type in {"link_open", "image"}
    ]


def code(name: str) -> Iterator[Code]:
    """Return the blocks of code, in their order."""
    section = ""
    for at, token in enumerate(tokens(name)):
        if token.type == "heading_open" and token.tag == "h2":
            section = text_of(tokens(name)[at + 1])
        elif token.type == "fence":
            yield Code(token.content, section, token.info)
        elif token.type == "code_block":
            yield Code(token.content, section, "sh")
