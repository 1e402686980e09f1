"""The journal: each change is written and synced before it is made, and its outcome after that.

One JSON object a line, append only, mode 0600: definitions may hold secrets.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from reclaim.base import strict
from reclaim.base.errors import ChangeFailed, JournalLost, ReclaimError, Untrusted
from reclaim.base.text import printable
from reclaim.changes import definition_change, kinds, ours
from reclaim.changes.boot_stopped import Boot
from reclaim.changes.change import Change
from reclaim.changes.power import PowerCycle
from reclaim.files import trust

NAME = "journal.jsonl"
#: bytes of a journal, and of one line of it, that are read: a fleet's definitions fit a hundred times
_MOST, _LONGEST = 512 * 1024 * 1024, 32 * 1024 * 1024


@dataclass
class Journal:
    """The journal of one run on one hypervisor. The file is made with the first change."""

    path: Path
    uri: str
    mode: str
    #: the inventory of the run: undo gets into guests as the run did
    inventory: str | None = None
    _seq: int = 0
    _open: bool = False
    #: power cycles whose end was not seen
    _at_stake: set[int] = field(default_factory=set)
    _standing: dict[int, tuple[str, Change]] = field(default_factory=dict)
    #: guests may be power-cycled side by side: a line is whole before the next begins
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def standing(self, uuid: str) -> list[tuple[int, Change]]:
        """Return the changes of this run to one guest that are applied and not undone, with their numbers."""
        return [
            (seq, change)
            for seq, (owner, change) in self._standing.items()
            if owner == uuid
        ]

    def at_stake(self, uuid: str) -> list[int]:
        """Return the power cycles of one guest whose end was not seen. A later run has to look after the guest."""
        return [seq for seq, _ in self.standing(uuid) if seq in self._at_stake]

    def defined_since_start(self, uuid: str) -> list[int]:
        """Return the changes of the definition since one guest's last start. A roll-back takes them back."""
        defined: list[int] = []
        for seq, change in self.standing(uuid):
            if isinstance(change, PowerCycle) and seq not in self._at_stake:
                defined = []
            elif isinstance(change, definition_change.DefinitionChange):
                defined.append(seq)
        return defined

    def begin(self) -> None:
        """Write the first line, once, with the first change. Every method that writes may raise JournalLost."""
        if not self._open:
            self._write(
                {
                    "event": "begin",
                    "uri": self.uri,
                    "mode": self.mode,
                    "inventory": self.inventory,
                }
            )
            self._open = True

    def intend(self, guest: str, uuid: str, requirement: str, change: Change) -> int:
        """Write down that *change* is about to be applied, and return its number.

        Raises ChangeFailed for a change that `read` would refuse.
        """
        try:
            ours.expect(uuid, change)
        except ValueError as exc:
            raise ChangeFailed(f"{guest}: {exc}") from exc
        with self._lock:
            self.begin()
            self._seq += 1
            self._write(
                {
                    "event": "intent",
                    "seq": self._seq,
                    "guest": guest,
                    "uuid": uuid,
                    "requirement": requirement,
                    "change": kinds.to_json(change),
                }
            )
            self._standing[self._seq] = (uuid, change)
            if isinstance(change, PowerCycle):
                self._at_stake.add(self._seq)
            return self._seq

    def done(self, seq: int, outcome: dict[str, str]) -> None:
        self._at_stake.discard(seq)
        self._write({"event": "done", "seq": seq, "outcome": outcome})

    def failed(self, seq: int, reason: str) -> None:
        """Write down that the change was not applied, or took itself back."""
        self._standing.pop(seq, None)
        self._at_stake.discard(seq)
        self._write({"event": "failed", "seq": seq, "reason": reason})

    def unknown(self, seq: int, reason: str) -> None:
        """Write down that the answer was lost, so the change may be applied or not."""
        self._write({"event": "unknown", "seq": seq, "reason": reason})

    def undone(self, seq: int, note: str) -> None:
        self._standing.pop(seq, None)
        self._write({"event": "undone", "seq": seq, "reason": note})

    def end(self) -> None:
        """Write down the end of the run. The user knows which changes have no outcome by then.

        After an open power cycle the journal stays open: a later run has to look after that guest.
        """
        if self._open and not self._at_stake:
            self.close()

    def close(self) -> None:
        """Mark the journal as one that no later run has to look after."""
        self._write({"event": "end"})

    def _write(self, entry: dict[str, Any]) -> None:
        """Append *entry* and sync it. Raises JournalLost, and removes a half-written line if it can."""
        entry = {
            "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            **entry,
        }
        line = json.dumps(entry, ensure_ascii=True) + "\n"
        try:
            with self._lock:
                _append(self.path, line.encode())
        except OSError as exc:
            raise JournalLost(
                f"the journal cannot be written: {self.path}: {exc.strerror}"
            ) from exc


def _append(path: Path, line: bytes) -> None:
    """Append *line* and sync it. Raises OSError, and removes a half-written line if it can."""
    is_new = not path.exists()
    descriptor = os.open(
        path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
    )
    try:
        _drop_torn_line(descriptor)
        size = os.fstat(descriptor).st_size
        try:
            _write_all(descriptor, line)
            os.fsync(descriptor)
            if is_new:
                # else the name may be lost, and with it the file
                sync_folder(path.parent)
        except OSError:
            with suppress(OSError):
                os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    """Write all of *data*: a full disk takes a part without an error, and refuses the rest."""
    while data:
        data = data[os.write(descriptor, data) :]


def sync_folder(folder: Path) -> None:
    """Let the names in *folder* be on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _drop_torn_line(descriptor: int) -> None:
    """Cut off the half of a line that a crash left, so that the next line does not continue it."""
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        os.ftruncate(descriptor, os.pread(descriptor, size, 0).rfind(b"\n") + 1)


@dataclass
class Entry:
    """One change in a journal, with its outcome."""

    seq: int
    guest: str
    uuid: str
    requirement: str
    change: Change
    state: str = "intended"
    outcome: dict[str, str] = field(default_factory=dict)
    reason: str = ""


@dataclass
class JournalRecord:
    """A journal as read back."""

    path: Path
    uri: str
    entries: list[Entry]
    ended: bool
    inventory: str | None = None
    #: the mode of the last writer: a run, an undo
    mode: str = ""

    @property
    def applied(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.state == "done"]

    @property
    def interrupted(self) -> list[Entry]:
        """Changes without a known outcome: the run died in between, or the answer was lost."""
        return [
            entry for entry in self.entries if entry.state in ("intended", "unknown")
        ]

    @property
    def died(self) -> bool:
        """True if the last writer did not come to its end, and left changes that may be reported."""
        return not self.ended and bool(self.interrupted or self.applied)

    @property
    def left_only_boots(self) -> bool:
        """True if the run had begun only starts of guests that were off."""
        return bool(self.interrupted) and all(
            isinstance(entry.change, Boot) for entry in self.interrupted
        )

    @property
    def power_cycles(self) -> list[tuple[Entry, PowerCycle]]:
        """The power cycles among the interrupted changes; none if the journal was ended."""
        if self.ended:
            return []
        return [
            (entry, entry.change)
            for entry in self.interrupted
            if isinstance(entry.change, PowerCycle)
        ]

    def defined_since_start(self, cycle: Entry) -> list[Entry]:
        """Return the changes of the definition that the guest's start in *cycle* was to bring into force."""
        defined: list[Entry] = []
        for entry in self.entries[: self.entries.index(cycle)]:
            if entry.uuid != cycle.uuid or entry.state != "done":
                continue
            if isinstance(entry.change, PowerCycle):
                defined = []
            elif isinstance(entry.change, definition_change.DefinitionChange):
                defined.append(entry)
        return defined


@dataclass(frozen=True)
class _Begin:
    event: str
    uri: str
    mode: str = "fix"
    inventory: str | None = None
    time: str = ""

    def add_to(self, record: JournalRecord, _by_seq: dict[int, Entry]) -> None:
        if record.uri not in ("", self.uri):
            raise ValueError("it is of two hypervisors")
        if self.mode not in _MODES or not self.uri:
            raise ValueError(
                "it begins without a hypervisor, or in a mode that is unknown"
            )
        record.uri, record.mode = self.uri, self.mode
        record.inventory = self.inventory or record.inventory
        record.ended = False


@dataclass(frozen=True)
class _Intent:
    event: str
    seq: int
    guest: str
    uuid: str
    requirement: str
    change: dict[str, Any]
    time: str = ""

    def add_to(self, record: JournalRecord, by_seq: dict[int, Entry]) -> None:
        if self.seq in by_seq or not record.uri:
            raise ValueError("its change has the number of another, or no beginning")
        change = kinds.from_json(self.change)
        ours.expect(self.uuid, change)
        by_seq[self.seq] = Entry(
            self.seq, self.guest, self.uuid, self.requirement, change
        )
        record.entries.append(by_seq[self.seq])


@dataclass(frozen=True)
class _Outcome:
    event: str
    seq: int
    outcome: dict[str, str] | None = None
    reason: str = ""
    time: str = ""

    def add_to(self, _record: JournalRecord, by_seq: dict[int, Entry]) -> None:
        if self.seq not in by_seq:
            raise ValueError(f"there is no change {self.seq}")
        entry = by_seq[self.seq]
        entry.state, entry.reason = self.event, self.reason
        if self.outcome is not None:
            entry.outcome = self.outcome


@dataclass(frozen=True)
class _RunEnd:
    event: str
    time: str = ""

    def add_to(self, record: JournalRecord, _by_seq: dict[int, Entry]) -> None:
        record.ended = True


_MODES = ("audit", "plan", "fix", "undo", "recover")
_LINES: dict[str, type[_Begin | _Intent | _Outcome | _RunEnd]] = {
    "begin": _Begin,
    "intent": _Intent,
    **dict.fromkeys(("done", "failed", "unknown", "undone"), _Outcome),
    "end": _RunEnd,
}


def read(path: Path) -> JournalRecord:
    """Read a journal back. A torn last line comes from a crash and is skipped.

    Raises Untrusted if others could have written it, and ReclaimError if it cannot be read or is no journal.
    """
    if path.is_symlink():
        raise ReclaimError(f"{path}: a link, not a journal")
    try:
        data = trust.read(path, _MOST)
    except OSError as exc:
        raise ReclaimError(f"{path}: {exc.strerror}") from exc
    except Untrusted as exc:
        raise Untrusted(
            exc.path, exc.wrong, f"the journal {path} is not trusted: {exc.way_out}"
        ) from exc
    record = JournalRecord(path, "", [], ended=False)
    by_seq: dict[int, Entry] = {}
    for number, line in _whole_lines(data):
        try:
            _line(line).add_to(record, by_seq)
        except (ValueError, RecursionError) as exc:
            raise ReclaimError(
                f"{path}:{number}: not a line of a journal: {printable(str(exc))[:300]}"
            ) from exc
    return record


def journals_below(folder: Path) -> tuple[list[JournalRecord], list[str]]:
    """Return the journals of the runs below *folder*, oldest first, and the troubles with those that are not obeyed."""
    records: list[JournalRecord] = []
    troubles: dict[str, str] = {}
    for path in sorted(folder.glob(f"*/{NAME}")):
        if path.parent.is_symlink():
            continue
        try:
            records.append(read(path))
        except Untrusted as exc:
            # one folder above may spoil them all
            troubles.setdefault(exc.path, str(exc))
        except ReclaimError as exc:
            troubles[str(path)] = str(exc)
    return records, list(troubles.values())


def _line(line: bytes) -> _Begin | _Intent | _Outcome | _RunEnd:
    """Parse one line of a journal. Raises ValueError if it is none."""
    if len(line) > _LONGEST:
        raise ValueError(f"it has more than {_LONGEST} bytes")
    try:
        values = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as exc:
        raise ValueError("not UTF-8") from exc
    event = values.get("event") if isinstance(values, dict) else None
    if not isinstance(event, str) or event not in _LINES:
        raise ValueError(f"the event {event!r:.60} is unknown to this version")
    return strict.build(_LINES[event], values)


def _whole_lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    *lines, _torn = data.split(b"\n")
    return (
        (number, line) for number, line in enumerate(lines, start=1) if line.strip()
    )
