"""A file that someone else wrote keeps no person waiting who has it validated or used."""

import os

import pytest
from person import Person

GOOD = "name: n\ncniVersion: 1.0.0\ntype: ipvlan\nmaster: lo\n"
BOMBS = {
    "a number": "mtu: 1" + ":1" * 200_000,
    "merges": "a0: &a0 {k0: 1}\n"
    + "".join(f"a{n}: &a{n} {{k{n}: 1, <<: [{f'*a{n - 1}, ' * 9}]}}\n" for n in range(1, 60)),
    "aliases": "a0: &a0 [1]\n"
    + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60)),
    "brackets": "x: " + "[" * 300_000,
}


@pytest.mark.parametrize("bomb", list(BOMBS))
@pytest.mark.parametrize(
    "line", ["validate FILE", "validate .", "add --dry-run -c FILE --netns /proc/self/ns/net"]
)
def test_a_text_that_asks_for_much_is_refused_in_a_sentence(
    person: Person, bomb: str, line: str
) -> None:
    (person.directory / "net.yaml").write_text(GOOD + BOMBS[bomb])
    limit = "ulimit -t 20 -v 1500000; ipvlan "  # a slow machine's seconds; it has one processor

    status, out, err = person.types(limit + line.replace("FILE", "net.yaml"))

    assert status == (2 if line.startswith("add") else 1)
    assert any(
        why in out + err
        for why in ("it is too large, perhaps", "nested too deeply", "of more than 100 characters")
    )


def test_many_items_of_json_are_refused_in_a_sentence(person: Person) -> None:
    items = "1," * 1_048_500
    (person.directory / "net.json").write_text(f'{{"type": "ipvlan", "x": [{items}1]}}')

    status, out, _ = person.types("ulimit -t 20 -v 700000; ipvlan validate net.json")

    assert (status, "$.x: it has 1048501 items; 1000 are read at most" in out) == (1, True)


@pytest.mark.parametrize("file", ["pipe.yaml", "/dev/zero", "/dev/ptmx"])
@pytest.mark.parametrize("line", ["validate FILE", "replay FILE", "status -c FILE"])
def test_what_is_no_file_is_not_opened(person: Person, line: str, file: str) -> None:
    os.mkfifo(person.directory / "pipe.yaml")

    status, out, err = person.types(f"timeout 60 ipvlan {line.replace('FILE', file)}")

    assert status == (1 if line.startswith("validate") else 2)
    assert f"cannot read {file}: it is not a regular file" in out + err


def test_a_pipe_in_a_directory_keeps_nothing_waiting(person: Person) -> None:
    os.mkfifo(person.directory / "pipe.yaml")
    (person.directory / "net.yaml").write_text(GOOD)

    status, out, _ = person.types("timeout 60 ipvlan validate .")

    assert status == 1
    assert "cannot read ./pipe.yaml: it is not a regular file" in out


@pytest.mark.parametrize(
    "line", ["validate -", "add --dry-run -c - --netns /proc/self/ns/net", "replay -"]
)
def test_endless_input_is_not_read_to_its_end(person: Person, line: str) -> None:
    status, out, err = person.types(f"ulimit -v 1500000; ipvlan {line} </dev/zero")

    assert status == (1 if line.startswith("validate") else 2)
    assert "cannot read -: it has more than 16 MiB" in out + err
