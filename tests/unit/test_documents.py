"""README.md and docs/ list the options, codes and versions there are; links lead somewhere."""

import json
import re
from configparser import ConfigParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import documents
import pytest

from cni_ipvlan.cni import SUPPORTED_VERSIONS, errors
from cni_ipvlan.config import netconf
from cni_ipvlan.plugin import codes

ROOT = documents.ROOT
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
ERRORS = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
SCHEMA: dict[str, Any] = json.loads(
    Path(netconf.__file__).with_name("netconf.schema.json").read_text(encoding="utf-8")
)


def table(text: str, first_heading: str) -> list[list[str]]:
    """Return the rows of the table whose first column has that heading."""
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith(f"| {first_heading} |"):
            break
    next(lines)  # the line below the headings
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def type_of(name: str) -> str:
    rule = SCHEMA["properties"][name]
    if "enum" in rule:
        words = ", ".join(f"`{value}`" for value in rule["enum"] if value)
    elif "type" not in rule:
        words = "any"
    else:
        kinds = [rule["type"]] if isinstance(rule["type"], str) else rule["type"]
        words = " or ".join(kind for kind in kinds if kind != "null")
    if "maximum" in rule:
        words += f", {rule['minimum']} to {rule['maximum']}"
    return words + (", required" if name in SCHEMA["required"] else "")


OPTIONS = {row[0].strip("`"): row for row in table(CONFIGURATION, "option")}
CODES = {
    name: value
    for module in (errors, codes)
    for name, value in vars(module).items()
    if name.isupper() and type(value) is int
}


def test_every_option_of_the_schema_is_listed_with_its_type_default_and_an_example() -> None:
    assert list(OPTIONS) == list(SCHEMA["properties"])
    for name, rule in SCHEMA["properties"].items():
        assert OPTIONS[name][1] == type_of(name)
        if "default" in rule:
            default = rule["default"]
            words = default if isinstance(default, str) else json.dumps(default)
            assert OPTIONS[name][2] == f"`{words}`"
        example = json.loads(f"{{{OPTIONS[name][4].strip('`')}}}")
        assert list(example)[-1] == name
        assert netconf.find_problems({"name": "n", "type": "ipvlan", **example}) == []
    versions = re.findall(r"\d\.\d\.\d", OPTIONS["cniVersion"][3])
    assert tuple(versions) == SUPPORTED_VERSIONS


def test_badges_are_true() -> None:
    setup = ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    python = setup["options"]["python_requires"].removeprefix(">=")
    assert re.findall(r"!\[(.*?)\]\(https://img", README) == [
        f"Licence {setup['metadata']['license']}",
        f"Python {python} or newer",
        f"CNI {SUPPORTED_VERSIONS[0]} to {SUPPORTED_VERSIONS[-1]}",
    ]


@pytest.mark.parametrize("name", documents.NAMES)
def test_configurations_in_documents_are_valid(name: str) -> None:
    for block in documents.code(name):
        document = json.loads(block.text) if block.language == "json" else {}
        if document.get("type") == "ipvlan":
            assert netconf.find_problems(document) == []
            assert netconf.find_suspicious_keys(document) == []


def test_every_error_code_is_explained_once_and_no_other_is() -> None:
    rows = table(ERRORS, "code")
    assert [(int(row[0]), row[1]) for row in rows] == [
        (value, name) for name, value in sorted(CODES.items(), key=lambda item: item[1])
    ]
    assert all(len(row) == 4 and all(row) for row in rows)
    # Codes differ, and our own start at 100.
    assert len(set(CODES.values())) == len(CODES)
    assert {value for value in CODES.values() if value < 100} == {1, 2, 3, 4, 5, 6, 7, 11, 50, 51}


@pytest.mark.parametrize("name", documents.NAMES)
def test_links_within_the_project_lead_somewhere(name: str) -> None:
    for link in documents.links(name):
        address = urlsplit(link)
        if address.scheme:
            continue
        path = (ROOT / name).parent / address.path if address.path else ROOT / name
        assert path.exists(), link
        if address.fragment:
            target = str(path.resolve().relative_to(ROOT))
            assert address.fragment in documents.anchors(target), link


def test_the_files_that_documents_name_are_there() -> None:
    pattern = r"`((?:cni_ipvlan|deploy|examples|packaging|scripts|tests)/[\w./-]+|test_\w+\.py)`"
    missing = [
        (name, file)
        for name in documents.NAMES
        for file in re.findall(pattern, (ROOT / name).read_text(encoding="utf-8"))
        if not ((ROOT / file).exists() or [*ROOT.glob(f"tests/*/{file}")])
    ]
    assert missing == []
