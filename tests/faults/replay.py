"""Rebuilds what a disk may hold after a power cut, from the system calls that a program made.

The rules, from weakest assumption to strongest:
- what was written before a successful fsync or fdatasync of the same file began is there once that call has returned;
- of everything else any part may be there: each write whole, not at all, or torn at 512-byte sectors;
- a write that met a failed sync is never made durable by a later sync (the kernel may have dropped it and marked it clean);
- names: under POSIX a created, renamed or removed name is durable only after an fsync of its folder, each for itself;
  under ORDERED (what journalling file systems such as ext4 and XFS do) names change in the order of the calls, and any
  later sync makes all earlier ones durable.

The shared-memory file of SQLite (`-shm`) is written through a mapping and holds nothing that recovery may rely on: it comes
back absent, empty of meaning or full of noise.
"""

from __future__ import annotations

import os
import random
import re
from dataclasses import dataclass, field
from pathlib import Path

from syscalls import Call, TraceError

SECTOR = 512
POSIX, ORDERED = "posix", "ordered"


@dataclass
class Write:
    """A change of a file's bytes (`data` is set) or of its length (`data` is None)."""

    start: int
    offset: int
    data: bytes | None
    end: int | None = None
    durable_at: int | None = None
    dropped: bool = False


@dataclass
class File:
    initial: bytes = b""
    size: int = 0
    writes: list[Write] = field(default_factory=list)


@dataclass
class NameChange:
    """`file` set: the name now leads to it. `file` None: the name is gone. A rename is one change of two names."""

    start: int
    end: int
    names: dict[str, File | None]
    folders: set[str]
    durable_at: dict[str, int] = field(default_factory=dict)  # rule -> line
    synced_folders: set[str] = field(default_factory=set)


@dataclass
class Handle:
    """An open file description; descriptors made by dup share it."""

    file: File | None
    folder: str | None
    name: str
    position: int = 0
    append: bool = False
    synchronous: bool = False


class Disk:
    """What a traced program did to the folder `root`; `at` gives one possible state after a cut."""

    def __init__(self, root: Path, before: dict[str, bytes], calls: list[Call], *, cwd: Path = Path("/"),
                 ignore_syncs: bool = False):
        self.root = os.path.abspath(root)
        self.cwd = str(cwd)
        self.ignore_syncs = ignore_syncs
        self.files: list[File] = []
        self.changes: list[NameChange] = []
        self.initial_names: dict[str, File] = {}
        self.syncs = 0
        self.last_line = 0
        for name, data in before.items():
            self.initial_names[name] = self._new_file(data)
        self._names: dict[str, File] = dict(self.initial_names)
        self._handles: dict[int, Handle] = {}
        self._running: dict[int, list[tuple[File, Write]]] = {}
        moments = []
        for call in calls:
            moments.append((call.start, 0, call))
            if call.end is not None:
                moments.append((call.end, 1, call))
        moments.sort(key=lambda moment: moment[:2])
        for line, is_end, call in moments:
            self.last_line = line
            (self._end if is_end else self._begin)(call)

    def _new_file(self, data: bytes = b"") -> File:
        file = File(data, len(data))
        self.files.append(file)
        return file

    # Reading the trace.

    def _begin(self, call: Call) -> None:
        if call.name == "close":
            self._handles.pop(call.descriptor(), None)
        elif call.name in ("write", "writev", "pwrite64", "pwritev", "pwritev2"):
            handle = self._handles.get(call.descriptor())
            if handle is None or handle.file is None:
                return
            data = b"".join(call.strings()) if call.end is None else call.data()
            if call.name in ("write", "writev"):
                offset = handle.file.size if handle.append else handle.position
            elif call.name == "pwrite64":
                offset = int(call.arguments.rsplit(",", 1)[1].strip(), 0)
            else:
                raise TraceError(f"line {call.start}: {call.name} on {handle.name} is not modelled")
            if call.end is not None and call.failed:
                return
            write = Write(call.start, offset, data)
            handle.file.writes.append(write)
            handle.file.size = max(handle.file.size, offset + len(data))
            handle.position = offset + len(data)
            self._running[id(call)] = [(handle.file, write)]
        elif call.name in ("ftruncate", "truncate", "fallocate"):
            self._resize(call)

    def _resize(self, call: Call) -> None:
        if call.end is not None and call.failed:
            return
        if call.name == "truncate":
            name = self._inside(call.strings()[0])
            file, size = (self._names.get(name) if name is not None else None), call.number(1)
        else:
            handle = self._handles.get(call.descriptor())
            file = handle.file if handle else None
            if call.name == "ftruncate":
                size = call.number(1)
            elif file is not None:
                arguments = call.plain()
                if arguments[1] != "0":
                    raise TraceError(f"line {call.start}: fallocate with a mode is not modelled")
                size = max(file.size, call.number(2) + call.number(3))
        if file is None:
            return
        write = Write(call.start, size, None)
        file.writes.append(write)
        file.size = size
        self._running[id(call)] = [(file, write)]

    def _end(self, call: Call) -> None:
        for file, write in self._running.pop(id(call), ()):
            write.end = call.end
            handle = self._handles.get(call.descriptor()) if call.name != "truncate" else None
            if handle is not None and handle.synchronous and handle.file is file and not self.ignore_syncs:
                write.durable_at = call.end
        if call.name in ("fsync", "fdatasync"):
            handle = self._handles.get(call.descriptor())
            if handle is not None:
                self._synced(call, handle)
        elif call.failed:
            return
        elif call.name in ("sync", "syncfs"):
            if not self.ignore_syncs:
                for file in self.files:
                    self._make_durable(file, call)
                for change in self.changes:
                    if change.end < call.start:
                        for rule in (POSIX, ORDERED):
                            change.durable_at.setdefault(rule, call.end)
        elif call.name in ("open", "openat", "creat"):
            self._opened(call)
        elif call.name in ("dup", "dup2", "dup3") or (call.name == "fcntl" and "F_DUPFD" in call.arguments):
            handle = self._handles.get(call.descriptor())
            self._handles.pop(call.result, None)
            if handle is not None:
                self._handles[call.result] = handle
        elif call.name in ("accept", "accept4", "socket"):
            self._handles.pop(call.result, None)
        elif call.name == "lseek":
            handle = self._handles.get(call.descriptor())
            if handle is not None:
                handle.position = call.result
        elif call.name in ("unlink", "unlinkat", "rmdir"):
            name = self._path(call, 0)
            if name is not None and name in self._names:
                self._change(call, {name: None})
        elif call.name in ("rename", "renameat", "renameat2", "link", "linkat"):
            self._moved(call)
        elif call.name == "mmap":
            arguments = call.plain()
            handle = self._handles.get(int(arguments[4].split("<")[0]))
            if handle is not None and handle.file is not None and "PROT_WRITE" in arguments[2] \
                    and "MAP_SHARED" in arguments[3] and not handle.name.endswith("-shm"):
                raise TraceError(f"line {call.start}: {handle.name} is written through a mapping, which leaves no trace")
        elif call.name in ("openat2", "close_range", "copy_file_range", "sendfile", "splice", "io_uring_setup", "chdir"):
            if call.name == "close_range" or call.name == "chdir":
                raise TraceError(f"line {call.start}: {call.name} is not modelled")
            touched = [self._handles.get(int(number)) for number in re.findall(r"\b\d+\b", call.arguments)]
            if call.name in ("io_uring_setup", "openat2") or any(handle is not None for handle in touched):
                raise TraceError(f"line {call.start}: {call.name} is not modelled")

    def _opened(self, call: Call) -> None:
        self._handles.pop(call.result, None)
        name = self._path(call, 0)
        if name is None:
            return
        flags = "O_WRONLY|O_CREAT|O_TRUNC" if call.name == "creat" else call.arguments
        path_folder = "O_DIRECTORY" in flags or name == "" or (name not in self._names and "O_CREAT" not in flags)
        if path_folder:
            self._handles[call.result] = Handle(None, name, name)
            return
        file = self._names.get(name)
        if file is None:
            file = self._new_file()
            self._change(call, {name: file})
        elif "O_TRUNC" in flags:
            file.writes.append(Write(call.start, 0, None, call.end))
            file.size = 0
        self._handles[call.result] = Handle(
            file, None, name, append="O_APPEND" in flags, synchronous="O_SYNC" in flags or "O_DSYNC" in flags)

    def _moved(self, call: Call) -> None:
        old, new = (self._inside(text, call) for text in call.strings()[:2])
        if old is None and new is None:
            return
        if old is None or new is None or old not in self._names:
            raise TraceError(f"line {call.start}: {call.name} across the edge of the folder is not modelled")
        changes: dict[str, File | None] = {new: self._names[old]}
        if call.name.startswith("rename"):
            changes[old] = None
        self._change(call, changes)

    def _change(self, call: Call, names: dict[str, File | None]) -> None:
        folders = {os.path.dirname(name) for name in names}
        self.changes.append(NameChange(call.start, call.end, names, folders))
        for name, file in names.items():
            if file is None:
                self._names.pop(name, None)
            else:
                self._names[name] = file

    def _synced(self, call: Call, handle: Handle) -> None:
        if self.ignore_syncs:
            return
        if call.failed:
            if handle.file is not None:
                for write in handle.file.writes:
                    if write.durable_at is None:
                        write.dropped = True
            return
        self.syncs += 1
        if handle.file is not None:
            self._make_durable(handle.file, call)
        for change in self.changes:
            if change.end < call.start:
                change.durable_at.setdefault(ORDERED, call.end)
                if handle.folder is not None and handle.folder in change.folders:
                    change.synced_folders.add(handle.folder)
                    if change.synced_folders == change.folders:
                        change.durable_at.setdefault(POSIX, call.end)

    @staticmethod
    def _make_durable(file: File, call: Call) -> None:
        for write in file.writes:
            if write.durable_at is None and not write.dropped and write.end is not None and write.end < call.start:
                write.durable_at = call.end

    def _path(self, call: Call, string: int) -> str | None:
        return self._inside(call.strings()[string], call)

    def _inside(self, text: bytes, call: Call | None = None) -> str | None:
        """Returns the path below the root, "" for the root itself, None for anything outside."""
        path = text.decode("utf-8", "surrogateescape")
        if not path.startswith("/"):
            base = self.cwd
            if call is not None and call.name.endswith("at") and not call.arguments.startswith("AT_FDCWD"):
                handle = self._handles.get(call.descriptor())
                if handle is None or handle.folder is None:
                    return None
                base = os.path.join(self.root, handle.folder)
            path = os.path.join(base, path)
        path = os.path.normpath(path)
        if path == self.root:
            return ""
        return path[len(self.root) + 1:] if path.startswith(self.root + "/") else None

    # Making a state.

    def at(self, cut: int, chance: random.Random, rule: str = ORDERED, keep: float | None = None) -> dict[str, bytes]:
        """Returns one possible content of the folder when power fails before line `cut` of the trace.

        `keep` is the likelihood that something not synced is there all the same; None lets chance choose it, with the two
        extremes (nothing and everything) among the choices.
        """
        if keep is None:
            keep = chance.choice((0.0, 0.0, 0.1, 0.5, 0.9, 1.0))
        names = self._names_at(cut, chance, rule, keep)
        state = {}
        for name, file in sorted(names.items()):
            if name.endswith("-shm"):
                size = self._length_at(file, cut)
                fate = chance.randrange(3)
                if fate:
                    state[name] = bytes(size) if fate == 1 else chance.randbytes(size)
                continue
            state[name] = self._bytes_at(file, cut, chance, keep)
        return state

    def _names_at(self, cut: int, chance: random.Random, rule: str, keep: float) -> dict[str, File]:
        past = [change for change in self.changes if change.start < cut]
        durable = [change.durable_at.get(rule) is not None and change.durable_at[rule] < cut for change in past]
        if rule == ORDERED:
            certain = max((index + 1 for index, is_durable in enumerate(durable) if is_durable), default=0)
            reached = certain + sum(chance.random() < keep for _ in past[certain:])
            applied = past[:reached]
        else:
            applied = [change for change, is_durable in zip(past, durable) if is_durable or chance.random() < keep]
        names = dict(self.initial_names)
        for change in applied:
            for name, file in change.names.items():
                if file is None:
                    names.pop(name, None)
                else:
                    names[name] = file
        return names

    @staticmethod
    def _length_at(file: File, cut: int) -> int:
        size = len(file.initial)
        for write in file.writes:
            if write.start < cut:
                size = write.offset if write.data is None else max(size, write.offset + len(write.data))
        return size

    @staticmethod
    def _bytes_at(file: File, cut: int, chance: random.Random, keep: float) -> bytes:
        content = bytearray(file.initial)
        for write in file.writes:
            if write.start >= cut:
                continue
            durable = write.durable_at is not None and write.durable_at < cut
            if write.data is None:
                if durable or chance.random() < keep:
                    if write.offset < len(content):
                        del content[write.offset:]
                    else:
                        content.extend(bytes(write.offset - len(content)))
                continue
            if durable:
                _put(content, write.offset, write.data)
            elif chance.random() < keep:
                if keep < 1.0 and chance.random() < 0.3:
                    for offset, piece in _torn(write, chance):
                        _put(content, offset, piece)
                else:
                    _put(content, write.offset, write.data)
        return bytes(content)


def _put(content: bytearray, offset: int, data: bytes) -> None:
    if not data:
        return
    if offset > len(content):
        content.extend(bytes(offset - len(content)))
    content[offset: offset + len(data)] = data


def _torn(write: Write, chance: random.Random) -> list[tuple[int, bytes]]:
    """Cuts a write at the sectors of the disk and keeps some: a prefix as often as a random choice."""
    end = write.offset + len(write.data)
    edges = [write.offset, *range((write.offset // SECTOR + 1) * SECTOR, end, SECTOR), end]
    pieces = [(a, write.data[a - write.offset: b - write.offset]) for a, b in zip(edges, edges[1:]) if b > a]
    if chance.random() < 0.5:
        return pieces[: chance.randrange(len(pieces) + 1)]
    return [piece for piece in pieces if chance.random() < 0.5]


def snapshot(folder: Path) -> dict[str, bytes]:
    """Reads a folder of which nothing changes at the moment."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()}


def restore(state: dict[str, bytes], folder: Path) -> Path:
    """Writes a state to an empty folder; everything is private, as the server demands."""
    folder = Path(folder)
    folder.mkdir(mode=0o700, parents=True)
    for name, data in state.items():
        path = folder / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o600)
    return folder


def cuts(moments: list[int], last_line: int, count: int, chance: random.Random) -> list[int]:
    """Chooses where power fails: half right after an acknowledgement, where least else is written; half anywhere."""
    chosen = {moment + 1 for moment in chance.sample(moments, min(len(moments), count // 2))}
    first = min(moments, default=0)
    while len(chosen) < count and len(chosen) < last_line:
        chosen.add(chance.randrange(max(0, first - 50), last_line + 1))
    return sorted(chosen)


def integrity_problems(folder: Path, scratch: Path) -> list[str]:
    """Opens a copy of every SQLite database in the folder, lets it recover and returns what its own check finds."""
    import shutil
    import sqlite3

    shutil.copytree(folder, scratch)
    problems = []
    for path in sorted(scratch.rglob("*")):
        if path.is_file() and path.read_bytes()[:16] == b"SQLite format 3\0":
            connection = sqlite3.connect(path)
            try:
                problems += [row[0] for row in connection.execute("PRAGMA integrity_check") if row[0] != "ok"]
                problems += [f"foreign key: {row}" for row in connection.execute("PRAGMA foreign_key_check")]
            except sqlite3.DatabaseError as error:
                problems.append(f"{path.name}: {error}")
            finally:
                connection.close()
    shutil.rmtree(scratch)
    return problems
