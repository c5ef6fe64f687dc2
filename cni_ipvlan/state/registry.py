"""Records of this node's attachments: locks, and hints about modes.

They are in a directory on tmpfs, readable only by root:

``lock-KEY``
    locked (flock) by the call that works on an attachment, and removed when it ends.
``on-NAMESPACE.MASTER/``
    a directory for each master (namespace inode, interface index), locked (flock)
    while its mode is decided, and removed with the last hint in it.
``on-NAMESPACE.MASTER/KEY``
    a hint: an attachment on that master, with its mode. All hints of a master
    agree, since a hint is written only after the mode is decided.

KEY is the attachment's, see ``AttachmentId.key``. It is a digest that only finds
a hint; the full names in the hint identify the attachment.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from contextlib import contextmanager, suppress

from cni_ipvlan._namedtuple import TYPE_CHECKING, NamedTuple
from cni_ipvlan.state import locks
from cni_ipvlan.state.locks import BusyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

try:
    # The module behind hashlib, which would load OpenSSL, too.
    from _blake2 import blake2b
except ImportError:
    from hashlib import blake2b

DIRECTORY = "/run/cni-ipvlan"

_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_NETWORK_CHARACTERS = 5
_ATTACHMENT_CHARACTERS = 8
KEY_CHARACTERS = _NETWORK_CHARACTERS + _ATTACHMENT_CHARACTERS
_OPEN_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW
_MOST_HINT = 1 << 16  # bytes; its names and paths have less than 5 KiB together
_LOCK, _MASTER = "lock-", "on-"


class AttachmentId(NamedTuple):
    """What identifies an attachment."""

    network: str
    container_id: str
    ifname: str

    @property
    def key(self) -> str:
        """13 characters, to fit into interface names; the first ones are the network's key."""
        return network_key(self.network) + _digest(
            f"{self.container_id}\0{self.ifname}", _ATTACHMENT_CHARACTERS
        )


class ModeHint(NamedTuple):
    """A record that an attachment uses a mode, with the container's namespace."""

    network: str
    container_id: str
    ifname: str
    netns: str
    netns_identity: tuple[int, int]
    mode: str
    flag: str

    @property
    def attachment(self) -> AttachmentId:
        """The attachment that the hint is about."""
        return AttachmentId(self.network, self.container_id, self.ifname)

    def describe(self) -> str:
        """Return a phrase that names the interface and its place."""
        return f"{self.ifname} in {self.netns} (container {self.container_id})"


def network_key(network: str) -> str:
    """Return the 5 characters that the keys of a network's attachments start with."""
    return _digest(network, _NETWORK_CHARACTERS)


class Registry:
    """The directory of locks and hints; every method raises OSError if it is unusable."""

    def __init__(self, directory: str = DIRECTORY) -> None:
        self._directory = directory

    @contextmanager
    def attachment_lock(
        self, key: str, check: Callable[[], None], *, strict: bool
    ) -> Iterator[None]:
        """Hold an attachment's lock: one call at a time for a container and interface.

        Commands started meanwhile inherit it, so a command that outlives a killed
        call still keeps the next call waiting. ``check`` is called while waiting,
        and may raise to end the wait. Raises BusyError after a while. If
        ``strict`` is false, continues without the lock unless a live call has it.
        """
        path = self._lock_path(key)
        descriptor = self._lock_file(path, check, strict=strict)
        if descriptor is None:
            yield
            self._remove(path)  # only a dead call's command holds it
            return
        os.set_inheritable(descriptor, True)  # noqa: FBT003 - its signature
        try:
            yield
        finally:
            self._release(path, descriptor)

    @contextmanager
    def idle(self, key: str) -> Iterator[bool]:
        """Hold an attachment's lock if it is free; yield whether it is held."""
        path = self._lock_path(key)
        descriptor = self._claim(path)
        if descriptor is None:
            yield False
            return
        try:
            yield True
        finally:
            self._release(path, descriptor)

    @contextmanager
    def master_lock(self, master: tuple[int, int], check: Callable[[], None]) -> Iterator[None]:
        """Hold a master's lock, under which one call at a time decides about its mode."""
        path = self._directory_of(master)
        busy = "other calls are still using this master"
        descriptor = self._locked(
            path, lambda descriptor: locks.acquire(descriptor, check, busy), is_directory=True
        )
        try:
            yield
        finally:
            self._release_directory(path, descriptor)

    def is_live(self, key: str) -> bool:
        """Whether a call is working on the attachment now."""
        try:
            descriptor = os.open(self._lock_path(key), os.O_RDWR | _OPEN_FLAGS)
        except FileNotFoundError:
            return False
        try:
            return not locks.try_acquire(descriptor)
        finally:
            os.close(descriptor)

    def hints(self, master: tuple[int, int]) -> Iterator[ModeHint]:
        """Yield the hints about attachments on a master (namespace inode, interface index).

        They are read one by one: often the first is enough, and there may be a thousand.
        """
        return self._hints_in(self._directory_of(master))

    def all_hints(self) -> Iterator[ModeHint]:
        """Yield every hint."""
        for name in self._names(_MASTER):
            yield from self._hints_in(os.path.join(self._directory, name))

    def recall(self, attachment: AttachmentId) -> ModeHint | None:
        """Return the hint about an attachment, if there is one."""
        found = map(self._read, self._files_of(attachment.key))
        return next((hint for hint in found if hint and hint.attachment == attachment), None)

    def master_index(self, attachment: AttachmentId) -> int | None:
        """Return the interface index of an attachment's master, if it is recorded."""
        path = next(self._files_of(attachment.key), None)
        return int(os.path.dirname(path).rpartition(".")[2]) if path else None

    def remember(self, master: tuple[int, int], hint: ModeHint) -> None:
        """Record that an attachment uses a mode; the caller holds the master's lock."""
        path = os.path.join(self._directory_of(master), hint.attachment.key)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _OPEN_FLAGS, 0o600)
        try:
            os.write(descriptor, json.dumps(hint._asdict()).encode())
        finally:
            os.close(descriptor)

    def forget(self, attachment: AttachmentId) -> None:
        """Remove the hint about an attachment, and unused directories that killed calls left."""
        for path in self._files_of(attachment.key):
            hint = self._read(path)
            # An unreadable one was left by a call that was killed before it created anything.
            if hint is None or hint.attachment == attachment:
                self._remove_hint(path)
        for name in self._names(_MASTER):
            self._remove_if_unused(os.path.join(self._directory, name))

    def remove_leftovers(self) -> None:
        """Remove the locks, and the half-written hints, of calls that were killed."""
        for name in self._names(_LOCK):
            with self.idle(name.removeprefix(_LOCK)):
                pass  # leaving the context removes it
        for name in self._names(_MASTER):
            directory = os.path.join(self._directory, name)
            for key in os.listdir(directory):
                path = os.path.join(directory, key)
                with self.idle(key) as is_idle:
                    if is_idle and self._read(path) is None:
                        self._remove_hint(path)
            self._remove_if_unused(directory)

    def _lock_path(self, key: str) -> str:
        return os.path.join(self._directory, _LOCK + key)

    def _directory_of(self, master: tuple[int, int]) -> str:
        return os.path.join(self._directory, f"{_MASTER}{master[0]}.{master[1]}")

    def _names(self, prefix: str) -> list[str]:
        try:
            return [name for name in os.listdir(self._directory) if name.startswith(prefix)]
        except FileNotFoundError:
            return []

    def _files_of(self, key: str) -> Iterator[str]:
        for name in self._names(_MASTER):
            path = os.path.join(self._directory, name, key)
            if os.path.exists(path):
                yield path

    def _hints_in(self, directory: str) -> Iterator[ModeHint]:
        try:
            entries = os.scandir(directory)
        except FileNotFoundError:
            return
        with entries:
            for entry in entries:
                hint = self._read(entry.path)
                if hint is not None:
                    yield hint

    def _read(self, path: str) -> ModeHint | None:
        try:
            descriptor = os.open(path, os.O_RDONLY | _OPEN_FLAGS)
        except FileNotFoundError:  # its attachment has just been deleted
            return None
        try:
            document = json.loads(os.read(descriptor, _MOST_HINT))
            document["netns_identity"] = tuple(document["netns_identity"])
            return ModeHint(**document)
        except (ValueError, TypeError, KeyError):  # half written by a killed call
            return None
        finally:
            os.close(descriptor)

    def _remove_hint(self, path: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(path)
        self._remove_if_unused(os.path.dirname(path))

    def _remove_if_unused(self, directory: str) -> None:
        """Remove a master's directory if it has no hint and no call is about to add one."""
        with suppress(OSError):
            with os.scandir(directory) as entries:
                if any(entries):
                    return
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | _OPEN_FLAGS)
            if locks.try_acquire(descriptor):
                self._release_directory(directory, descriptor)
                os.rmdir(self._directory)  # if this was the last one
            else:
                os.close(descriptor)

    def _release_directory(self, path: str, descriptor: int) -> None:
        with suppress(OSError):  # it has other hints
            os.rmdir(path)
        os.close(descriptor)

    def _lock_file(self, path: str, check: Callable[[], None], *, strict: bool) -> int | None:
        busy = "another call is still working on this container and interface"
        try:
            return self._locked(
                path, lambda descriptor: locks.acquire_inherited(descriptor, check, busy)
            )
        except BusyError as error:
            if strict or error.is_live:
                raise
        except OSError:
            if strict:
                raise
        return None

    def _locked(
        self, path: str, acquire: Callable[[int], None], *, is_directory: bool = False
    ) -> int:
        while True:
            descriptor = self._create(path, is_directory=is_directory)
            try:
                acquire(descriptor)
                is_there = os.fstat(descriptor).st_nlink
            except BaseException:
                os.close(descriptor)
                raise
            if is_there:
                return descriptor
            os.close(descriptor)  # the previous holder has removed the file: create a new one

    def _claim(self, path: str) -> int | None:
        while True:
            descriptor = self._create(path)
            try:
                is_locked = locks.try_acquire(descriptor)
                is_there = os.fstat(descriptor).st_nlink
            except BaseException:
                os.close(descriptor)
                raise
            if is_locked and is_there:
                return descriptor
            os.close(descriptor)
            if not is_locked:
                return None

    def _release(self, path: str, descriptor: int) -> None:
        # Failing to remove it is harmless: the lock ends with the descriptor.
        self._remove(path)
        os.close(descriptor)

    def _remove(self, path: str) -> None:
        with suppress(OSError):
            os.unlink(path)
        # The directory is removed with the last file in it.
        with suppress(OSError):
            os.rmdir(self._directory)

    def _create(self, path: str, *, is_directory: bool = False) -> int:
        while True:
            try:
                _make_directory(self._directory)
                if is_directory:
                    _make_directory(path)
                    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | _OPEN_FLAGS)
                return os.open(path, os.O_RDWR | os.O_CREAT | _OPEN_FLAGS, 0o600)
            except FileNotFoundError:  # another call removed the empty directory: try again
                if not os.path.isdir(os.path.dirname(self._directory)):
                    raise


class ReadOnlyRegistry(Registry):
    """The registry in a dry run: it reads what is permitted and writes nothing."""

    @contextmanager
    def attachment_lock(self, *_: Any, **__: Any) -> Iterator[None]:
        """Take no lock."""
        yield

    @contextmanager
    def master_lock(self, *_: Any) -> Iterator[None]:
        """Take no lock."""
        yield

    @contextmanager
    def idle(self, key: str) -> Iterator[bool]:
        """Take no lock."""
        yield not self.is_live(key)

    def is_live(self, key: str) -> bool:
        """Assume that a call is live if the lock may not be read."""
        try:
            return super().is_live(key)
        except PermissionError:
            return True

    def remember(self, master: tuple[int, int], hint: ModeHint) -> None:
        """Write nothing."""

    def forget(self, attachment: AttachmentId) -> None:
        """Remove nothing."""

    def remove_leftovers(self) -> None:
        """Remove nothing."""

    def _names(self, prefix: str) -> list[str]:
        try:
            return super()._names(prefix)
        except PermissionError:
            return []


def _make_directory(path: str) -> None:
    """Make a directory that only we can write to; raises OSError if the path is anything else."""
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise NotADirectoryError(
            errno.ENOTDIR, "it is not a directory, or belongs to another user", path
        )


def _digest(text: str, characters: int) -> str:
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=characters).digest()
    return "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in digest)
