"""The figures for Prometheus."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from reclaim.record.record import Record
from reclaim.report import metrics
from tests import records
from tests.records import GIB, row, storage

HOSTILE = 'kvm"1\\\n{x="y"} 1'


def written(path: Path, *found: Record) -> dict[tuple[str, tuple[str, ...]], float]:
    """Every sample by its name and the values of its labels but the hypervisor's."""
    metrics.write(path, found)
    families = text_string_to_metric_families(path.read_text(encoding="utf-8"))
    return {
        (sample.name, tuple(value for key, value in sample.labels.items() if key != "hypervisor")): sample.value
        for family in families
        for sample in family.samples
    }


def test_the_figures(tmp_path: Path) -> None:
    found = records.record(
        [*records.whole("a"), row("disk-bus", "noncompliant", "b", "sda"), row("live-definition", "pending", "b")],
        [storage("a", allocated_before=9 * GIB, allocated_after=6 * GIB, used=GIB)],
        mode="fix",
    )
    said = written(tmp_path / "reclaim.prom", found)
    assert said["reclaim_guests", ("returns",)] == 1
    assert said["reclaim_guests", ("open",)] == 1
    assert said["reclaim_last_run_whole", ()] == 1
    assert said["reclaim_results", ("noncompliant",)] == 1
    assert said["reclaim_results", ("error",)] == 0
    assert said["reclaim_findings", ("disk-bus",)] == 1
    assert said["reclaim_findings", ("disc-max",)] == 0
    assert said["reclaim_guests_waiting_for_power_cycle", ()] == 1
    assert said["reclaim_reclaimable_bytes", ()] == 5 * GIB
    assert said["reclaim_reclaimed_bytes", ()] == 3 * GIB
    assert said["reclaim_last_run_timestamp_seconds", ("fix",)] == found.run.ended.timestamp()
    assert said["reclaim_last_run_duration_seconds", ()] == 30


def test_their_number_does_not_grow_with_the_guests(tmp_path: Path) -> None:
    few = written(tmp_path / "few", Record.model_validate(records.fleet(20)))
    many = written(tmp_path / "many", Record.model_validate(records.fleet(5000)))
    assert few.keys() == many.keys()
    assert "guest-0" not in (tmp_path / "many").read_text(encoding="utf-8")


def test_what_nobody_counted_is_absent_not_nought(tmp_path: Path) -> None:
    said = written(tmp_path / "one", records.record([row("disc-max", "not-assessable")], [storage(used=None)]))
    assert ("reclaim_reclaimable_bytes", ()) not in said


def test_a_name_stays_inside_its_label(tmp_path: Path) -> None:
    found = records.record([row("disc-max", "compliant")], hypervisor=HOSTILE)
    metrics.write(tmp_path / "one", [found])
    families = text_string_to_metric_families((tmp_path / "one").read_text(encoding="utf-8"))
    assert {sample.labels["hypervisor"] for family in families for sample in family.samples} == {HOSTILE}


def test_what_was_there_stays_until_all_is_written(tmp_path: Path) -> None:
    file = tmp_path / "gone/reclaim.prom"
    with pytest.raises(OSError, match="No such file"):
        metrics.write(file, [records.record([])])
    file.parent.mkdir()
    metrics.write(file, [records.record([])])
    metrics.write(file, [records.record([row("disc-max", "compliant")])])
    assert [path.name for path in file.parent.iterdir()] == ["reclaim.prom"]


def test_nothing_is_written_where_nothing_is_asked_for() -> None:
    metrics.write(None, [records.record([])])


@pytest.mark.parametrize("narrowed", ["cut_short", "chosen", "road"])
def test_a_run_over_a_part_has_no_standings(tmp_path: Path, narrowed: str) -> None:
    rows = records.whole("a") if narrowed != "road" else [row("disk-bus", "compliant")]
    document = records.document(rows)
    if narrowed != "road":
        document["run"][narrowed] = True
    said = written(tmp_path / "part", Record.model_validate(document))
    assert said["reclaim_last_run_whole", ()] == 0
    assert not any(name == "reclaim_guests" for name, _ in said)
