"""The commands of the documents: each has its place, and each place is there."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from document_commands import (
    BASH,
    BLOCKS,
    ELSEWHERE,
    NAMES,
    PLACED,
    SHORTENED,
    VALUES,
    WORDS,
    commands,
    typed_in,
)
from documents import ROOT, code

COMMANDS = [command for name in NAMES for command in commands(name)]
NAMED = [command.line for found in typed_in("unit").values() for command in found]


@pytest.mark.parametrize("line", NAMED)
def test_command_that_a_sentence_names_has_a_help(line: str) -> None:
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    done = subprocess.run(
        [*BASH, line], cwd=ROOT, env={"PATH": path}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage: " in done.stdout.lower()


@pytest.mark.parametrize("test", sorted({*BLOCKS.values(), *ELSEWHERE}))
def test_tests_that_execute_commands_are_there(test: str) -> None:
    file, _, name = test.partition("::")
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    assert name in {each.name for each in tree.body if isinstance(each, ast.FunctionDef)}


def test_tables_name_what_is_in_a_document_and_each_once() -> None:
    texts = {command.text for command in COMMANDS if not command.is_only_named}
    assert texts >= {*PLACED, *SHORTENED}
    assert len(PLACED) == len(set(PLACED))
    assert {command.document for command in COMMANDS if command.is_in_block} >= BLOCKS.keys()
    assert {each.text for name in NAMES for each in code(name) if not each.is_block} >= WORDS


def test_words_in_capitals_have_values_and_each_value_stands_somewhere() -> None:
    typed = [command for command in COMMANDS if command.tier]
    assert all(command.line for command in typed)
    assert all(any(word in command.text for command in typed) for word in VALUES)
