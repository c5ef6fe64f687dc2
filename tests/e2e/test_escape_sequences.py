"""Names that strangers chose never control the terminal of the person who looks."""

import json

import pytest
from lab import LEASES, Node, Space, run
from people import Person
from runtime import PLUGINS, host_local, network
from sampling import sample

ODD = "e\x1b[8m\u202e\u009b"  # conceals, turns the direction of writing, starts a sequence
ODD_NETNS = f"n\n{ODD}"


@pytest.fixture
def odd(node: Node, person: Person) -> str:
    """A container, whose file is returned: it, its interface, label and master have odd names."""
    node.master(ODD)
    run("ip", "netns", "add", ODD_NETNS)
    person.writes(network(master=ODD, ipam=host_local("10.1.0.0/24")))
    person.environment |= {"NETNS": ODD_NETNS, "ODD": ODD}
    person.succeeds('ipvlan add -c net.conf --netns "$NETNS" --ifname "$ODD" --container-id one')
    place = f"/run/netns/{ODD_NETNS}"
    label = f"cni-ipvlan/net/other/{ODD}\nforged/key"
    run("ip", "link", "add", "link", ODD, "name", f"{ODD}2", "type", "ipvlan", "mode", "l2")
    run("ip", "link", "set", "dev", f"{ODD}2", "netns", place)
    Space(place).run("ip", "link", "set", "dev", f"{ODD}2", "alias", label)
    lease = LEASES / "networks" / "net" / "10.1.0.77"
    lease.write_text(f"gone{ODD}\r\n{ODD}")
    return place


ABOUT = '-c net.conf --netns "$NETNS"'
LINES = [
    'ipvlan "$ODD"',
    'ipvlan show "--$ODD"',
    "ipvlan show",
    f'ipvlan doctor {ABOUT} --ifname "$ODD"',
    'ipvlan probe --netns "$NETNS" --ifname "$ODD"',
    'ipvlan probe --netns "$NETNS"',
    'ipvlan trace "$NETNS" 10.1.0.9',
    'ipvlan trace "$NETNS" "$ODD"',
    f'ipvlan add {ABOUT} --ifname "$ODD" -v',
    f"ipvlan add {ABOUT} --ifname new -v",
    f"ipvlan add {ABOUT} --ifname new --dry-run",
    f'ipvlan check {ABOUT} --ifname "$ODD" --container-id one --prev-result "$ODD"',
    f'ipvlan del {ABOUT} --ifname "$ODD" --container-id "$ODD"',
    f'ipvlan del {ABOUT} --ifname "${{ODD}}2" --container-id one -v',
    f'ipvlan del {ABOUT} --ifname "$ODD" --container-id one --dry-run',
    "ipvlan status -c lost.conf",
    "ipvlan gc -c net.conf --keep-none -v",
    'ipvlan validate wrong.conf "$ODD"',
    'ipvlan del -c net.conf --netns "$ODD"',
]


def test_no_command_prints_them(odd: str, person: Person) -> None:
    person.writes(network(master=f"{ODD}3"), "lost.conf")
    person.writes(network(mode=ODD, **{ODD: 1}), "wrong.conf")
    for line in sample(LINES, 4):
        _, out, err = person.types(line)
        printed = (out + err).split("\n")
        assert [text for text in printed if not text.isprintable()] == [], line
        assert not any(text.startswith("forged") for text in printed), line
        assert len(printed) > 1, line


def test_a_dry_run_can_be_pasted_and_json_has_them_as_they_are(odd: str, person: Person) -> None:
    printed = person.succeeds("ipvlan show --json")
    assert printed.isascii()
    (master,) = json.loads(printed)["masters"]
    assert master["master"] == ODD
    assert {each["interface"] for each in master["attachments"]} == {ODD, f"{ODD}2"}
    assert {each["netns"] for each in master["attachments"]} == {odd}

    about = f'{ABOUT} --ifname "$ODD" --container-id one'
    script = person.succeeds(f"ipvlan del {about} --dry-run")
    person.succeeds("sh -e", script, CNI_PATH=PLUGINS)

    left = Space(odd).run("ip", "-o", "link", "show", "type", "ipvlan")
    assert f"{ODD}@" not in left
    assert f"{ODD}2@" in left
