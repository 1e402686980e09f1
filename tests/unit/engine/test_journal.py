"""The journal: secret, synced, and read back as it was written, also by a run that died."""

from __future__ import annotations

import errno
import json
import os
import resource
import stat
from typing import TYPE_CHECKING

import pytest

from reclaim.base.errors import JournalLost, ReclaimError
from reclaim.changes.change import Change
from reclaim.changes.command import CommandChange
from reclaim.changes.definition_change import DefinitionChange
from reclaim.changes.file_change import FileChange
from reclaim.changes.trim import Trim
from reclaim.engine.journal import Journal, read

if TYPE_CHECKING:
    from pathlib import Path

DEFINED = "<domain><name>one</name><uuid>u</uuid>{}</domain>"
CHANGES: list[Change] = [
    DefinitionChange("one", DEFINED.format("<a passwd='hunter2'/>"), DEFINED.format("é\u2028"), {"vda": "sda"}),
    FileChange("one", "/etc/fstab", "\udcff\x85\n", None, verify="v", then="t"),
    CommandChange("one", "update-grub"),
    Trim("one"),
]


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal.jsonl", "test:///x", "fix")


def test_there_is_no_file_before_the_first_change(journal: Journal) -> None:
    journal.end()
    assert not journal.path.exists()


def test_only_its_owner_may_read_it(journal: Journal) -> None:
    journal.intend("one", "u", "disk-discard", CHANGES[0])
    assert stat.S_IMODE(journal.path.stat().st_mode) == 0o600


def test_it_is_not_written_through_a_symbolic_link(journal: Journal, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.touch()
    journal.path.symlink_to(other)
    with pytest.raises(JournalLost, match="symbolic"):
        journal.intend("one", "u", "disk-discard", CHANGES[0])
    assert other.read_bytes() == b""
    with pytest.raises(ReclaimError, match="a link, not a journal"):
        read(journal.path)


def test_the_intent_is_on_disk_before_anything_is_applied(journal: Journal) -> None:
    journal.intend("one", "u", "disk-discard", CHANGES[0])
    [entry] = read(journal.path).entries
    assert (entry.change, entry.state, entry.guest, entry.uuid) == (CHANGES[0], "intended", "one", "u")


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.kind)
def test_a_change_of_every_kind_is_read_back(journal: Journal, change: Change) -> None:
    seq = journal.intend("é\n", "u", "slug", change)
    journal.done(seq, {"defined": "<x/>"})
    journal.end()
    record = read(journal.path)
    [entry] = record.entries
    assert (entry.change, entry.guest, entry.requirement) == (change, "é\n", "slug")
    assert (entry.state, entry.outcome) == ("done", {"defined": "<x/>"})
    assert (record.uri, record.ended, record.interrupted) == ("test:///x", True, [])


def test_outcomes_belong_to_their_changes(journal: Journal) -> None:
    numbers = [journal.intend("one", "u", "slug", change) for change in CHANGES]
    journal.done(numbers[2], {})
    journal.failed(numbers[0], "refused")
    journal.done(numbers[1], {})
    journal.undone(numbers[1], "rolled back")
    record = read(journal.path)
    assert [(entry.state, entry.reason) for entry in record.entries] == [
        ("failed", "refused"),
        ("undone", "rolled back"),
        ("done", ""),
        ("intended", ""),
    ]
    assert [entry.change for entry in record.applied] == [CHANGES[2]]
    assert [entry.change for entry in record.interrupted] == [CHANGES[3]]
    assert not record.ended


def test_what_stands_is_what_is_applied_and_not_undone_of_one_guest(journal: Journal) -> None:
    first, second, third = (journal.intend("one", "u", "slug", change) for change in CHANGES[:3])
    other = journal.intend("two", "v", "slug", CHANGES[3])
    for number in (first, second, other):
        journal.done(number, {})
    journal.undone(second, "")
    journal.failed(third, "")
    assert journal.standing("u") == [(first, CHANGES[0])]
    assert journal.standing("v") == [(other, CHANGES[3])]
    assert journal.standing("w") == []


def test_an_intent_that_is_not_written_whole_stops_its_change(journal: Journal) -> None:
    """Where there is room for a part of it write(2) takes that part, and says so by its result alone."""
    journal.intend("one", "u", "disk-discard", CHANGES[0])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # for this call alone: what pytest itself writes may go to a large file
    resource.setrlimit(resource.RLIMIT_FSIZE, (journal.path.stat().st_size + 50, limits[1]))
    try:
        with pytest.raises(JournalLost, match="too large"):
            journal.intend("one", "u", "disk-discard", CHANGES[2])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [entry.change for entry in read(journal.path).entries] == CHANGES[:1]


def test_a_line_that_is_written_in_part_is_removed(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    journal.intend("one", "u", "disk-discard", CHANGES[0])
    before = journal.path.read_bytes()
    write = os.write

    def write_half(descriptor: int, data: bytes) -> int:
        write(descriptor, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", write_half)
    with pytest.raises(JournalLost, match="No space left"):
        journal.intend("one", "u", "disk-discard", CHANGES[0])
    assert journal.path.read_bytes() == before


@pytest.mark.parametrize("cut", [1, 10, 60])
def test_a_torn_last_line_is_left(journal: Journal, cut: int) -> None:
    journal.done(journal.intend("one", "u", "slug", CHANGES[0]), {})
    journal.intend("one", "u", "slug", CHANGES[1])
    raw = journal.path.read_bytes()
    journal.path.write_bytes(raw[:-cut])
    assert [entry.state for entry in read(journal.path).entries] == ["done"]


@pytest.mark.slow
def test_every_prefix_of_a_journal_can_be_read(journal: Journal) -> None:
    for change in CHANGES:
        journal.done(journal.intend("one", "u", "slug", change), {})
    journal.end()
    raw = journal.path.read_bytes()
    seen = set()
    for length in range(len(raw) + 1):
        journal.path.write_bytes(raw[:length])
        seen.add(len(read(journal.path).applied))
    assert seen == {0, 1, 2, 3, 4}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("not json\n", id="no-json"),
        pytest.param("[]\n", id="a-list"),
        pytest.param("5\n", id="a-number"),
        pytest.param("{}\n", id="no-event"),
        pytest.param('{"event": "done", "seq": 9}\n', id="no-such-change"),
        pytest.param('{"event": "intent", "seq": 1}\n', id="no-change"),
        pytest.param(
            json.dumps(
                {
                    "event": "intent",
                    "seq": 1,
                    "guest": "g",
                    "uuid": "u",
                    "requirement": "r",
                    "change": {"kind": "magic"},
                }
            )
            + "\n",
            id="unknown-kind",
        ),
        pytest.param(
            json.dumps(
                {
                    "event": "intent",
                    "seq": 1,
                    "guest": "g",
                    "uuid": "u",
                    "requirement": "r",
                    "change": {"kind": "trim", "no": 1},
                }
            )
            + "\n",
            id="another-shape",
        ),
    ],
)
def test_what_is_no_journal_is_told_by_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text(f'{{"event": "begin", "uri": "x"}}\n{text}', encoding="utf-8")
    with pytest.raises(ReclaimError, match=r"journal\.jsonl:2: not a line of a journal"):
        read(path)


def test_a_file_that_is_no_text_or_not_there_is_told(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with pytest.raises(ReclaimError, match="No such file"):
        read(path)
    path.write_bytes(b"\xff\xfe\n")
    with pytest.raises(ReclaimError, match="not UTF-8"):
        read(path)
