"""The columns of show, on terminals of different widths."""

from typing import Any

import pytest

from cni_ipvlan.cli import output
from cni_ipvlan.cli.show import table

ROW: dict[str, Any] = {
    "interface": "net1",
    "netns": "/var/run/netns/cni-8f9bd5d8-1d8f-4d2b-8c39-0c5a7c1f9a11",
    "hostAccess": False,
    "containerID": "0123456789abcdef" * 4,
    "pod": "default/web-0",
    "up": True,
    "addresses": ["10.1.0.2/24", "fd00::2/64", "fe80::1/64"],
    "problems": ["no lease"],
}
MASTER = {"master": "eth1000", "up": True, "mode": "l2", "flag": "bridge", "attachments": [ROW]}
FOUND = {"masters": [MASTER], "leftovers": []}


def test_all_is_printed_where_there_is_no_terminal() -> None:
    _, line = table.lines(FOUND)
    assert line == (
        "net1       default/web-0  cni-8f9bd5d8-1d8f-4d2b-8c39-0c5a7c1f9a11  "
        "10.1.0.2/24 fd00::2/64  l2 bridge  eth1000  no lease"
    )


@pytest.mark.parametrize("columns", [80, 100, 110])
def test_columns_fit_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "is_terminal", lambda **_: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    head, line = table.lines(FOUND)
    assert max(map(len, (head, line))) <= columns
    assert line.startswith("net1 ")
    assert line.endswith("  no lease")
    assert "…" in line
