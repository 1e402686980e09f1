"""The figures for Prometheus."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from reclaim.record.record import Record
from reclaim.report import metrics
from reclaim.requirement import catalogue
from tests import records
from tests.records import GIB, row, storage

NOW = metrics.Attempt(records.EPOCH, success=True)
LATER = records.EPOCH + timedelta(days=7)
FAILED = metrics.Attempt(LATER, success=False)
HOSTILE = 'kvm"1\\\n{x="y"} 1'


def written(path: Path, *found: Record) -> dict[tuple[str, tuple[str, ...]], float]:
    """Every sample by its name and the values of its labels but the hypervisor's."""
    metrics.write(path, found, NOW)
    return written_as_it_is(path)


def written_as_it_is(path: Path) -> dict[tuple[str, tuple[str, ...]], float]:
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
    said = written(tmp_path / "one", records.record(records.whole("one"), [storage(used=None)]))
    assert said["reclaim_guests", ("returns",)] == 1
    assert ("reclaim_reclaimable_bytes", ()) not in said


def test_a_name_stays_inside_its_label(tmp_path: Path) -> None:
    found = records.record([row("disc-max", "compliant")], hypervisor=HOSTILE)
    metrics.write(tmp_path / "one", [found], NOW)
    for _ in range(2):  # written, then read back and written again
        metrics.write(tmp_path / "one", [], NOW)
        families = text_string_to_metric_families((tmp_path / "one").read_text(encoding="utf-8"))
        names = {sample.labels.get("hypervisor") for family in families for sample in family.samples}
        assert names == {HOSTILE, None}


def test_what_was_there_stays_until_all_is_written(tmp_path: Path) -> None:
    file = tmp_path / "gone/reclaim.prom"
    with pytest.raises(OSError, match="No such file"):
        metrics.write(file, [records.record([])], NOW)
    file.parent.mkdir()
    metrics.write(file, [records.record([])], NOW)
    metrics.write(file, [records.record([row("disc-max", "compliant")])], NOW)
    assert [path.name for path in file.parent.iterdir()] == ["reclaim.prom"]


def test_nothing_is_written_where_nothing_is_asked_for() -> None:
    metrics.write(None, [records.record([])], NOW)


# Runs that know less than the file ------------------------------------------------------------


def _narrow(**facts: Any) -> Record:
    document = records.document([row("disk-bus", "compliant", "a", "sda")], mode="fix", started=LATER)
    document["run"] |= facts
    return Record.model_validate(document)


@pytest.mark.parametrize("facts", [{"cut_short": True}, {"chosen": True}, {}], ids=["cut", "chosen", "half-the-road"])
def test_a_run_that_was_not_whole_leaves_the_figures_of_the_last_whole_one(
    tmp_path: Path, facts: dict[str, Any]
) -> None:
    whole = records.record([*records.whole("a", broken=True), *records.whole("b")], [storage("a")])
    before = written(tmp_path / "one", whole)
    now = written(tmp_path / "one", _narrow(**facts))
    kept = {f"reclaim_{family.name}" for family in metrics.OF_WHOLE_RUNS}
    assert {key: value for key, value in now.items() if key[0] in kept} == {
        key: value for key, value in before.items() if key[0] in kept
    }
    assert now["reclaim_last_whole_run_timestamp_seconds", ()] == whole.run.ended.timestamp()
    assert (before["reclaim_last_run_whole", ()], now["reclaim_last_run_whole", ()]) == (1, 0)
    modes = {key[1]: value for key, value in now.items() if key[0] == "reclaim_last_run_timestamp_seconds"}
    assert modes == {("audit",): whole.run.ended.timestamp(), ("fix",): LATER.timestamp() + 30}


def test_a_whole_run_forgets_the_one_before(tmp_path: Path) -> None:
    before = records.record([*records.whole("a"), row("no-more", "noncompliant")], [storage("a")])
    assert written(tmp_path / "one", before)["reclaim_findings", ("no-more",)] == 1
    now = written(tmp_path / "one", records.record(records.whole("a"), started=LATER))
    assert ("reclaim_findings", ("no-more",)) not in now
    assert ("reclaim_reclaimable_bytes", ()) not in now, "this run could not count it"
    assert now["reclaim_guests", ("returns",)] == 1


def test_another_hypervisor_keeps_its_figures(tmp_path: Path) -> None:
    path = tmp_path / "one"
    metrics.write(path, [records.record(records.whole("a"), hypervisor="kvm1")], NOW)
    metrics.write(path, [records.record(records.whole("a", broken=True), hypervisor="kvm2")], NOW)
    text = path.read_text(encoding="utf-8")
    assert 'reclaim_guests{hypervisor="kvm1",standing="returns"} 1.0' in text
    assert 'reclaim_guests{hypervisor="kvm2",standing="open"} 1.0' in text


def test_an_attempt_that_failed_is_new_and_the_last_success_stays(tmp_path: Path) -> None:
    path = tmp_path / "one"
    before = written(path, records.record(records.whole("a")))
    metrics.write(path, [], FAILED)
    now = written_as_it_is(path)
    assert now.pop(("reclaim_last_attempt_success", ())) == 0
    assert now.pop(("reclaim_last_attempt_timestamp_seconds", ())) == LATER.timestamp()
    assert now["reclaim_last_success_timestamp_seconds", ()] == records.EPOCH.timestamp()
    assert now.items() <= before.items()


def test_a_first_attempt_that_failed_has_no_success(tmp_path: Path) -> None:
    metrics.write(tmp_path / "one", [], FAILED)
    assert written_as_it_is(tmp_path / "one").keys() == {
        ("reclaim_last_attempt_success", ()),
        ("reclaim_last_attempt_timestamp_seconds", ()),
    }


@pytest.mark.parametrize(
    "before",
    [
        b"\xff\xfe no text",
        b"reclaim_guests{hypervisor=",
        b'reclaim_guests{hypervisor="kvm1",standing="returns",guest="secret"} 1\n',
        b'reclaim_guests{standing="returns"} 1\nreclaim_last_attempt_success{hypervisor="a"} 1\n',
        b'node_load1 0.5\nreclaim_unknown{hypervisor="kvm1"} 1\n',
        b"x" * 5_000_000,
        b"# TYPE reclaim_guests ",
        b"# HELP reclaim_guests\n# TYPE reclaim_guests",
        b'reclaim_guests{hypervisor="kvm1",standing="returns"}\n',
    ],
    ids=["bytes", "torn", "more-labels", "fewer-labels", "others", "large", "no-type", "no-help", "no-value"],
)
def test_a_file_that_is_not_ours_gives_nothing(tmp_path: Path, before: bytes) -> None:
    (tmp_path / "one").write_bytes(before)
    fresh = written(tmp_path / "two", _narrow(chosen=True))
    assert written(tmp_path / "one", _narrow(chosen=True)) == fresh


# The format -----------------------------------------------------------------------------------

#: https://prometheus.io/docs/practices/naming/ and what `promtool check metrics` looks for
UNITS = ("_seconds", "_bytes")
RESERVED = ("_total", "_count", "_sum", "_bucket", "_created")
WRONG_UNITS = re.compile("milli|micro|minutes|hours|days|kilo|mega|kib|mib|percent|gauge|counter|histogram|summary")


def test_names_follow_prometheus_rules(tmp_path: Path) -> None:
    waived = row("fstab-uuid", "waived", "b", waiver={"reason": "x", "until": "2026-03-01"})
    written(tmp_path / "one", records.record([*records.whole("a"), waived], [storage("a")]))
    text = (tmp_path / "one").read_text(encoding="utf-8")
    families = list(text_string_to_metric_families(text))
    assert {family.name for family in families} == {f"reclaim_{name}" for name in metrics.FAMILIES}
    for family in families:
        assert re.fullmatch("reclaim_[a-z]+(_[a-z]+)*", family.name)
        assert family.type == "gauge"
        assert len(family.documentation) > 10
        assert not family.name.endswith(RESERVED)
        assert not WRONG_UNITS.search(family.name)
        assert any(word in family.name for word in UNITS) == family.name.endswith(UNITS)
        assert all(re.fullmatch("[a-z]+", label) for sample in family.samples for label in sample.labels)
        assert text.count(f"# HELP {family.name} ") == text.count(f"# TYPE {family.name} gauge\n") == 1


def test_a_hypervisor_has_at_most_forty_series(tmp_path: Path) -> None:
    """Every requirement that is judged without an option, every mode, everything known; the file has it all at once."""
    asked_for = [slug for slug, known in catalogue().items() if known.option or known.policy]
    path = tmp_path / "reclaim.prom"
    for mode in ("audit", "plan", "fix"):
        rows = [each for each in records.whole("a", broken=True) if each["requirement"] not in asked_for]
        waived = row("fstab-uuid", "waived", "b", waiver={"reason": "x", "until": "2026-03-01"})
        metrics.write(path, [records.record([*rows, waived], [storage("a")], mode=mode)], NOW)
    samples = written_as_it_is(path)
    of_the_command = {f"reclaim_{name}" for name in metrics.FAMILIES if not metrics.labels_of(metrics.FAMILIES[name])}
    count = sum(name not in of_the_command for name, _ in samples)
    assert 0 < count <= 40
    assert {name for name, _ in samples} == {f"reclaim_{name}" for name in metrics.FAMILIES}


def test_the_next_end_of_a_waiver_in_force(tmp_path: Path) -> None:
    def waived(until: str | None, verdict: str = "waived") -> dict[str, Any]:
        return row("fstab-uuid", verdict, "b", waiver={"reason": "x", "until": until})

    name = "reclaim_next_waiver_end_timestamp_seconds"
    path = tmp_path / "reclaim.prom"
    every = [waived("2026-03-01"), waived("2026-02-01"), waived(None), waived("2025-01-01", "noncompliant")]
    end = datetime(2026, 2, 2, tzinfo=timezone.utc).timestamp()
    assert written(path, records.record([*records.whole("a"), *every]))[name, ()] == end
    assert (name, ()) not in written(path, records.record([*records.whole("a"), waived("9999-12-31")]))


def test_an_audit_keeps_its_time_when_a_fix_is_written(tmp_path: Path) -> None:
    path = tmp_path / "reclaim.prom"
    metrics.write(path, [records.record(records.whole("a"), started=records.EPOCH)], NOW)
    metrics.write(path, [records.record(records.whole("a"), mode="fix", started=LATER)], NOW)
    samples = written_as_it_is(path)
    assert samples["reclaim_last_run_timestamp_seconds", ("audit",)] == records.EPOCH.timestamp() + 30
    assert samples["reclaim_last_run_timestamp_seconds", ("fix",)] == LATER.timestamp() + 30
