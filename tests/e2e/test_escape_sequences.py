"""Names that containers choose never send escape sequences to a user's terminal."""

import pytest
from command_line import User
from lab import LEASES, NetNS, Node, run
from runtime import host_local, network
from sampling import sample

ESCAPES = "e\x1b[8m\u202e\u009b"  # conceals, turns the direction of writing, starts a sequence
ODD_NETNS = f"n\n{ESCAPES}"


@pytest.fixture
def _odd_names(node: Node, user: User) -> None:
    """Attach a container with escape sequences in each name."""
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


@pytest.mark.usefixtures("_odd_names")
def test_no_command_prints_them(user: User) -> None:
    user.write_conf(network(master=f"{ESCAPES}3"), "lost.conf")
    user.write_conf(network(mode=ESCAPES, **{ESCAPES: 1}), "wrong.conf")
    for line in sample(LINES, 4):
        _, out, err = user.run(line)
        printed = (out + err).split("\n")
        assert [text for text in printed if not text.isprintable()] == [], line
        assert not any(text.startswith("forged") for text in printed), line
        assert len(printed) > 1, line
