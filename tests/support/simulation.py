"""A node for random steps, after each of which its state is compared with the model."""

import shutil
import time
from collections import Counter
from collections.abc import Collection, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import faulty
import lab
from faulty import Faults, KillAt
from lab import NETNS_DIRECTORY
from model import Model, Slave, View, Where, read_view
from pools import NETWORKS, Key, Network, install_gc_ipam
from runtime import Answer, Conf, call_environment, stdin_of

NAMESPACES = ("pod0", "pod1", "pod2")
MASTERS = {"eth0": "10.7.0.1/24", "eth1": "10.8.0.1/24"}  # the address that the host has on each
_TRIES = 20  # of getting the same inode again


class Simulation:
    """A node with two masters and a few containers; ``counts`` says how often what has happened."""

    def __init__(self, directory: Path, counts: Counter[str]) -> None:
        self._counts = counts
        self._path = install_gc_ipam(directory)
        self._stack = ExitStack()
        self._node = self._stack.enter_context(lab.make_node())
        self._make_masters(MASTERS)
        self._inodes: dict[str, int] = {}
        self._manual_links = 0
        self.model = Model(self._read_view())
        for namespace in NAMESPACES:
            self.make_namespace(namespace)

    def close(self) -> None:
        self._stack.close()

    # Calls.

    def add(self, key: Key, namespace: str, kill: KillAt | None = None) -> None:
        network = NETWORKS[key.network]
        obstacles = self.model.find_obstacles(network, key, namespace)
        is_doubtful = self.model.is_doubtful(network, key, namespace)
        before = self.model.view
        answer = self._call_verb("ADD", key, namespace, network.conf_of_add(key), kill)
        self._update_model(key)
        if key not in self.model.attachments or answer is None or answer.status == 0:
            self.model.namespaces.setdefault(key, set()).add(namespace)
        may_remove = key in self.model.uncertain  # ADD may remove what a killed call has left
        if answer is None:
            assert may_remove or before.is_part_of(self.model.view)
            self.model.uncertain.add(key)
        elif answer.status:
            assert self.model.view.is_part_of(before), (key, answer)
            assert may_remove or self.model.view == before, (key, answer)
            assert obstacles or is_doubtful, (key, answer)
            self._counts.update(f"ADD refused: {each}" for each in obstacles)
        else:
            assert not obstacles, (key, answer)
            self._counts["added"] += 1
            self._check_added(key, namespace, answer.result(), before)
        self._check_owners()

    def delete(self, key: Key) -> None:
        """Delete an attachment in each namespace that its calls were given."""
        self._counts["deleted"] += 1
        for namespace in sorted(self.model.namespaces[key]):
            self._call_delete(key, namespace)
        self._check_deleted(key)

    def delete_again(self, key: Key, namespace: str) -> None:
        """Delete an attachment that does not exist: at most a VLAN goes that nothing uses."""
        before = self.model.view
        self._counts["deleted again"] += 1
        self._call_delete(key, namespace)
        assert self.model.view.is_part_of(before)
        assert self.model.view._replace(shared=before.shared) == before

    def delete_and_kill(self, key: Key, kill: KillAt) -> None:
        namespace = min(self.model.namespaces[key])
        self._call_verb("DEL", key, namespace, NETWORKS[key.network].conf, kill)
        self._update_model(key)
        self.model.attachments.pop(key, None)
        self.model.uncertain.add(key)
        self._check_owners()

    def check(self, key: Key) -> None:
        attachment = self.model.attachments[key]
        conf = {**NETWORKS[key.network].conf, "prevResult": attachment.result}
        answer = self._call_verb("CHECK", key, attachment.slave.namespace, conf)
        self._update_model()
        assert answer is not None
        if self.model.is_as_added(key):
            self._counts["checked"] += 1
            answer.succeeds()
        else:
            self._counts["check failed"] += 1
            answer.error()

    def collect_garbage(self, network: Network, kill: KillAt | None = None) -> None:
        """Call GC with all attachments of a network as valid whose namespace still exists."""
        current, uncertain = self.model.attachments, self.model.uncertain
        gone = {key for key in current if key.network == network.name and self.model.is_gone(key)}
        valid = {key for key in current if key.network == network.name} - gone
        answer = self._call_gc(network, valid, kill)
        for key in gone:
            del current[key]
        if answer is None:
            uncertain |= gone
        else:
            answer.succeeds()
            self._counts["collected"] += 1
            self._counts["collected of a namespace that is gone"] += len(gone)
            assert {*self.model.view.leases.values()}.isdisjoint(gone)
        self._check_owners()

    def _call_gc(
        self, network: Network, valid: Collection[Key], kill: KillAt | None
    ) -> Answer | None:
        environment = {"CNI_COMMAND": "GC", "CNI_PATH": self._path}
        answer = self._serve(environment, network.conf_of_gc(valid), kill)
        self.model.apply_call(
            self._read_view(), lambda key: key.network == network.name and key not in valid
        )
        new = self.model.assign_new(None)
        assert not new
        return answer

    def _call_delete(self, key: Key, namespace: str) -> None:
        answer = self._call_verb("DEL", key, namespace, NETWORKS[key.network].conf)
        self._update_model(key)
        assert answer is not None
        answer.succeeds()

    def _call_verb(
        self, verb: str, key: Key, namespace: str, conf: Conf, kill: KillAt | None = None
    ) -> Answer | None:
        identity = {"CNI_CONTAINERID": key.container_id, "CNI_IFNAME": key.ifname}
        identity["CNI_PATH"] = self._path
        path = str(NETNS_DIRECTORY / namespace)
        return self._serve(call_environment(verb, path, **identity), conf, kill)

    def _serve(self, environment: dict[str, str], conf: Conf, kill: KillAt | None) -> Answer | None:
        """Return the answer, or None if the call was killed."""
        if kill is None:
            return faulty.call(environment, stdin_of(conf), Faults())
        answer = faulty.call_or_die(environment, stdin_of(conf), kill)
        self._counts[f"{environment['CNI_COMMAND']} killed"] += answer is None
        return answer

    def _update_model(self, *keys: Key) -> None:
        """Tell the model of a call about these attachments; new slaves belong to the first."""
        self.model.apply_call(self._read_view(), keys.__contains__)
        new = self.model.assign_new(keys[0] if keys else None)
        assert len(new) <= len(keys), new

    def _check_added(self, key: Key, namespace: str, result: dict[str, Any], before: View) -> None:
        network = NETWORKS[key.network]
        ((where, slave),) = self.model.view.slaves.items() - before.slaves.items()
        addresses = tuple(ip["address"] for ip in result["ips"])
        expected = (namespace, key.ifname, network.master, network.mode)
        assert slave == Slave(*expected, is_up=True, addresses=addresses)
        leased = {each.partition("/")[0] for each in addresses if network.has_pool}
        assert self.model.view.leases_of(key) == leased
        assert self.model.view.routes_of(key) == (leased if "hostAccess" in network.conf else set())
        self.model.record_added(key, where, result)

    def _check_deleted(self, key: Key) -> None:
        remaining = self.model.slaves_of(key)
        assert remaining.keys() <= self.model.moved, (key, remaining)
        assert not self.model.view.leases_of(key) | self.model.view.routes_of(key), key
        self.model.record_deleted(key)
        self._check_owners()

    def _check_owners(self) -> None:
        view, keys = self.model.view, {*self.model.attachments, *self.model.uncertain}
        assert {owner for _, owner in view.claims} <= keys
        networks = [NETWORKS[key.network] for key in keys]
        with_host = {network.master for network in networks if "hostAccess" in network.conf}
        for name, link in view.shared.items():
            is_used = link.master in with_host if link else view.slaves_on(name)
            assert is_used or name in {each.master for each in networks}, (name, keys)

    # Steps that are not calls.

    def remove_namespace(self, namespace: str) -> None:
        lab.run("ip", "netns", "delete", namespace)
        self.model.apply_removal(namespace, self._read_view())

    def make_namespace(self, namespace: str) -> None:
        """Make a namespace, if possible with the inode that the former one of this name had."""
        for _ in range(_TRIES):
            container = self._node.make_namespace(namespace)
            inode = (NETNS_DIRECTORY / namespace).stat().st_ino
            is_reused = self._inodes.setdefault(namespace, inode) == inode
            if is_reused:
                self._counts["inodes used again"] += 1
                break
            self._node.remove(container)
            time.sleep(0.01)
        else:
            self._node.make_namespace(namespace)
        self._inodes[namespace] = (NETNS_DIRECTORY / namespace).stat().st_ino
        self.model.record_namespace(namespace)

    def change_link(self, slave: Slave, words: str) -> None:
        self._counts["changed by hand"] += 1
        lab.NetNS(str(NETNS_DIRECTORY / slave.namespace)).ip(words)
        self.model.apply_change(self._read_view())

    def move_link(self, where: Where, namespace: str, name: str) -> None:
        self._counts["moved by hand"] += 1
        slave = self.model.view.slaves[where]
        words = f"link set dev {slave.name} netns {NETNS_DIRECTORY / namespace} name {name}"
        lab.NetNS(str(NETNS_DIRECTORY / slave.namespace)).ip(words)
        self.model.apply_move(where, self._read_view())

    def make_link(self, master: str, mode: str, flag: str, namespace: str) -> None:
        """Make an interface, whose mode the kernel gives to all slaves of the master."""
        self._manual_links += 1
        self._counts["made by hand"] += 1
        name = f"hand{self._manual_links}"
        host = self._node.host
        host.ip(f"link add link {master} name {name} type ipvlan mode {mode} {flag}")
        if namespace in self.model.existing:
            host.ip(f"link set dev {name} netns {NETNS_DIRECTORY / namespace}")
        self.model.apply_change(self._read_view())
        self.model.assign_new(None)

    def replace_masters(self, names: Collection[str]) -> None:
        """Remove masters and make them again; without any, restart the node."""
        self._counts["masters lost" if names else "rebooted"] += 1
        if not names:
            for namespace in sorted(self.model.existing):
                self.remove_namespace(namespace)
            shutil.rmtree(lab.RECORDS, ignore_errors=True)
        for name in names or MASTERS:
            self._node.host.ip(f"link delete dev {name}")
        self._make_masters(names or MASTERS)
        self.model.apply_change(self._read_view())

    def delete_all(self) -> None:
        """Delete every attachment; assert that nothing is left."""
        for key in sorted(self.model.namespaces):
            self.delete(key)
        remaining = {*self.model.view.slaves} - self.model.moved - {*self.model.slaves_of(None)}
        assert not remaining
        assert self.model.view.leases == {}
        assert not [name for name in self._node.host.links() if name.startswith("iv")]
        assert all(self.model.view.slaves_on(name) for name in self.model.view.shared)
        # A note of the mode stays while the master carries slaves that were moved away.
        notes = [path.name for path in lab.find_records() if path.is_file() and path != lab.LOCKS]
        assert not [name for name in notes if not name.startswith("mode")]
        for slave in self.model.view.slaves.values():
            lab.NetNS(str(NETNS_DIRECTORY / slave.namespace)).ip(f"link delete dev {slave.name}")
        self.model.apply_change(self._read_view())
        network = next(each for each in NETWORKS.values() if each.has_gc and "vlan" in each.conf)
        lab.wait_until(lambda: self._is_empty_after_gc(network))

    def _is_empty_after_gc(self, network: Network) -> bool:
        answer = self._call_gc(network, [], None)
        assert answer is not None
        answer.succeeds()
        return lab.find_records() == [] and not self.model.view.shared

    def _make_masters(self, masters: Iterable[str]) -> None:
        for name in masters:
            self._node.make_master(name)
            self._node.host.ip(f"address add {MASTERS[name]} dev {name}")

    def _read_view(self) -> View:
        return read_view(self._node.host)
