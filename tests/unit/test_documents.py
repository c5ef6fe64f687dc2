"""README.md and docs/: what they list exists, and they list everything."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import documents
import pytest

import cni_ipvlan
from cni_ipvlan import __version__
from cni_ipvlan.cni import errors
from cni_ipvlan.cni.version import SUPPORTED_VERSIONS
from cni_ipvlan.config import netconf
from cni_ipvlan.plugin import codes

ROOT = documents.ROOT
README = (ROOT / "README.md").read_text(encoding="utf-8")
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8")
SECURITY = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
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
    """Word an option's type as the README does."""
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


OPTIONS = {row[0].strip("`"): row for row in table(README, "option")}
CODES = {
    name: value
    for module in (errors, codes)
    for name, value in vars(module).items()
    if name.isupper() and type(value) is int
}


def test_readme_lists_every_option_of_the_schema_and_no_other() -> None:
    assert list(OPTIONS) == list(SCHEMA["properties"])


@pytest.mark.parametrize("name", SCHEMA["properties"])
def test_readme_has_each_options_type(name: str) -> None:
    assert OPTIONS[name][1] == type_of(name)


@pytest.mark.parametrize(
    "name", [name for name, rule in SCHEMA["properties"].items() if "default" in rule]
)
def test_readme_has_each_options_default(name: str) -> None:
    default = SCHEMA["properties"][name]["default"]
    words = default if isinstance(default, str) else json.dumps(default)
    assert OPTIONS[name][2] == f"`{words}`"


def test_readme_lists_the_versions() -> None:
    listed = re.findall(r"\d\.\d\.\d", OPTIONS["cniVersion"][3])
    assert tuple(listed) == SUPPORTED_VERSIONS


def test_every_error_code_is_explained_once_and_no_other_is() -> None:
    rows = table(ERRORS, "code")
    assert [(int(row[0]), row[1]) for row in rows] == [
        (value, name) for name, value in sorted(CODES.items(), key=lambda item: item[1])
    ]
    assert all(len(row) == 4 and all(row) for row in rows)


def test_codes_differ_and_our_own_start_at_100() -> None:
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


@pytest.mark.parametrize(
    "path",
    sorted(
        set(
            re.findall(
                r"\b(?:scripts|examples|docs|tests|cni_ipvlan)/[\w./-]+\w",
                README + SECURITY + CONTRIBUTING,
            )
        )
    ),
)
def test_files_that_documents_name_are_there(path: str) -> None:
    assert (ROOT / path).exists()


def test_readme_links_to_every_document() -> None:
    linked = {urlsplit(link).path for link in documents.links("README.md")}
    assert {"LICENSE", *documents.NAMES} - {"README.md"} <= linked


def test_what_a_cluster_adds_to_a_clone_leaves_its_version_clean() -> None:
    added = re.search(
        r"^# ([\w-]+/)kustomization.yaml$", (ROOT / "docs/cluster.md").read_text(), re.MULTILINE
    )
    assert added
    assert added[1] in (ROOT / ".gitignore").read_text().splitlines()


def test_testing_document_has_every_tier_of_scripts_test() -> None:
    tiers = re.findall(r"^  (\w+) +\w", (ROOT / "scripts/test").read_text(), re.MULTILINE)
    rows = table((ROOT / "docs/testing.md").read_text(encoding="utf-8"), "tier")
    assert [row[0].strip("`") for row in rows] == tiers


def test_changelog_has_the_usual_form() -> None:
    versions = re.split(r"^## ", CHANGELOG, flags=re.MULTILINE)[1:]
    assert versions[0].startswith("[Unreleased]\n")
    for version in versions:
        assert re.match(r"\[(Unreleased|\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d)", version)
        kinds = re.findall(r"^### (\w+)$", version, flags=re.MULTILINE)
        order = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]
        assert kinds == [kind for kind in order if kind in kinds]
    assert f" {__version__}, " in versions[0] or f"\n## [{__version__}]" in CHANGELOG


def test_the_structure_has_every_package_and_no_other() -> None:
    shown = re.findall(r"^ {4}(\w+)(?:\.py|/) ", CONTRIBUTING, flags=re.MULTILINE)
    package = Path(cni_ipvlan.__file__).parent
    rooms = {path.stem for path in package.iterdir() if path.suffix == ".py" or has_code(path)}
    assert sorted(shown) == sorted(rooms - {"__init__"})


def has_code(path: Path) -> bool:
    return any(path.glob("*.py"))


def test_the_worked_example_of_an_option_is_in_each_place_it_names() -> None:
    places = [row[0].strip("`") for row in table(CONTRIBUTING, "place")]
    assert len(places) == 5
    for place in places:
        path = ROOT / place
        sources = path.glob("*.py") if path.is_dir() else [path]
        words = ("checkIPv4Conflict", "check_ipv4_conflict", "arping_duplicate")
        assert any(word in source.read_text("utf-8") for source in sources for word in words), place


def test_every_block_is_in_a_language_of_which_it_is_known_whether_it_is_typed() -> None:
    code = [code for name in documents.NAMES for code in documents.code(name)]
    languages = {each.language for each in code if each.is_block}
    assert languages <= {"sh", "ini", "json", "text", "yaml"}


@pytest.mark.parametrize("name", documents.NAMES)
def test_tests_that_documents_name_are_there(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    for path in re.findall(r"\b(?:tests/[\w/]+/)?test_\w+\.py\b", text):
        assert any(ROOT.glob(path if "/" in path else f"tests/**/{path}")), path


def test_page_about_nodes_marks_everything_as_tested_by_what_or_quoted() -> None:
    found = [piece for piece in documents.pieces("docs/node.md") if piece[0] != "fence"]
    for (_, before), (kind, text) in pairwise(found):
        if kind == "heading":
            continue
        marks = re.findall(
            r"\*\*(quoted|tested|measured|not tested)\*\*(.{,80})",
            f"{before} {text}" if kind.endswith("list") else text,
            re.IGNORECASE,
        )
        assert marks, text
        assert all("tests/" in what for mark, what in marks if mark.lower() == "tested"), text


def test_licence_is_where_reuse_looks_for_it_as_well() -> None:
    assert (ROOT / "LICENSES/Apache-2.0.txt").read_bytes() == (ROOT / "LICENSE").read_bytes()
