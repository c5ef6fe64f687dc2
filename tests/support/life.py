"""A node whose every step is compared with what a careful runtime expects."""

import shutil
import time
from collections import Counter
from collections.abc import Collection, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import faulty
import lab
from faulty import DiesAt, Faults
from lab import NAMED
from model import Ledger, Slave, View, Where, look
from pools import NETWORKS, Key, Network, install_taught
from runtime import Answer, Conf, call_environment, stdin_of

PLACES = ("pod0", "pod1", "pod2")
MASTERS = {"eth0": "10.7.0.1/24", "eth1": "10.8.0.1/24"}  # and what address the host has there
_TRIES = 20  # to get an inode again


class Life:
    """A node with two masters and a few containers; ``told`` counts what has happened."""

    def __init__(self, directory: Path, told: Counter[str]) -> None:
        self._told = told
        self._path = install_taught(directory)
        self._stack = ExitStack()
        self._node = self._stack.enter_context(lab.node())
        self._make(MASTERS)
        self._inodes: dict[str, int] = {}
        self._hands = 0
        self.ledger = Ledger(self._look())
        for place in PLACES:
            self.begin(place)

    def throw_away(self) -> None:
        self._stack.close()

    # Calls.

    def add(self, key: Key, place: str, death: DiesAt | None = None) -> None:
        network = NETWORKS[key.network]
        obstacles = self.ledger.obstacles(network, key, place)
        is_doubtful = self.ledger.is_doubtful(network, key, place)
        before = self.ledger.view
        answer = self._call("ADD", key, place, network.conf_of_add(key), death)
        self._settle(key)
        if key not in self.ledger.living or answer is None or answer.status == 0:
            self.ledger.begun(key, place)
        takes_over = key in self.ledger.unsure  # what a call that died has left of it may go
        if answer is None:
            assert takes_over or before.is_part_of(self.ledger.view)
            self.ledger.unsure.add(key)
        elif answer.status:
            assert self.ledger.view.is_part_of(before), (key, answer)
            assert takes_over or self.ledger.view == before, (key, answer)
            assert obstacles or is_doubtful, (key, answer)
            self._told.update(f"ADD refused: {each}" for each in obstacles)
        else:
            assert not obstacles, (key, answer)
            self._told["added"] += 1
            self._added(key, place, answer.result(), before)
        self._assert_all_has_owners()

    def delete(self, key: Key) -> None:
        """Delete it wherever its calls have been."""
        self._told["deleted"] += 1
        for place in sorted(self.ledger.places[key]):
            self._delete(key, place)
        self._deleted(key)

    def delete_again(self, key: Key, place: str) -> None:
        """Delete what was never added, or is deleted: nothing changes."""
        before = self.ledger.view
        self._told["deleted again"] += 1
        self._delete(key, place)
        assert self.ledger.view == before

    def delete_and_die(self, key: Key, death: DiesAt) -> None:
        place = min(self.ledger.places[key])
        self._call("DEL", key, place, NETWORKS[key.network].conf, death)
        self._settle(key)
        self.ledger.living.pop(key, None)
        self.ledger.unsure.add(key)
        self._assert_all_has_owners()

    def check(self, key: Key) -> None:
        attachment = self.ledger.living[key]
        conf = {**NETWORKS[key.network].conf, "prevResult": attachment.result}
        answer = self._call("CHECK", key, attachment.slave.place, conf)
        self._settle()
        assert answer is not None
        if self.ledger.is_as_added(key):
            self._told["checked"] += 1
            answer.succeeds()
        else:
            self._told["check failed"] += 1
            answer.error()

    def collect(self, network: Network, death: DiesAt | None = None) -> None:
        """Collect all but what is living; what is living in a namespace that is gone, too."""
        living, unsure = self.ledger.living, self.ledger.unsure
        gone = {key for key in living if key.network == network.name and self.ledger.is_gone(key)}
        valid = {key for key in living if key.network == network.name} - gone
        answer = self._collect(network, valid, death)
        for key in gone:
            del living[key]
        if answer is None:
            unsure |= gone
        else:
            answer.succeeds()
            self._told["collected"] += 1
            self._told["collected of a namespace that is gone"] += len(gone)
            assert {*self.ledger.view.leases.values()}.isdisjoint(gone)
        self._assert_all_has_owners()

    def _collect(
        self, network: Network, valid: Collection[Key], death: DiesAt | None
    ) -> Answer | None:
        environment = {"CNI_COMMAND": "GC", "CNI_PATH": self._path}
        answer = self._serve(environment, network.conf_of_gc(valid), death)
        self.ledger.called(
            self._look(), lambda key: key.network == network.name and key not in valid
        )
        new = self.ledger.made(None)
        assert not new
        return answer

    def _delete(self, key: Key, place: str) -> None:
        answer = self._call("DEL", key, place, NETWORKS[key.network].conf)
        self._settle(key)
        assert answer is not None
        answer.succeeds()

    def _call(
        self, verb: str, key: Key, place: str, conf: Conf, death: DiesAt | None = None
    ) -> Answer | None:
        about = {"CNI_CONTAINERID": key.container_id, "CNI_IFNAME": key.ifname}
        about["CNI_PATH"] = self._path
        return self._serve(call_environment(verb, str(NAMED / place), **about), conf, death)

    def _serve(
        self, environment: dict[str, str], conf: Conf, death: DiesAt | None
    ) -> Answer | None:
        """Return the answer, or None if the call was killed."""
        if death is None:
            return faulty.call(environment, stdin_of(conf), Faults())
        answer = faulty.call_or_die(environment, stdin_of(conf), death)
        self._told[f"{environment['CNI_COMMAND']} killed"] += answer is None
        return answer

    def _settle(self, *keys: Key) -> None:
        """A call about these attachments has ended; what is new belongs to the first."""
        self.ledger.called(self._look(), keys.__contains__)
        new = self.ledger.made(keys[0] if keys else None)
        assert len(new) <= len(keys), new

    def _added(self, key: Key, place: str, result: dict[str, Any], before: View) -> None:
        network = NETWORKS[key.network]
        ((where, slave),) = self.ledger.view.slaves.items() - before.slaves.items()
        addresses = tuple(ip["address"] for ip in result["ips"])
        about = (place, key.ifname, network.master, network.mode)
        assert slave == Slave(*about, is_up=True, addresses=addresses)
        leased = {each.partition("/")[0] for each in addresses if network.has_pool}
        assert self.ledger.view.leased_by(key) == leased
        assert self.ledger.view.routed_to(key) == (
            leased if "hostAccess" in network.conf else set()
        )
        self.ledger.added(key, where, result)

    def _deleted(self, key: Key) -> None:
        left = self.ledger.owned(key)
        assert left.keys() <= self.ledger.moved, (key, left)
        assert not self.ledger.view.leased_by(key) | self.ledger.view.routed_to(key), key
        self.ledger.deleted(key)
        self._assert_all_has_owners()

    def _assert_all_has_owners(self) -> None:
        view, known = self.ledger.view, {*self.ledger.living, *self.ledger.unsure}
        assert {owner for _, owner in view.claims} <= known
        networks = [NETWORKS[key.network] for key in known]
        with_host = {network.master for network in networks if "hostAccess" in network.conf}
        for name, link in view.shared.items():
            is_used = link.master in with_host if link else view.on(name)
            assert is_used or name in {each.master for each in networks}, (name, known)

    # What happens to namespaces, and what is done by hand.

    def end(self, place: str) -> None:
        lab.run("ip", "netns", "delete", place)
        self.ledger.ended(place, self._look())

    def begin(self, place: str) -> None:
        """Make a namespace, with the inode of the one before if the kernel gives it again."""
        for _ in range(_TRIES):
            space = self._node.namespace(place)
            inode = (NAMED / place).stat().st_ino
            is_again = self._inodes.setdefault(place, inode) == inode
            if is_again:
                self._told["inodes used again"] += 1
                break
            self._node.remove(space)
            time.sleep(0.01)
        else:
            self._node.namespace(place)
        self._inodes[place] = (NAMED / place).stat().st_ino
        self.ledger.began(place)

    def change(self, slave: Slave, words: str) -> None:
        self._told["changed by hand"] += 1
        lab.Space(str(NAMED / slave.place)).ip(words)
        self.ledger.changed_by_hand(self._look())

    def move(self, where: Where, place: str, name: str) -> None:
        self._told["moved by hand"] += 1
        slave = self.ledger.view.slaves[where]
        words = f"link set dev {slave.name} netns {NAMED / place} name {name}"
        lab.Space(str(NAMED / slave.place)).ip(words)
        self.ledger.moved_by_hand(where, self._look())

    def make_by_hand(self, master: str, mode: str, flag: str, place: str) -> None:
        """The kernel gives the new mode to all that the master carries."""
        self._hands += 1
        self._told["made by hand"] += 1
        name = f"hand{self._hands}"
        host = self._node.host
        host.ip(f"link add link {master} name {name} type ipvlan mode {mode} {flag}")
        if place in self.ledger.present:
            host.ip(f"link set dev {name} netns {NAMED / place}")
        self.ledger.changed_by_hand(self._look())
        self.ledger.made(None)

    def lose(self, masters: Collection[str]) -> None:
        """Have masters go, and come back; without any, the node starts anew."""
        self._told["masters lost" if masters else "rebooted"] += 1
        if not masters:
            for place in sorted(self.ledger.present):
                self.end(place)
            shutil.rmtree(lab.MEMORY, ignore_errors=True)
        for name in masters or MASTERS:
            self._node.host.ip(f"link delete dev {name}")
        self._make(masters or MASTERS)
        self.ledger.changed_by_hand(self._look())

    def end_well(self) -> None:
        """When every attachment is deleted, nothing is left."""
        for key in sorted(self.ledger.places):
            self.delete(key)
        left = {*self.ledger.view.slaves} - self.ledger.moved - {*self.ledger.owned(None)}
        assert not left
        assert self.ledger.view.leases == {}
        assert not [name for name in self._node.host.links() if name.startswith("iv")]
        assert all(self.ledger.view.on(name) for name in self.ledger.view.shared)
        # A mode stays noted, beside the locks, while a master carries what was moved away.
        kept = [path.name for path in lab.records() if path.is_file() and path != lab.LOCKS]
        assert not [name for name in kept if not name.startswith("mode")]
        for slave in self.ledger.view.slaves.values():
            lab.Space(str(NAMED / slave.place)).ip(f"link delete dev {slave.name}")
        self.ledger.changed_by_hand(self._look())
        network = next(each for each in NETWORKS.values() if each.has_gc and "vlan" in each.conf)
        lab.wait_until(lambda: self._is_empty_after_gc(network))

    def _is_empty_after_gc(self, network: Network) -> bool:
        answer = self._collect(network, [], None)
        assert answer is not None
        answer.succeeds()
        return lab.records() == [] and not self.ledger.view.shared

    def _make(self, masters: Iterable[str]) -> None:
        for name in masters:
            self._node.master(name)
            self._node.host.ip(f"address add {MASTERS[name]} dev {name}")

    def _look(self) -> View:
        return look(self._node.host)
