"""Names that strangers chose never control the terminal of the person who looks."""

import json

import pytest
from command_line import User
from lab import LEASES, Namespace, Node, run
from runtime import PLUGINS, host_local, network
from sampling import sample

ODD = "e\x1b[8m\u202e\u009b"  # conceals, turns the direction of writing, starts a sequence
ODD_NETNS = f"n\n{ODD}"


@pytest.fixture
def odd(node: Node, user: User) -> str:
    """A container, whose file is returned: it, its interface, label and master have odd names."""
    node.make_master(ODD)
    run("ip", "netns", "add", ODD_NETNS)
    user.write_conf(network(master=ODD, ipam=host_local("10.1.0.0/24")))
    user.environment |= {"NETNS": ODD_NETNS, "ODD": ODD}
    user.check_output('ipvlan add -c net.conf --netns "$NETNS" --ifname "$ODD" --container-id one')
    place = f"/run/netns/{ODD_NETNS}"
    label = f"cni-ipvlan/net/other/{ODD}\nforged/key"
    run("ip", "link", "add", "link", ODD, "name", f"{ODD}2", "type", "ipvlan", "mode", "l2")
    run("ip", "link", "set", "dev", f"{ODD}2", "netns", place)
    Namespace(place).run("ip", "link", "set", "dev", f"{ODD}2", "alias", label)
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


def test_no_command_prints_them(odd: str, user: User) -> None:
    user.write_conf(network(master=f"{ODD}3"), "lost.conf")
    user.write_conf(network(mode=ODD, **{ODD: 1}), "wrong.conf")
    for line in sample(LINES, 4):
        _, out, err = user.run(line)
        printed = (out + err).split("\n")
        assert [text for text in printed if not text.isprintable()] == [], line
        assert not any(text.startswith("forged") for text in printed), line
        assert len(printed) > 1, line


def test_a_dry_run_can_be_pasted_and_json_has_them_as_they_are(odd: str, user: User) -> None:
    printed = user.check_output("ipvlan show --json")
    assert printed.isascii()
    (master,) = json.loads(printed)["masters"]
    assert master["master"] == ODD
    assert {each["interface"] for each in master["attachments"]} == {ODD, f"{ODD}2"}
    assert {each["netns"] for each in master["attachments"]} == {odd}

    about = f'{ABOUT} --ifname "$ODD" --container-id one'
    script = user.check_output(f"ipvlan del {about} --dry-run")
    user.check_output("sh -e", script, CNI_PATH=PLUGINS)

    left = Namespace(odd).run("ip", "-o", "link", "show", "type", "ipvlan")
    assert f"{ODD}@" not in left
    assert f"{ODD}2@" in left
