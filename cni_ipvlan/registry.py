"""What this node remembers of its attachments: locks, and hints at modes.

A directory on tmpfs, for root alone, with two kinds of empty or small files:

``lock-KEY``
    held (flock) by the call that works on an attachment; gone when none does.
``mode-NAMESPACE.MASTER.MODE.FLAG-KEY``
    a container on that master (namespace inode, interface index) runs in that
    mode. It holds the container's ID, interface and namespace. The kernel is
    asked before anybody is refused because of it.

KEY is an attachment's, see ``attachment_key``.
"""

from __future__ import annotations

import json
import os
from contextlib import contextmanager, suppress

from cni_ipvlan import locks
from cni_ipvlan.locks import BusyError
from cni_ipvlan.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

try:
    # hashlib's own, without the library of ciphers that importing hashlib loads.
    from _blake2 import blake2b
except ImportError:
    from hashlib import blake2b

DIRECTORY = "/run/cni-ipvlan"

_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_NETWORK_CHARACTERS = 5
_ATTACHMENT_CHARACTERS = 8
KEY_CHARACTERS = _NETWORK_CHARACTERS + _ATTACHMENT_CHARACTERS
_OPEN_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW


class Witness(NamedTuple):
    """A container that is remembered to run in a mode on a master."""

    file: str
    mode: str
    flag: str
    container_id: str
    ifname: str
    netns: str
    netns_identity: tuple[int, int]

    @property
    def key(self) -> str:
        """The attachment's key."""
        return self.file.rpartition("-")[2]


def attachment_key(network: str, container_id: str, ifname: str) -> str:
    """Return the 13 characters that identify an attachment; they start with its network's."""
    return network_key(network) + _digest(f"{container_id}\0{ifname}", _ATTACHMENT_CHARACTERS)


def network_key(network: str) -> str:
    """Return the 5 characters that a network's attachment keys start with."""
    return _digest(network, _NETWORK_CHARACTERS)


class Registry:
    """The directory. Every method raises OSError when the directory is unusable."""

    def __init__(self, directory: str = DIRECTORY) -> None:
        self._directory = directory

    @contextmanager
    def attachment_lock(
        self, key: str, check: Callable[[], None], *, strict: bool
    ) -> Iterator[None]:
        """Hold an attachment's lock: one call at a time for one container and interface.

        Commands started meanwhile inherit it, so that one which outlives a
        killed call still keeps the next call waiting. ``check`` is called while
        waiting, to raise when the wait should end. Raises BusyError in the end.
        When ``strict`` is false, goes on without a lock that can't be had,
        unless a living call has it.
        """
        path = os.path.join(self._directory, f"lock-{key}")
        descriptor = self._lock_file(path, check, strict=strict)
        if descriptor is None:
            yield
            self._remove(path)  # who has it belongs to a call that is dead
            return
        os.set_inheritable(descriptor, True)  # noqa: FBT003 - its signature
        try:
            yield
        finally:
            self._release(path, descriptor)

    @contextmanager
    def idle(self, key: str) -> Iterator[bool]:
        """Hold an attachment's lock if no call has it; yield whether it is held."""
        path = os.path.join(self._directory, f"lock-{key}")
        descriptor = self._claim(path)
        if descriptor is None:
            yield False
            return
        try:
            yield True
        finally:
            self._release(path, descriptor)

    @contextmanager
    def mode_lock(self, check: Callable[[], None]) -> Iterator[None]:
        """Hold the lock under which a master's mode is decided: one call at a time on a node."""
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | _OPEN_FLAGS)
        try:
            locks.acquire(descriptor, check, "other calls are still creating their interfaces")
            yield
        finally:
            os.close(descriptor)

    def is_live(self, key: str) -> bool:
        """Whether a call works on the attachment at this moment."""
        try:
            descriptor = os.open(
                os.path.join(self._directory, f"lock-{key}"), os.O_RDWR | _OPEN_FLAGS
            )
        except FileNotFoundError:
            return False
        try:
            return not locks.try_acquire(descriptor)
        finally:
            os.close(descriptor)

    def witnesses(self, master: tuple[int, int]) -> Iterator[Witness]:
        """Yield the containers remembered on a master (namespace inode, interface index).

        One after the other: the first often tells enough, and there may be a thousand.
        """
        prefix = f"mode-{master[0]}.{master[1]}."
        for name in self._names():
            witness = self._read(name) if name.startswith(prefix) else None
            if witness is not None:
                yield witness

    def containers(self) -> dict[tuple[str, tuple[int, int]], str]:
        """Return the IDs of all remembered containers, by interface and namespace identity."""
        found = [self._read(name) for name in self._names() if name.startswith("mode-")]
        return {(each.ifname, each.netns_identity): each.container_id for each in found if each}

    def master_index(self, key: str) -> int | None:
        """Return the interface index of an attachment's master, if it is remembered."""
        for name in self._names():
            if name.startswith("mode-") and name.endswith(f"-{key}"):
                return int(name.split(".")[1])
        return None

    def remember(
        self,
        key: str,
        master: tuple[int, int],
        witness: Witness,
    ) -> None:
        """Note that an attachment runs in a mode on a master."""
        name = f"mode-{master[0]}.{master[1]}.{witness.mode}.{witness.flag}-{key}"
        content = json.dumps(witness._replace(file=name)._asdict()).encode()
        path = os.path.join(self._directory, name)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _OPEN_FLAGS, 0o600)
        try:
            os.write(descriptor, content)
        finally:
            os.close(descriptor)

    def forget(self, key: str) -> None:
        """Drop what is remembered of an attachment."""
        for name in self._names():
            if name.startswith("mode-") and name.endswith(f"-{key}"):
                self.forget_file(name)

    def forget_file(self, name: str) -> None:
        """Drop one witness."""
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(self._directory, name))

    def stale(
        self, network: str, valid_keys: set[str], exists: Callable[[Witness], bool]
    ) -> list[str]:
        """Return the keys of a network's attachments that are neither valid nor live.

        A witness whose namespace is gone is stale whatever its network.
        """
        keys = set()
        for name in self._names():
            kind, _, key = name.rpartition("-")
            if not kind or key in valid_keys or self.is_live(key):
                continue
            witness = self._read(name) if kind.startswith("mode-") else None
            if key.startswith(network_key(network)) or (witness and not exists(witness)):
                keys.add(key)
        return sorted(keys)

    def discard(self, key: str) -> None:
        """Drop everything about an attachment that a killed call left; of a live one nothing."""
        with self.idle(key) as is_idle:
            if is_idle:
                self.forget(key)

    def _names(self) -> list[str]:
        try:
            return os.listdir(self._directory)
        except FileNotFoundError:
            return []

    def _read(self, name: str) -> Witness | None:
        try:
            descriptor = os.open(os.path.join(self._directory, name), os.O_RDONLY | _OPEN_FLAGS)
        except FileNotFoundError:  # its attachment was deleted this moment
            return None
        try:
            document = json.loads(os.read(descriptor, 65536))
            document["netns_identity"] = tuple(document["netns_identity"])
            return Witness(**document)._replace(file=name)
        except (ValueError, TypeError, KeyError):  # a killed call's, half written
            return None
        finally:
            os.close(descriptor)

    def _lock_file(self, path: str, check: Callable[[], None], *, strict: bool) -> int | None:
        try:
            return self._locked(path, check)
        except BusyError as error:
            if strict or error.is_live:
                raise
        except OSError:
            if strict:
                raise
        return None

    def _locked(self, path: str, check: Callable[[], None]) -> int:
        busy = "another call is still working on this container and interface"
        while True:
            descriptor = self._create(path)
            try:
                locks.acquire_inherited(descriptor, check, busy)
                is_there = os.fstat(descriptor).st_nlink
            except BaseException:
                os.close(descriptor)
                raise
            if is_there:
                return descriptor
            os.close(descriptor)  # whom we waited for has removed it: a new one is needed

    def _claim(self, path: str) -> int | None:
        while True:
            descriptor = self._create(path)
            try:
                is_ours = locks.try_acquire(descriptor)
                is_there = os.fstat(descriptor).st_nlink
            except BaseException:
                os.close(descriptor)
                raise
            if is_ours and is_there:
                return descriptor
            os.close(descriptor)
            if not is_ours:
                return None

    def _release(self, path: str, descriptor: int) -> None:
        # What can't be removed harms nobody: the lock ends with the descriptor.
        self._remove(path)
        os.close(descriptor)

    def _remove(self, path: str) -> None:
        with suppress(OSError):
            os.unlink(path)
        # Nothing of ours stays behind the last attachment.
        with suppress(OSError):
            os.rmdir(self._directory)

    def _create(self, path: str) -> int:
        while True:
            with suppress(FileExistsError):
                os.mkdir(self._directory, 0o700)
            try:
                return os.open(path, os.O_RDWR | os.O_CREAT | _OPEN_FLAGS, 0o600)
            except FileNotFoundError:  # the directory was empty and removed: again
                if not os.path.isdir(os.path.dirname(self._directory)):
                    raise


class ReadOnlyRegistry(Registry):
    """The registry of who only tells what would be done: it reads what it may, no more."""

    @contextmanager
    def attachment_lock(
        self,
        key: str,  # noqa: ARG002 - Registry's
        check: Callable[[], None],  # noqa: ARG002 - Registry's
        *,
        strict: bool,  # noqa: ARG002 - Registry's
    ) -> Iterator[None]:
        """Hold nothing."""
        yield

    @contextmanager
    def mode_lock(self, check: Callable[[], None]) -> Iterator[None]:  # noqa: ARG002 - Registry's
        """Hold nothing."""
        yield

    @contextmanager
    def idle(self, key: str) -> Iterator[bool]:
        """Hold nothing."""
        yield not self.is_live(key)

    def is_live(self, key: str) -> bool:
        """Take calls to be live where it can't be seen."""
        try:
            return super().is_live(key)
        except PermissionError:
            return True

    def remember(self, key: str, master: tuple[int, int], witness: Witness) -> None:
        """Keep nothing."""

    def forget_file(self, name: str) -> None:
        """Keep everything."""

    def discard(self, key: str) -> None:
        """Keep everything."""

    def _names(self) -> list[str]:
        try:
            return super()._names()
        except PermissionError:
            return []


def _digest(text: str, characters: int) -> str:
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=characters).digest()
    return "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in digest)
