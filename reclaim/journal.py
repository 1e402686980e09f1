"""The journal: what a run was about to change, written and synced before; what came of it, after.

One JSON object a line, append only, mode 0600: definitions may hold secrets.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from reclaim import change as changes
from reclaim.boot import Boot
from reclaim.change import Change
from reclaim.errors import ReclaimError
from reclaim.power import PowerCycle

NAME = "journal.jsonl"


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
    #: power cycles whose end nobody has seen
    _at_stake: set[int] = field(default_factory=set)
    _standing: dict[int, tuple[str, Change]] = field(default_factory=dict)

    def standing(self, uuid: str) -> list[tuple[int, Change]]:
        """The changes of this run to one guest that are applied and not undone, by their number."""
        return [(seq, change) for seq, (owner, change) in self._standing.items() if owner == uuid]

    def at_stake(self, uuid: str) -> list[int]:
        """The power cycles of one guest whose end nobody has seen: a later run has to look after it."""
        return [seq for seq, _ in self.standing(uuid) if seq in self._at_stake]

    def defined_since_start(self, uuid: str) -> list[int]:
        """The changes of the definition that one guest has not been started on: a roll-back takes them back."""
        found: list[int] = []
        for seq, change in self.standing(uuid):
            if isinstance(change, PowerCycle) and seq not in self._at_stake:
                found = []
            elif isinstance(change, changes.DefinitionChange):
                found.append(seq)
        return found

    def intend(self, guest: str, uuid: str, requirement: str, change: Change) -> int:
        """Write down that *change* is about to be applied; returns its number."""
        if not self._open:
            self._write({"event": "begin", "uri": self.uri, "mode": self.mode, "inventory": self.inventory})
            self._open = True
        self._seq += 1
        self._write(
            {
                "event": "intent",
                "seq": self._seq,
                "guest": guest,
                "uuid": uuid,
                "requirement": requirement,
                "change": changes.to_json(change),
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
        """The change was not applied, or was taken back by itself."""
        self._standing.pop(seq, None)
        self._at_stake.discard(seq)
        self._write({"event": "failed", "seq": seq, "reason": reason})

    def unknown(self, seq: int, reason: str) -> None:
        """Nobody knows whether the change was applied: the answer was lost."""
        self._write({"event": "unknown", "seq": seq, "reason": reason})

    def undone(self, seq: int, note: str) -> None:
        self._standing.pop(seq, None)
        self._write({"event": "undone", "seq": seq, "reason": note})

    def end(self) -> None:
        """The run came to its end; what has no outcome by then is known to the user.

        But for a power cycle: a later run has to look after that guest.
        """
        if self._open and not self._at_stake:
            self.close()

    def close(self) -> None:
        """Mark the journal as one that nobody has to look after."""
        self._write({"event": "end"})

    def _write(self, entry: dict[str, Any]) -> None:
        entry = {"time": datetime.now(timezone.utc).isoformat(timespec="seconds"), **entry}
        line = json.dumps(entry, ensure_ascii=True) + "\n"
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        # a full disk takes a part of a line without a word: a stream writes all of it, or raises
        with os.fdopen(descriptor, "wb") as stream:
            _drop_torn_line(descriptor)
            stream.write(line.encode())
            stream.flush()
            os.fsync(descriptor)


def _drop_torn_line(descriptor: int) -> None:
    """Cut off what a crash left of a line: the next line is not glued to it."""
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        os.ftruncate(descriptor, os.pread(descriptor, size, 0).rfind(b"\n") + 1)


@dataclass
class Entry:
    """One change in a journal, with what came of it."""

    seq: int
    guest: str
    uuid: str
    requirement: str
    change: Change
    state: str = "intended"
    outcome: dict[str, str] = field(default_factory=dict)
    reason: str = ""


@dataclass
class Record:
    """A journal as read back."""

    path: Path
    uri: str
    entries: list[Entry]
    ended: bool
    inventory: str | None = None

    @property
    def applied(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.state == "done"]

    @property
    def interrupted(self) -> list[Entry]:
        """Changes whose outcome nobody knows: the run died in between, or the answer was lost."""
        return [entry for entry in self.entries if entry.state in ("intended", "unknown")]

    @property
    def left_only_boots(self) -> bool:
        """Had the run begun nothing but to start guests that were off?"""
        return all(isinstance(entry.change, Boot) for entry in self.interrupted)

    @property
    def power_cycles(self) -> list[tuple[Entry, PowerCycle]]:
        """The power cycles among the interrupted changes; none where the journal was ended."""
        if self.ended:
            return []
        return [(entry, entry.change) for entry in self.interrupted if isinstance(entry.change, PowerCycle)]

    def defined_since_start(self, cycle: Entry) -> list[Entry]:
        """The changes of the definition with which the guest of *cycle* was first to be started in it."""
        found: list[Entry] = []
        for entry in self.entries[: self.entries.index(cycle)]:
            if entry.uuid != cycle.uuid or entry.state != "done":
                continue
            if isinstance(entry.change, PowerCycle):
                found = []
            elif isinstance(entry.change, changes.DefinitionChange):
                found.append(entry)
        return found


def read(path: Path) -> Record:
    """Read a journal back. Raises ReclaimError where it is none; a torn last line is a crash's, and is left."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as exc:
        raise ReclaimError(f"{path}: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise ReclaimError(f"{path}: not a journal: not UTF-8") from exc
    record = Record(path, "", [], ended=False)
    by_seq: dict[int, Entry] = {}
    for number, line in _whole_lines(text):
        try:
            entry = json.loads(line)
            event = entry["event"]
            if event == "begin":
                record.uri = str(entry["uri"])
                record.inventory = entry.get("inventory") or record.inventory
                record.ended = False
            elif event == "intent":
                one = Entry(
                    entry["seq"],
                    entry["guest"],
                    entry["uuid"],
                    entry["requirement"],
                    changes.from_json(entry["change"]),
                )
                by_seq[one.seq] = one
                record.entries.append(one)
            elif event in ("done", "failed", "unknown", "undone"):
                one = by_seq[entry["seq"]]
                one.state = event
                one.outcome = entry.get("outcome", one.outcome)
                one.reason = entry.get("reason", "")
            elif event == "end":
                record.ended = True
        except (ValueError, KeyError, TypeError) as exc:
            raise ReclaimError(f"{path}:{number}: not a line of a journal: {exc}") from exc
    return record


def _whole_lines(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(keepends=True), start=1):
        if line.endswith("\n") and line.strip():
            yield number, line
