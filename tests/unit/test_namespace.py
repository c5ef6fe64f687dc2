"""iproute.namespace: what is a network namespace, and which name it has for ip."""

import os
from pathlib import Path

import pytest

from cni_ipvlan.iproute import namespace
from cni_ipvlan.iproute.namespace import Namespace, NotANamespaceError


def test_network_namespace_of_a_process_is_found() -> None:
    status = os.stat("/proc/self/ns/net")  # noqa: PTH116
    found = namespace.find("/proc/self/ns/net")
    assert found == Namespace("/proc/self/ns/net", "", (status.st_dev, status.st_ino))
    assert found.identity == namespace.own_identity()
    assert found.identity == namespace.find(f"/proc/{os.getpid()}/ns/net").identity
    assert namespace.leads_to(found.path, found.identity)


def test_namespace_whose_path_leads_elsewhere_by_now_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "ns"
    path.symlink_to("/proc/self/ns/net")
    found = namespace.find(str(path))
    assert namespace.leads_to(found.path, found.identity)
    path.unlink()
    assert not namespace.leads_to(found.path, found.identity)
    path.write_text("")
    assert not namespace.leads_to(found.path, found.identity)


def test_path_that_can_lead_nowhere_leads_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/proc/self/ns")
    for path in ("net", "./net", "", "/a\0b", "/\ud800"):
        assert not namespace.leads_to(path, namespace.own_identity())
    with pytest.raises(NotANamespaceError, match="not an absolute path"):
        namespace.find("net")  # which ip could take for a process
    for gone in ("/no/such/file", "/proc/self/status/x"):
        with pytest.raises(OSError, match=r"No such file|Not a directory"):
            namespace.find(gone)


def test_name_is_that_of_a_file_among_the_named(tmp_path: Path) -> None:
    named = tmp_path / "netns"
    named.mkdir()
    (named / "blue").symlink_to("/proc/self/ns/net")
    (tmp_path / "link").symlink_to(named)
    (tmp_path / "blue").symlink_to("/proc/self/ns/net")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(namespace, "_NAMES_DIRECTORY", str(named))
        assert namespace.find(str(named / "blue")).name == "blue"
        assert namespace.find(str(tmp_path / "link" / "blue")).name == "blue"
        assert namespace.find(str(tmp_path / "blue")).name == ""


def test_interface_of_our_own_namespace_is_seen() -> None:
    assert [namespace.own_has_link(name) for name in ("lo", "l", "lo:")] == [True, False, False]


def test_each_other_namespace_is_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    here = namespace.own_identity()
    assert here not in [each.identity for each in namespace.find_others()]
    monkeypatch.setattr(namespace, "own_identity", lambda: (here[0], 0))
    found = [each.identity for each in namespace.find_others()]
    assert here in found
    assert len(found) == len(set(found))
