"""Names that containers choose never send escape sequences to a user's terminal."""

import json

import pytest
from command_line import User
from lab import LEASES, NetNS, Node, run
from runtime import PLUGINS, host_local, network
from sampling import sample

ESCAPES = "e\x1b[8m\u202e\u009b"  # conceals, turns the direction of writing, starts a sequence
ODD_NETNS = f"n\n{ESCAPES}"


@pytest.fixture
def namespace_path(node: Node, user: User) -> str:
    """Attach a container with escape sequences in each name; return the path of its namespace."""
    node.make_master(ESCAPES)
    run("ip", "netns", "add", ODD_NETNS)
    user.write_conf(network(master=ESCAPES, ipam=host_local("10.1.0.0/24")))
    user.environment |= {"NETNS": ODD_NETNS, "ODD": ESCAPES}
    user.check_output('ipvlan add -c net.conf --netns "$NETNS" --ifname "$ODD" --container-id one')
    path = f"/run/netns/{ODD_NETNS}"
    label = f"cni-ipvlan/net/other/{ESCAPES}\nforged/key"
    run("ip", "link", "add", "link", ESCAPES, "name", f"{ESCAPES}2", "type", "ipvlan", "mode", "l2")
    run("ip", "link", "set", "dev", f"{ESCAPES}2", "netns", path)
    NetNS(path).run("ip", "link", "set", "dev", f"{ESCAPES}2", "alias", label)
    lease = LEASES / "networks" / "net" / "10.1.0.77"
    lease.write_text(f"gone{ESCAPES}\r\n{ESCAPES}")
    return path


OPTIONS = '-c net.conf --netns "$NETNS"'
LINES = [
    'ipvlan "$ODD"',
    'ipvlan show "--$ODD"',
    "ipvlan show",
    f'ipvlan doctor {OPTIONS} --ifname "$ODD"',
    'ipvlan probe --netns "$NETNS" --ifname "$ODD"',
    'ipvlan probe --netns "$NETNS"',
    'ipvlan trace "$NETNS" 10.1.0.9',
    'ipvlan trace "$NETNS" "$ODD"',
    f'ipvlan add {OPTIONS} --ifname "$ODD" -v',
    f"ipvlan add {OPTIONS} --ifname new -v",
    f"ipvlan add {OPTIONS} --ifname new --dry-run",
    f'ipvlan check {OPTIONS} --ifname "$ODD" --container-id one --prev-result "$ODD"',
    f'ipvlan del {OPTIONS} --ifname "$ODD" --container-id "$ODD"',
    f'ipvlan del {OPTIONS} --ifname "${{ODD}}2" --container-id one -v',
    f'ipvlan del {OPTIONS} --ifname "$ODD" --container-id one --dry-run',
    "ipvlan status -c lost.conf",
    "ipvlan gc -c net.conf --keep-none -v",
    'ipvlan validate wrong.conf "$ODD"',
    'ipvlan del -c net.conf --netns "$ODD"',
]


def test_no_command_prints_them(namespace_path: str, user: User) -> None:
    user.write_conf(network(master=f"{ESCAPES}3"), "lost.conf")
    user.write_conf(network(mode=ESCAPES, **{ESCAPES: 1}), "wrong.conf")
    for line in sample(LINES, 4):
        _, out, err = user.run(line)
        printed = (out + err).split("\n")
        assert [text for text in printed if not text.isprintable()] == [], line
        assert not any(text.startswith("forged") for text in printed), line
        assert len(printed) > 1, line


def test_dry_run_can_be_pasted_and_json_has_them_verbatim(namespace_path: str, user: User) -> None:
    printed = user.check_output("ipvlan show --json")
    assert printed.isascii()
    (master,) = json.loads(printed)["masters"]
    assert master["master"] == ESCAPES
    assert {each["interface"] for each in master["attachments"]} == {ESCAPES, f"{ESCAPES}2"}
    assert {each["netns"] for each in master["attachments"]} == {namespace_path}

    options = f'{OPTIONS} --ifname "$ODD" --container-id one'
    script = user.check_output(f"ipvlan del {options} --dry-run")
    user.check_output("sh -e", script, CNI_PATH=PLUGINS)

    links = NetNS(namespace_path).run("ip", "-o", "link", "show", "type", "ipvlan")
    assert f"{ESCAPES}@" not in links
    assert f"{ESCAPES}2@" in links
