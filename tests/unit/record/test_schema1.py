"""Records of schema 1, as the version before wrote them: every reader takes them, and fills in what they lack."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from reclaim.record import record, results, runs
from reclaim.record.record import Record
from reclaim.report import archive, compare, metrics, page, summary
from tests import records
from tests.command import reclaim

OLD = sorted((Path(__file__).parent / "schema1").glob("*.json"))
NAMES = [path.stem for path in OLD]


def _old(name: str) -> Record:
    return record.read(OLD[NAMES.index(name)])


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    """Each old record in an archive, as its run left it."""
    for path in OLD:
        document = json.loads(path.read_text(encoding="utf-8"))
        shutil.copy(path, records.archive(tmp_path / "reports", document) / results.NAME)
    return tmp_path / "reports"


def test_there_is_one_of_each_kind() -> None:
    assert NAMES == ["audit", "fix", "rolled-back"]
    assert {_old(name).schema_ for name in NAMES} == {1}


@pytest.mark.parametrize("path", OLD, ids=NAMES)
def test_the_shipped_schema_takes_it(path: Path) -> None:
    schema = json.loads(record.SCHEMA_FILE.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(json.loads(path.read_text(encoding="utf-8")))


def test_an_audit_lacks_nothing() -> None:
    outcome = _old("audit").outcome
    assert (outcome.status, outcome.went_wrong) == (1, False)
    assert (outcome.rolled_back, outcome.left_off, outcome.failed, outcome.errors) == (0, 0, 0, 0)
    assert summary.figures([_old("audit")]).verdicts == Counter(outcome.verdicts)
    assert outcome.guests == 3
    assert outcome.folder is None


def test_of_a_fix_it_is_unknown_whether_it_was_rolled_back() -> None:
    """Schema 1 has the words alone: they are not searched."""
    old = _old("rolled-back")
    outcome = old.outcome
    assert (outcome.status, outcome.went_wrong) == (1, None)
    assert (outcome.rolled_back, outcome.failed, outcome.left_off) == (None, None, None)
    assert [row.rolled_back for row in old.results] == [None, None]
    fixed = _old("fix")
    assert fixed.outcome.applied == sum(change.applied for row in fixed.results for change in row.changes) > 0
    assert {row.rolled_back for row in fixed.results if row.verdict.holds and not row.changes} == {False}


def test_what_is_certain_of_a_run_that_was_cut_short_or_met_errors() -> None:
    document = json.loads(OLD[NAMES.index("rolled-back")].read_text(encoding="utf-8"))
    document["run"]["cut_short"] = True
    assert Record.model_validate(document).outcome.went_wrong is True
    assert Record.model_validate(document).outcome.status == 2
    document["run"]["cut_short"] = False
    document["results"][0]["verdict"] = "error"
    assert Record.model_validate(document).outcome.went_wrong is True


def test_a_hypervisor_of_schema_1_was_reached() -> None:
    facts = _old("audit").hypervisor
    assert (facts.reached, facts.host, facts.hostname) == (True, None, None), "the test driver is no machine"
    document = json.loads(OLD[0].read_text(encoding="utf-8"))
    document["hypervisor"] |= {"name": "kvm1", "uri": "qemu+ssh://root@kvm1/system"}
    assert Record.model_validate(document).hypervisor.hostname == "kvm1"
    assert _old("audit").run.inventory_hypervisors is None


def test_it_is_compared_with_a_record_of_today() -> None:
    old = _old("audit")
    document: dict[str, Any] = json.loads(OLD[0].read_text(encoding="utf-8"))
    for row in document["results"]:
        row |= {"rolled_back": False, "left_off": False, "failed": False}
    document |= {"schema": 2, "outcome": old.outcome.model_dump(mode="json")}
    now = Record.model_validate(document)
    assert compare.compare([old], now).is_empty
    assert compare.compare([now], old).is_empty
    document["results"][0]["verdict"] = "compliant"
    assert len(compare.compare([old], Record.model_validate(document)).mended) == 1


def test_pages_index_and_metrics_are_made_of_it(reports: Path, tmp_path: Path) -> None:
    folders = runs.every(reports)
    read = [record.read(folder) for folder in folders]
    assert len(read) == len(OLD)
    text = "".join(page.page(read, folders))
    assert all(old.run.id in text for old in read)
    index = archive.update(reports).read_text(encoding="utf-8")
    assert all(old.run.id in index for old in read)
    figures = tmp_path / "reclaim.prom"
    metrics.write(figures, read, metrics.Attempt(datetime.now(timezone.utc), success=True))
    assert "reclaim_last_run_timestamp_seconds" in figures.read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_command_reads_it(reports: Path) -> None:
    names = [old.run.id for old in map(_old, NAMES)]
    compared = reclaim("diff", names[0], names[1], "--reports", reports)
    assert (compared.returncode, compared.stderr) == (0, ""), compared.stdout
    assert reclaim("report", names[2], "--reports", reports).returncode == 0


def test_what_undo_took_back_is_marked_in_it(reports: Path) -> None:
    fix = next(run for run in runs.every(reports) if record.read(run).run.id == _old("fix").run.id)
    row = next(row for row in _old("fix").results if any(change.applied for change in row.changes))
    results.mark_undone(fix, [(row.guest or "", row.requirement, row.changes[0].target)])
    marked = record.read(fix)
    assert marked.schema_ == 1
    assert marked.outcome.applied == _old("fix").outcome.applied - 1
