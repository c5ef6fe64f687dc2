"""iproute.namespace: which paths lead to a namespace, and which others there are."""

import pytest

from cni_ipvlan.iproute import namespace
from cni_ipvlan.iproute.namespace import NotANamespaceError


def test_path_that_can_lead_nowhere_leads_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/proc/self/ns")
    for path in ("net", "./net", "", "/a\0b", "/\ud800"):
        assert not namespace.leads_to(path, namespace.own_identity())
    with pytest.raises(NotANamespaceError, match="not an absolute path"):
        namespace.find("net")  # which ip could take for a process
    for missing in ("/no/such/file", "/proc/self/status/x"):
        with pytest.raises(OSError, match=r"No such file|Not a directory"):
            namespace.find(missing)


def test_interface_of_our_own_namespace_is_seen() -> None:
    assert [namespace.own_has_link(name) for name in ("lo", "l", "lo:")] == [True, False, False]


def test_each_other_namespace_is_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    here = namespace.own_identity()
    assert here not in [each.identity for each in namespace.find_others()]
    monkeypatch.setattr(namespace, "own_identity", lambda: (here[0], 0))
    identities = [each.identity for each in namespace.find_others()]
    assert here in identities
    assert len(identities) == len(set(identities))
