"""Whole screens, as people see them: on a terminal of 80 by 24 and of 200 by 50.

The texts lie in tests/driver/screens; RECLAIM_DOCS=write writes them anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from reclaim.engine.part import Options, Part
from reclaim.engine.run import Run
from reclaim.record import record
from reclaim.record.record import Record
from reclaim.report import screen, steps
from tests import records
from tests.command import FLEET, audit
from tests.records import GIB, row, storage, whole
from tests.screens import bare, fleet, on_a_screen, reporter_on, rows_of, summary
from tests.support import GOOD, WRITES, disk_xml, domain_xml, engine, node, opened

KEPT = Path(__file__).with_name("screens")
SIZES = [(80, 24), (200, 50)]
HOME = Path("reports/kvm1/20260101T000000Z-audit")

# What was found


def _found(folder: Path, *options: str, uri: str = FLEET) -> Record:
    return record.read(audit(folder / "reports", "--definitions-only", *options, uri=uri).folder)


def _of_records(rows: list[dict[str, Any]], mode: str = "audit", **more: Any) -> Callable[[Path], Record]:
    return lambda _folder: records.record(rows, mode=mode, **more)


def _stopped(_folder: Path) -> Record:
    document = records.document(
        [*whole("a"), row("disk-bus", "noncompliant", "b", "sda", reason="it is on the bus ide")]
    )
    document["run"]["cut_short"] = True
    return Record.model_validate(document)


def _with_rest() -> list[dict[str, Any]]:
    rows = []
    applied = [records.change(applied=True)]
    for name in ("db", "mail", "web"):
        rows.append(row("disk-discard", "fixed", name, "vda", reason="was: driver discard is absent", changes=applied))
        block = "; withheld: depends on guest-access (noncompliant: no agent answers)"
        rows.append(
            row("guest-access", "noncompliant", name, reason="no agent answers; withheld: install qemu-guest-agent")
        )
        rows.append(row("disk-bus", "noncompliant", name, "vda", reason=f"it is on the bus virtio{block}"))
    reason = "the disk vda runs without discard; waits for a power cycle: run with --restart"
    rows.append(row("live-definition", "pending", "db", reason=reason))
    return rows


def _mended() -> list[dict[str, Any]]:
    rows = [*whole("web"), *whole("db")]
    for number in (0, len(rows) // 2):
        rows[number] = {**rows[number], "verdict": "fixed", "reason": "was: it was wrong"}
        rows[number]["changes"] = [records.change(applied=True)]
    return rows


_OFF = [row(slug, "not-assessable", "web", reason="it is off") for slug in ("guest-access", "fstab-uuid", "disc-max")]
_DISKS = [
    storage(name, allocated_before=9 * GIB, allocated_after=5 * GIB, reclaimable_before=4 * GIB, reclaimable_after=0)
    for name in ("web", "db")
]
SCENES: dict[str, tuple[int, Callable[[Path], Record]]] = {
    "all-good": (0, _of_records([*whole("web"), *whole("db")], disks=_DISKS)),
    "one-finding": (
        1,
        _of_records([*whole("db"), row("disk-bus", "noncompliant", "web", "vda", reason="it is on ide")]),
    ),
    "samples": (1, _found),
    "thousand": (1, lambda folder: _found(folder, uri=fleet(folder / "node.xml", 1000))),
    "nobody-could-look": (6, _of_records(_OFF)),
    "fix-that-mends-all": (0, _of_records(_mended(), "fix", disks=_DISKS)),
    "fix-with-rest": (1, _of_records(_with_rest(), "fix")),
    "plan": (1, lambda folder: _found(folder, "--plan", "--guests", "build-2013,mail")),
    "stopped": (2, _stopped),
}


# On a screen of a size


@dataclass(frozen=True)
class _Stage:
    """pytest's reporter on a terminal, in a folder with a report."""

    part: Part
    config: pytest.Config

    def show(self, found: Record, status: int, columns: int, lines: int, verbosity: int = 0) -> list[str]:
        run = Run(Options(mode=found.run.mode), [replace(self.part, found=found)])
        with pytest.MonkeyPatch.context() as patch:
            reporter, out = reporter_on(self.config, patch, columns, lines, verbosity)
            screen.summary(reporter, run, status)
        return out.getvalue().splitlines()


@pytest.fixture
def stage(tmp_path: Path, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch) -> _Stage:
    """The commands and folders are as long on every machine, for a screen has room for so many findings."""
    (tmp_path / HOME).mkdir(parents=True)
    (tmp_path / HOME / "report.html").touch()
    (tmp_path / HOME / "journal.jsonl").touch()
    hypervisor = opened(tmp_path, domain_xml(disk_xml()))
    hypervisor.name = "kvm1"
    part = Part(hypervisor, [], engine(hypervisor, tmp_path, "audit"), HOME)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(steps, "rerun", lambda _record, *flags, **_more: " ".join(("reclaim audit", *flags)))
    monkeypatch.setattr(steps, "undo", lambda folder: f"reclaim undo {folder}")
    return _Stage(part, pytestconfig)


@pytest.mark.parametrize("name", SCENES)
def test_a_whole_screen(stage: _Stage, tmp_path: Path, name: str) -> None:
    status, found = SCENES[name]
    seen = found(tmp_path)
    for columns, lines in SIZES:
        shown = [line.rstrip() for line in stage.show(seen, status, columns, lines)]
        kept = KEPT / f"{name}-{columns}x{lines}.txt"
        if WRITES:
            KEPT.mkdir(exist_ok=True)
            kept.write_text("\n".join(shown) + "\n", encoding="utf-8")
        assert shown == kept.read_text(encoding="utf-8").splitlines(), f"{kept}: RECLAIM_DOCS=write writes it anew"
        heading = max(number for number, line in enumerate(shown) if line.startswith("===="))
        # pytest's last line and the prompt have to fit too
        assert rows_of(shown[heading:], columns) <= lines - 2


@pytest.mark.parametrize("name", ["all-good", "thousand", "fix-with-rest", "nobody-could-look"])
def test_a_quiet_screen(stage: _Stage, tmp_path: Path, name: str) -> None:
    status, found = SCENES[name]
    seen = found(tmp_path)
    quiet = stage.show(seen, status, 80, 24, -1)
    [sentence] = stage.show(seen, status, 80, 24, -2)
    assert quiet[0] == sentence
    assert not any(line.startswith(("next:", "report:", "====")) for line in quiet)


# Real runs on a real terminal


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> str:
    return fleet(tmp_path_factory.mktemp("large") / "node.xml", 180)


@pytest.mark.parametrize(("columns", "lines"), SIZES)
def test_the_summary_of_a_fleet_fits_one_screen(large: str, tmp_path: Path, columns: int, lines: int) -> None:
    shown = on_a_screen(tmp_path, large, columns=columns, lines=lines)
    said = summary(shown)
    assert rows_of(said, columns) < lines, "\n".join(said)
    assert said[1].startswith("SAMPLES: ")
    assert any(re.fullmatch(r"disk-discard: \d+ findings in \d+ guests", text) for text in said)
    assert any("-v prints them all, and the report has them" in text for text in said)
    assert len([text for text in said if "report.html" in text]) == 1
    assert any(text.startswith("next: ") for text in said)
    # the letters of so many guests have no names
    assert not any(bare(text).startswith("web-0001 ") for text in shown)


def test_wide_names_do_not_break_it(tmp_path: Path) -> None:
    names = [f"{'仮想機械' * 12}{number}" for number in range(30)]
    uri = node(tmp_path, *(domain_xml(disk_xml(), name=name) for name in names))
    said = summary(on_a_screen(tmp_path / "reports", uri))
    assert rows_of(said, 80) < 24
    assert any("仮想機械" in text and "…" in text for text in said)


@pytest.mark.parametrize(
    ("guests", "options", "colour", "words"),
    [
        ("web", [], 32, "OK (SAMPLES): "),
        ("wiki", [], 31, "NOT OK (SAMPLES): "),
        ("vpn-appliance", ["-k", "machine_type"], 33, "NOT ALL CHECKED (SAMPLES): "),
        ("vpn-appliance", [], 31, "NOT OK (SAMPLES): "),
    ],
)
def test_the_last_line_has_the_colour_of_what_was_found(
    tmp_path: Path, guests: str, options: list[str], colour: int, words: str
) -> None:
    shown = on_a_screen(tmp_path, FLEET, "--definitions-only", "--guests", guests, *options)
    last = [line for line in shown if line.strip()][-1]
    assert last.startswith(f"\x1b[{colour}m="), last
    assert bare(last).strip("= ").startswith(words)
    sentence = next(line for line in shown if " of 1 guest " in line)
    assert f"\x1b[{colour}m" in sentence


def test_without_colours_the_words_are_the_same(tmp_path: Path) -> None:
    shown = on_a_screen(tmp_path, FLEET, "--definitions-only", "--color=no")
    assert "\x1b[3" not in "".join(shown)
    assert summary(shown)[-1].strip("= ").startswith("NOT OK (SAMPLES): 18 noncompliant, 1 not-assessable, ")


def test_quiet_on_a_screen_has_no_letters(tmp_path: Path) -> None:
    shown = [bare(line) for line in on_a_screen(tmp_path, FLEET, "-q", "--guests", "wiki") if bare(line).strip()]
    assert shown[0].startswith("SAMPLES: 1 of 1 guest does not return freed space")
    assert not any("%]" in text or text.startswith("wiki") for text in shown)


def test_a_fix_has_its_way_back_and_what_is_left(tmp_path: Path) -> None:
    uri = node(tmp_path, domain_xml(*GOOD), domain_xml(disk_xml(), name="old", running=False))
    said = audit(tmp_path / "reports", "--fix", "--force", "--definitions-only", uri=uri)
    assert said.status == 0
    [following] = [line for line in said.lines if line.startswith("next:   ")]
    [way_back] = [line for line in said.lines if line.startswith("undo:   ")]
    assert "undo" not in following
    assert "--fix" not in following
    assert way_back.endswith(str(said.folder))
    assert "3 of 3 findings were fixed" in said.lines
    assert said.lines[-1].strip("= ").startswith("OK (SAMPLES): 3 fixed, ")
