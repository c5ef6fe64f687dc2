"""Records of this node's attachments, and the locks of calls that work on them.

1. An interface's label names its attachment; the kernel says whether it is there, root's record
   where to look.
2. A call holds its attachment's lock, which its commands inherit, so that the next call waits for
   what a killed one has started.
3. Under its master's lock, an ADD compares the mode and writes its record, unfinished until it is
   about to deliver its result.
4. What attachments share on the host (a VLAN, the host's own interface, the master's mode) lives as
   long as a record refers to it; the last one out removes it under that lock.
5. DEL and GC remove the interface, what it shares, its addresses, then the record; what a killed
   call has left is found by either.

A record is a file, in a directory on tmpfs that only root can read. It lies in the directory of
its master, so that nothing that is read under a lock grows with the node. It stays until DEL, GC,
or the next ADD of its attachment removes it, as addresses are allocated until then:

``on-NAMESPACE.MASTER/KEY.INTERFACE.host@INDEX.adding``
    a record on a master (namespace inode, interface index). KEY is the attachment's, see
    ``AttachmentId.key``, which only finds a record: the names in it identify the attachment.
    INTERFACE is a digest of the container's namespace and the interface's name, as there may be
    one of an earlier container. ``.host`` is added while the host has routes to the attachment.
    INDEX is the index of its interface, added when it is known. ``.adding`` is there until the ADD
    has done its work.
``on-NAMESPACE.MASTER/mode`` or ``…/mode.searched``
    a note of the master's mode: the record of the first ADD in that mode. It stays when the last
    record goes, until the kernel says that the master carries no ipvlan: a container's owner may
    have hidden one. ``searched`` is added when no interface was found in all namespaces.
``locks``
    a file of which bytes are locked: one by each call, another one while a master's mode is decided
    or something that attachments share is changed (locks.py)

A master's directory goes with its note. Records of interfaces that were gone lay in ``on-0.0/``
until December 3, 2026. Before December, attachments with routes of the host had a second record, in
``host-NAMESPACE.MASTER/``, and those on a VLAN one in ``vlan-…/``. And after INDEX, there was the
number of the master's namespace in the container. A node that was not started since then may have
such records.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

from cni_ipvlan.start import json
from cni_ipvlan.state.attachment import AttachmentId, Record, number_of
from cni_ipvlan.state.locks import BusyError, Lock, make_directory

DIRECTORY = "/run/cni-ipvlan"

_OPEN_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW
_MOST_RECORD = 1 << 16  # bytes; its names and paths have less than 5 KiB together
HOST, VLAN, DHCP = "host-", "vlan-", "dhcp-"
_LOCKS, _MASTER, _WITH_HOST, _ADDING = "locks", "on-", ".host", ".adding"
_INDEX = "@"  # nothing before it in a file's name has it
_NOTES = ("mode.searched", "mode")


class Registry:
    """The directory of locks and records; every method raises OSError if it is unusable.

    If it ``is_read_only``, as in a dry run, it reads what is permitted, writes nothing and takes
    no lock. A record that it was told to remove is not returned any more.
    """

    def __init__(self, directory: str = DIRECTORY, *, is_read_only: bool = False) -> None:
        self._directory = directory
        self._is_read_only = is_read_only
        # By path, if it is read-only: what would have been written; None if it was removed.
        self._assumed_records: dict[str, Record | None] = {}

    @property
    def read_only(self) -> Registry:
        """The same records, to be read only."""
        return Registry(self._directory, is_read_only=True)

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
        with self._lock(key, is_inherited=True) as lock:
            try:
                if not self._is_read_only:
                    lock.acquire(
                        check, "another call is still working on this container and interface"
                    )
            except BusyError as error:
                if strict or error.is_live:
                    raise
            except OSError:
                if strict:
                    raise
            yield

    @contextmanager
    def try_attachment_lock(self, key: str) -> Iterator[bool]:
        """Hold an attachment's lock if it is free; yield whether it is held."""
        with self._lock(key, is_inherited=True) as lock:
            yield not self.is_live(key) if self._is_read_only else lock.try_acquire()

    @contextmanager
    def master_lock(
        self, master: tuple[int, int], check: Callable[[], None], kind: str = _MASTER
    ) -> Iterator[None]:
        """Hold a master's lock, under which one call at a time decides about its mode.

        A lock of the kind HOST protects the host's own interface on the master, and one of the kind
        VLAN a VLAN. Under one of the kind DHCP, no other container of the master asks a server.
        """
        with self._lock(self._directory_of(master, kind)) as lock:
            if not self._is_read_only:
                lock.acquire(check, "other calls are still using this master")
            yield

    def is_live(self, key: str) -> bool:
        """Whether a call is working on the attachment now, as far as that may be read."""
        try:
            return self._lock(key).is_held()
        except PermissionError:
            if self._is_read_only:
                return True
            raise

    def records(self, master: tuple[int, int], *, is_adding: bool = False) -> Iterator[Record]:
        """Yield the records about attachments on a master (namespace inode, interface index).

        They are read one by one: often the first is enough, and there may be a thousand. If
        ``is_adding``, they are only those of ADDs that have not done their work.
        """
        part = _ADDING if is_adding else ""
        return self._read_all(self._files_in(self._directory_of(master), part))

    def records_with_routes(
        self, master: tuple[int, int], number: int | None = None
    ) -> Iterator[Record]:
        """Yield the records on a master to which the host has routes, if given with that number."""

        def matches(path: str) -> bool:
            key = os.path.basename(path).partition(".")[0]
            return _has_routes(path) and number in (None, number_of(key))

        for kind in (_MASTER, HOST):
            paths = filter(matches, self._files_in(self._directory_of(master, kind)))
            yield from (record for record in self._read_all(paths) if record.host_routes)

    def all_records(self) -> Iterator[Record]:
        """Yield every record."""
        return self._read_all(self._files())

    def records_of_interface(self, netns_identity: tuple[int, int], ifindex: int) -> list[Record]:
        """Return the records about an interface of a container, whatever it is called there."""
        interface = netns_identity, ifindex
        records = self._read_all(self._files(f"{_INDEX}{ifindex}"))
        return [each for each in records if (each.netns_identity, each.ifindex) == interface]

    def records_of(self, attachment: AttachmentId) -> list[Record]:
        """Return the records about an attachment: several if it was added again elsewhere."""
        records = self._read_all(self._files(attachment.key))
        return [record for record in records if record.attachment == attachment]

    def write(self, record: Record) -> None:
        """Record that an attachment will use a mode, and note that; the master's lock is held."""
        note = self.note(record.master)
        if note is None or not note.has_mode_of(record):
            self.drop_note(record.master)
            self._write(self._note_paths(record.master)[1], record)
        self._write(self._path(record), record)

    def add_routes(self, record: Record, routes: Iterable[str]) -> Record:
        """Record that the host gets routes to these addresses; return the record with them."""
        new_record = record._replace(host_routes=tuple(routes))
        self._write(self._path(new_record), new_record)
        try:
            self._remove_record(self._path(record))
        except OSError:
            self._remove_record(self._path(new_record))
            raise
        return new_record

    def drop_routes(self, record: Record) -> None:
        """Record that the host has no routes to an attachment any more, in its file's name."""
        path, new_record = self._path(record), record._replace(host_routes=())
        if self._is_read_only:
            self._assumed_records[path] = new_record
        self._rename(path, self._path(new_record))
        for old_path in self._files(record.attachment.key, HOST):
            self._remove_record(old_path)

    def finish(self, record: Record, ifindex: int = 0) -> Record:
        """Record that the ADD of a record has done its work; return the complete record.

        Its file gets the index of the interface when it is renamed. Other records of the attachment
        are removed, which were about former interfaces.
        """
        own_path = self._path(record)
        for path in self._files(record.attachment.key):
            other = self._read(path)  # one that can't be read was left by a call that was killed
            is_own = other is None or other.attachment == record.attachment
            if path != own_path and is_own:
                self._remove_record(path)
        record = record._replace(is_complete=True, ifindex=ifindex)
        self._rename(own_path, self._path(record))
        return record

    def remove(self, record: Record) -> None:
        """Remove a record, and no other one about the same attachment."""
        self._remove_record(self._path(record))

    def remove_all(self, attachment: AttachmentId) -> None:
        """Remove the records about an attachment, but not one with routes of the host."""
        for path in self._files(attachment.key):
            record = self._read(path)
            # An unreadable one was left by a call that was killed before it created anything.
            is_own = record and record.attachment == attachment and not record.host_routes
            if record is None or is_own:
                self._remove_record(path)
        for path in self._files(attachment.key, VLAN):
            self._remove_record(path)

    def note(self, master: tuple[int, int], *, is_searched: bool = False) -> Record | None:
        """Return the note of a master's mode; if ``is_searched``, only one after a search."""
        paths = self._note_paths(master)
        return next(self._read_all(paths[:1] if is_searched else paths), None)

    def mark_note(self, master: tuple[int, int], *, is_searched: bool) -> None:
        """Mark whether a search has not contradicted a master's note; its lock is held."""
        paths = self._note_paths(master)
        self._rename(paths[is_searched], paths[not is_searched])

    def drop_note(self, master: tuple[int, int]) -> None:
        """Remove the note of a master's mode."""
        for path in self._note_paths(master):
            self._remove_record(path)

    def masters_with_note(
        self, masters: Iterable[tuple[int, int]] | None = None
    ) -> list[tuple[int, int]]:
        """Return those, by default of all masters, of which only a note of their mode is left."""
        if self._is_read_only:  # nothing was removed
            return []
        if masters is None:
            masters = map(_master_of, (f"{name}/" for name in self._names(_MASTER)))
        known = (each for each in {*masters} if os.path.isdir(self._directory_of(each)))
        return [each for each in known if not any(self.records(each))]

    def remove_leftovers(self) -> None:
        """Remove the half-written records of calls that were killed."""
        if self._is_read_only:
            return
        for path in self._files():
            with self.try_attachment_lock(os.path.basename(path).partition(".")[0]) as is_locked:
                if is_locked and self._read(path) is None:
                    self._remove_record(path)
        for name in self._names((_MASTER, HOST, VLAN)):  # a call was killed before it wrote one
            with suppress(OSError):
                os.rmdir(os.path.join(self._directory, name))

    def _lock(self, name: str, *, is_inherited: bool = False) -> Lock:
        return Lock(os.path.join(self._directory, _LOCKS), name, is_inherited=is_inherited)

    def _path(self, record: Record) -> str:
        return os.path.join(self._directory_of(record.master), _file_name(record))

    def _note_paths(self, master: tuple[int, int]) -> list[str]:
        return [os.path.join(self._directory_of(master), name) for name in _NOTES]

    def _directory_of(self, master: tuple[int, int], kind: str = _MASTER) -> str:
        return os.path.join(self._directory, f"{kind}{master[0]}.{master[1]}")

    def _names(self, prefix: str | tuple[str, ...]) -> list[str]:
        try:
            return [name for name in os.listdir(self._directory) if name.startswith(prefix)]
        except FileNotFoundError:
            return []
        except PermissionError:
            if self._is_read_only:
                return []
            raise

    def _files(self, part: str = "", kinds: str | tuple[str, ...] = (_MASTER, HOST)) -> list[str]:
        """Return the paths of all records whose file's name has that part."""
        directories = (os.path.join(self._directory, name) for name in self._names(kinds))
        return [path for each in directories for path in self._files_in(each, part)]

    def _files_in(self, directory: str, part: str = "") -> list[str]:
        try:
            names = os.listdir(directory)
        except FileNotFoundError:
            return []
        # They are filtered first, as there may be a thousand.
        named = (name for name in names if part in name and name not in _NOTES)
        return [os.path.join(directory, name) for name in named]

    def _read_all(self, paths: Iterable[str]) -> Iterator[Record]:
        return filter(None, map(self._read, paths))

    def _read(self, path: str) -> Record | None:
        if path in self._assumed_records:
            return self._assumed_records[path]
        try:
            descriptor = os.open(path, os.O_RDONLY | _OPEN_FLAGS)
        except FileNotFoundError:  # its attachment has just been deleted
            return None
        try:
            document = json.loads(os.read(descriptor, _MOST_RECORD))
            document["master"] = _master_of(path)
            document["netns_identity"] = tuple(document["netns_identity"])
            routes = document.get("host_routes", ()) if _has_routes(path) else ()
            document["host_routes"] = tuple(routes)
            document["is_complete"] = not path.endswith(_ADDING)
            suffix = os.path.basename(path).removesuffix(_ADDING).partition(_INDEX)[2]
            index, _, number = suffix.partition(".")
            document["ifindex"] = int(index or 0)
            document["parent_netns"] = int(number) if number else None
            # Only the keys that are known: a newer version may have written others.
            return Record(**{key: document[key] for key in document if key in Record._fields})
        except (ValueError, TypeError, KeyError):  # half written by a killed call
            return None
        finally:
            os.close(descriptor)

    def _write(self, path: str, record: Record) -> None:
        if self._is_read_only:
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _OPEN_FLAGS
        while True:
            make_directory(os.path.dirname(path))
            try:
                descriptor = os.open(path, flags, 0o600)
                break
            except FileNotFoundError:  # another call has just removed the last record there
                continue
        data = json.dumps(record._asdict()).encode()
        try:
            while data:  # when the disk gets full, write(2) writes a part, and fails the next time
                data = data[os.write(descriptor, data) :]
        except OSError as error:
            self._remove_record(path)
            error.filename = path  # which write(2) does not know
            raise
        finally:
            os.close(descriptor)

    def _rename(self, path: str, new_path: str) -> None:
        if not self._is_read_only:
            with suppress(FileNotFoundError):  # another call has just removed it
                os.rename(path, new_path)

    def _remove_record(self, path: str) -> None:
        if self._is_read_only:
            self._assumed_records[path] = None
            return
        with suppress(FileNotFoundError):
            os.unlink(path)
        with suppress(OSError):  # it has others
            os.rmdir(os.path.dirname(path))


def _file_name(record: Record) -> str:
    host = _WITH_HOST if record.host_routes else ""
    index = f"{_INDEX}{record.ifindex}" if record.ifindex else ""
    number = f".{record.parent_netns}" if index and record.parent_netns is not None else ""
    return record.file_name + host + index + number + ("" if record.is_complete else _ADDING)


def _has_routes(path: str) -> bool:
    return _WITH_HOST in os.path.basename(path) or f"{os.sep}{HOST}" in path


def _master_of(path: str) -> tuple[int, int]:
    """Return the master in whose directory a record is: namespace inode, interface index."""
    inode, _, index = os.path.basename(os.path.dirname(path)).rpartition("-")[2].partition(".")
    return int(inode), int(index)
