"""A file that someone else wrote keeps no person waiting who has it validated or used.

tests/unit/cli/test_bounds.py has every form of it; here the command has little time and memory.
"""

import os

import pytest
from person import Person

GOOD = "name: n\ncniVersion: 1.0.0\ntype: ipvlan\nmaster: lo\n"
LARGE = "it is too large, perhaps"
BOMBS = {
    "number": ("mtu: 1" + ":1" * 200_000, "of more than 100 characters"),
    "merges": (
        "a0: &a0 {k0: 1}\n"
        + "".join(f"a{n}: &a{n} {{k{n}: 1, <<: [{f'*a{n - 1}, ' * 9}]}}\n" for n in range(1, 60)),
        LARGE,
    ),
    "aliases": (
        "a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60)),
        LARGE,
    ),
    "brackets": ("x: " + "[" * 300_000, "nested too deeply"),
}
COMMANDS = (
    *("validate FILE", "replay FILE", "status -c FILE"),
    "add --dry-run -c FILE --netns /proc/self/ns/net",
)


@pytest.mark.slow
def test_texts_that_ask_for_much_are_each_refused_in_a_sentence(person: Person) -> None:
    for name, (bomb, _) in BOMBS.items():
        (person.directory / f"{name}.yaml").write_text(GOOD + bomb)
    items = "1," * 1_048_500
    (person.directory / "items.json").write_text(f'{{"type": "ipvlan", "x": [{items}1]}}')
    os.mkfifo(person.directory / "pipe.yaml")
    expected = {f"{name}.yaml": why for name, (_, why) in BOMBS.items()}
    expected |= {"items.json": "$.x: it has 1048501 items; 1000 are read at most"}
    expected |= {"pipe.yaml": "it is not a regular file"}

    # A slow machine's seconds; it has one processor.
    status, out, _ = person.types("ulimit -t 60 -v 1500000; ipvlan validate .")

    assert status == 1
    for name, why in expected.items():
        said = [line for line in out.splitlines() if line.startswith(f"./{name}:")]
        assert [why in line for line in said] == [True], out


@pytest.mark.parametrize("line", COMMANDS)
def test_no_command_opens_what_is_no_file_or_reads_endless_input(person: Person, line: str) -> None:
    os.mkfifo(person.directory / "pipe.yaml")
    expected = dict.fromkeys(("pipe.yaml", "/dev/zero", "/dev/ptmx"), "is not a regular file")
    for file, why in {**expected, "-": "has more than 16 MiB"}.items():
        words = f"timeout 60 ipvlan {line.replace('FILE', file)} </dev/zero"
        status, out, err = person.types(f"ulimit -v 1500000; {words}")

        assert status == (1 if line.startswith("validate") else 2)
        assert f"cannot read {file}: it {why}" in out + err
