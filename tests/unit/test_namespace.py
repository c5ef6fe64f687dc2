"""iproute.namespace: what is a network namespace, and which name it has for ip."""

import os
from pathlib import Path

import pytest

from cni_ipvlan.iproute import namespace
from cni_ipvlan.iproute.namespace import Namespace, NotANamespaceError


def test_network_namespace_of_a_process_is_found() -> None:
    status = os.stat("/proc/self/ns/net")  # noqa: PTH116
    result = namespace.find("/proc/self/ns/net")
    assert result == Namespace("/proc/self/ns/net", "", (status.st_dev, status.st_ino))
    assert result.identity == namespace.own_identity()
    assert result.identity == namespace.find(f"/proc/{os.getpid()}/ns/net").identity
    assert namespace.leads_to(result.path, result.identity)


def test_namespace_whose_path_leads_elsewhere_by_now_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "ns"
    path.symlink_to("/proc/self/ns/net")
    result = namespace.find(str(path))
    assert namespace.leads_to(result.path, result.identity)
    path.unlink()
    assert not namespace.leads_to(result.path, result.identity)
    path.write_text("")
    assert not namespace.leads_to(result.path, result.identity)


def test_path_that_can_lead_nowhere_leads_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/proc/self/ns")
    for path in ("net", "./net", "", "/a\0b", "/\ud800"):
        assert not namespace.leads_to(path, namespace.own_identity())
    with pytest.raises(NotANamespaceError, match="not an absolute path"):
        namespace.find("net")  # which ip could take for a process
    for missing in ("/no/such/file", "/proc/self/status/x"):
        with pytest.raises(OSError, match=r"No such file|Not a directory"):
            namespace.find(missing)


def test_name_is_that_of_a_file_among_the_named(tmp_path: Path) -> None:
    directory = tmp_path / "netns"
    directory.mkdir()
    (directory / "blue").symlink_to("/proc/self/ns/net")
    (tmp_path / "link").symlink_to(directory)
    (tmp_path / "blue").symlink_to("/proc/self/ns/net")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(namespace, "_NAMES_DIRECTORY", str(directory))
        assert namespace.find(str(directory / "blue")).name == "blue"
        assert namespace.find(str(tmp_path / "link" / "blue")).name == "blue"
        assert namespace.find(str(tmp_path / "blue")).name == ""


def test_interface_of_our_own_namespace_is_seen() -> None:
    assert [namespace.own_has_link(name) for name in ("lo", "l", "lo:")] == [True, False, False]


def test_each_other_namespace_is_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    here = namespace.own_identity()
    assert here not in [each.identity for each in namespace.find_others()]
    monkeypatch.setattr(namespace, "own_identity", lambda: (here[0], 0))
    identities = [each.identity for each in namespace.find_others()]
    assert here in identities
    assert len(identities) == len(set(identities))
