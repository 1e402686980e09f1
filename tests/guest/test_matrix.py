"""Every guest of the lab matrix: audited, and mended, and every verdict compared with the table's."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lab import guest as lab
from lab import machines
from lab.demo import audit, record
from lab.guest import LabGuest
from lab.matrix import CASES, Case, guests, page
from tests.faults import record as counts

pytestmark = pytest.mark.guest

#: what a guest takes of the host's memory beside its own: QEMU, and the code that it translates
_BESIDE_MIB = 200
#: guests up at a time: under emulation an idle one takes a fifteenth of a core
_AT_ONCE = 6
_ALL = os.environ.get("RECLAIM_GUESTS") == "all"
#: all are made and mended if that is set (`make guests`, `make matrix`), else those that are always looked at
MADE = [case for case in CASES if case.always or _ALL]
MENDED = [case for case in MADE if case.mended and (case.always_mended or _ALL)]
COUNTED = [case for case in MENDED if case.counted]
#: what is written and deleted to count bytes, and what may come or go beside that: a journal, an inode table
_CHURN_MIB = 64
_BESIDE_BYTES = 16 * 2**20

Rows = dict[tuple[str, str | None], dict[str, Any]]
#: a busy host makes minutes of a boot
_PATIENCE = "[policy]\nboot_seconds = 900\nshutdown_seconds = 600\n"
MOUNTS = "findmnt --real -rno TARGET,UUID,FSROOT | sort; tail -n +2 /proc/swaps | wc -l"


@dataclass
class Seen:
    """What was seen of one guest: the rows of each run, and its mounts and its fstab before and after.

    `absent`: why it could not be made, which is no trouble of the others.
    """

    absent: str = ""
    audit: Rows = field(default_factory=dict)
    mended: Rows = field(default_factory=dict)
    again: Rows = field(default_factory=dict)
    mounts: list[str] = field(default_factory=list)
    #: bytes of the root's image on the host: mended, with what was deleted in it, trimmed
    allocated: list[int] = field(default_factory=list)
    fstab: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Seen]]:
    """The guests that tests were selected of, some at once, as the memory holds them: this is what takes the time."""
    waiting = _selected(request.session.items)
    found = {case.name: Seen() for case in waiting}
    chosen = list(waiting)
    try:
        while waiting:
            count = max(1, min(_AT_ONCE, _available_mib() // (guests.MEMORY_MIB + _BESIDE_MIB)))
            batch, waiting = waiting[:count], waiting[count:]
            _look(batch, found, tmp_path_factory.mktemp("reports"))
        if os.environ.get("RECLAIM_MATRIX") == "write":
            _record(found)
        yield found
    finally:
        for case in chosen:
            lab.destroy(case.domain)


def _selected(items: list[pytest.Item]) -> list[Case]:
    """The guests of the tests of this file that are to run."""
    ours = (item for item in items if item.path == Path(__file__) and isinstance(item, pytest.Function))
    parameters = [item.callspec.params for item in ours if hasattr(item, "callspec")]
    names = {given["case"].name for given in parameters if isinstance(given["case"], Case)}
    return [case for case in MADE if case.name in names]


def _record(found: dict[str, Seen]) -> None:
    """Write down what was seen, and the page that shows it; guests that were not selected keep what they have."""
    wanted = {case.machine for case in CASES if case.name in found}
    absent = wanted - set(map(machines.here, wanted))
    assert not absent, f"docs/matrix.md is of a QEMU that has these machine types, and this one has not: {absent}"
    runs: dict[str, Any] = {case.name: page.recorded()[case.name] for case in CASES if case.name in page.recorded()}
    for name, one in found.items():
        if one.absent:
            continue
        runs[name] = {"audit": _shown(one.audit), "mended": _shown(one.mended)}
        if one.allocated:
            runs[name]["allocated"] = dict(zip(page.COUNTS, one.allocated, strict=True))
    page.RECORD.write_text(json.dumps(runs, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    page.main()


def _available_mib() -> int:
    (line,) = [line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable")]
    return int(line.split()[1]) // 1024


def _look(batch: list[Case], found: dict[str, Seen], reports: Path) -> None:
    made: dict[str, LabGuest] = {}
    for case, guest in zip(batch, guests.up(batch), strict=True):
        if isinstance(guest, LabGuest):
            made[case.name] = guest
        else:
            found[case.name].absent = str(guest)
    batch = [case for case in batch if case.name in made]
    for case, rows in _rows(batch, reports / "audit"):
        found[case.name].audit = rows
    mended = [case for case in batch if case in MENDED]
    for case in batch:
        if case in mended:
            _note(found[case.name], made[case.name])
        else:
            lab.destroy(case.domain)
    if not mended:
        return
    for case, rows in _rows(mended, reports / "fix", "--fix", "--restart"):
        found[case.name].mended = rows
    for case in mended:
        _note(found[case.name], made[case.name])
    for case, rows in _rows(mended, reports / "again", "--fix", "--restart"):
        found[case.name].again = rows
    for case in mended:
        if case.counted:
            found[case.name].allocated = _counted(made[case.name])
    for case in batch:
        lab.destroy(case.domain)


def _rows(cases: list[Case], reports: Path, *options: str) -> Iterator[tuple[Case, Rows]]:
    """The rows of a run over these guests, as a user starts it."""
    if not cases:
        return
    reports.mkdir()
    inventory = reports / "inventory.toml"
    inventory.write_text(_PATIENCE, encoding="utf-8")
    done = audit(",".join(case.domain for case in cases), reports, "--inventory", str(inventory), *options)
    assert done.returncode in (0, 1, 6), done.stdout + done.stderr
    results = record(reports)["results"]
    for case in cases:
        yield case, {(row["requirement"], row["disk"]): row for row in results if row["guest"] == case.domain}


def _note(one: Seen, guest: LabGuest) -> None:
    one.mounts.append(_said(guest, MOUNTS))
    one.fstab.append(_said(guest, "cat /etc/fstab; ls -A /etc /boot | grep reclaim || true"))


def _counted(guest: LabGuest) -> list[int]:
    """Write and delete some MiB, trim, and return the image's bytes on the host before, between and after."""
    _said(guest, "sync; fstrim -a")
    counts = [lab.allocated(guest)]
    lab.churn(guest, _CHURN_MIB)
    counts.append(lab.allocated(guest))
    _said(guest, "fstrim -a")
    return [*counts, lab.allocated(guest)]


def _of(case: Case, seen: dict[str, Seen]) -> Seen:
    """Return what was seen of that guest, and fail the test if it could not be made."""
    one = seen[case.name]
    assert not one.absent, one.absent
    return one


def _said(guest: LabGuest, command: str) -> str:
    done = lab.run(guest, command)
    assert done.code == 0, done.err
    return done.out


def _shown(rows: Rows) -> dict[str, str]:
    return {f"{slug}:{disk}" if disk else slug: row["verdict"] for (slug, disk), row in rows.items()}


def _shown_mended(rows: Rows) -> dict[str, str]:
    """What mending itself freed is more than is tolerated, or is not: then it was trimmed, or waits for disc-max."""
    shown = _shown(rows)
    for (slug, disk), row in rows.items():
        if slug == "trim-backlog" and (
            row["verdict"] == "fixed" or "withheld: depends on disc-max" in (row["reason"] or "")
        ):
            shown[f"{slug}:{disk}"] = "compliant"
    return shown


def _wanted(case: Case, rows: Rows, *, mended: bool = False) -> dict[str, str]:
    """What the table expects of these rows; a row of a requirement without expectations is as it may be."""
    expected = case.mended if mended and case.mended else case.audit
    wanted = {
        f"{slug}:{disk}" if disk else slug: expected.verdict(slug, disk) or row["verdict"]
        for (slug, disk), row in rows.items()
    }
    if not _has_old_type(case):
        wanted["machine-type"] = "compliant"
    return wanted


def _has_old_type(case: Case) -> bool:
    """Whether its machine type is too old on this QEMU as well, which may have newer ones only."""
    return machines.is_old(machines.here(case.machine))


def _complete(case: Case, rows: Rows) -> None:
    """Is there a row for each requirement, and for each disk where it is judged for disks?"""
    assert {slug for slug, _ in rows} == set(page.slugs())
    per_disk = {slug for slug, disk in rows if disk}
    assert {disk for _, disk in rows} == {None, *case.targets}
    assert len(rows) == len(page.slugs()) - len(per_disk) + len(per_disk) * len(case.targets)


@pytest.mark.parametrize("case", MADE, ids=lambda case: case.name)
def test_the_audit_says_what_the_table_says(case: Case, seen: dict[str, Seen]) -> None:
    rows = _of(case, seen).audit
    _complete(case, rows)
    assert _shown(rows) == _wanted(case, rows), {key: row["reason"] for key, row in rows.items()}


@pytest.mark.parametrize("case", MENDED, ids=lambda case: case.name)
def test_mending_does_what_the_table_says(case: Case, seen: dict[str, Seen]) -> None:
    one = _of(case, seen)
    _complete(case, one.mended)
    assert _shown_mended(one.mended) == _wanted(case, one.mended, mended=True), {
        key: row["reason"] for key, row in one.mended.items()
    }
    for slug, words in case.left.items():
        if slug == "machine-type" and not _has_old_type(case):
            continue
        expected = words.replace(case.machine, machines.here(case.machine))
        reasons = [row["reason"] for (found, _), row in one.mended.items() if found == slug]
        assert all(expected in reason for reason in reasons), reasons
    assert one.mounts[0] == one.mounts[1]


@pytest.mark.parametrize("case", MENDED, ids=lambda case: case.name)
def test_a_second_run_changes_nothing(case: Case, seen: dict[str, Seen]) -> None:
    rows = _of(case, seen).again
    wanted = {key: "compliant" if word == "fixed" else word for key, word in _wanted(case, rows, mended=True).items()}
    assert _shown_mended(rows) == wanted, {key: row["reason"] for key, row in rows.items()}
    assert not any(change["applied"] for row in rows.values() for change in row["changes"])


@pytest.mark.parametrize("case", COUNTED, ids=lambda case: case.name)
def test_the_host_has_back_what_the_guest_deleted(case: Case, seen: dict[str, Seen]) -> None:
    before, grown, after = _of(case, seen).allocated
    assert grown - before > _CHURN_MIB * 2**20 - _BESIDE_BYTES
    assert after - before < _BESIDE_BYTES


@pytest.mark.parametrize("case", [case for case in MENDED if "fstab-uuid" in case.left], ids=lambda case: case.name)
def test_where_nothing_can_be_written_nothing_is_left_half_written(
    case: Case, seen: dict[str, Seen], request: pytest.FixtureRequest
) -> None:
    before, after = _of(case, seen).fstab
    assert before == after
    assert "reclaim" not in after
    counts.note(request.node.nodeid, {"guests": 1})
