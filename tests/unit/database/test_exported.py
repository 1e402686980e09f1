"""`reclaim merge --metrics`: the figures of a fleet for Prometheus."""

from __future__ import annotations

import shutil
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from reclaim.__main__ import main
from reclaim.database import exported, schema
from reclaim.database.questions import Given
from tests.hostile import ESCAPES, TAG
from tests.records import GIB, row, storage
from tests.unit.database.made import NOW, bus, into, put, run

Samples = dict[tuple[str, tuple[str, ...]], float]


def written(database: Path, path: Path, expected: list[str] | None) -> Samples:
    with schema.reading(database, print) as connection:
        exported.write(connection, path, Given(NOW, expected))
    families = text_string_to_metric_families(path.read_text(encoding="utf-8"))
    return {
        (sample.name, tuple(sample.labels.values())): sample.value for family in families for sample in family.samples
    }


@pytest.fixture
def samples(tmp_path: Path) -> Samples:
    until = (NOW + timedelta(days=5)).date().isoformat()
    waived = row("fstab-uuid", "waived", "mail", waiver={"reason": "x", "until": until})
    put(
        tmp_path / "reports",
        run(6, bus("compliant"), bus("compliant", "b"), disks=[storage("web", used=GIB)]),
        run(8, bus("noncompliant"), bus("not-assessable", "b"), waived),
        run(0, bus("compliant"), hypervisor="kvm2"),
    )
    into(tmp_path / "f", tmp_path / "reports")
    return written(tmp_path / "f", tmp_path / "fleet.prom", ["kvm1", "kvm2", "kvm3"])


def test_the_figures_of_a_fleet(samples: Samples) -> None:
    assert samples["reclaim_fleet_hypervisors", ()] == 2
    assert samples["reclaim_fleet_silent", ("kvm3", "never")] == 1
    assert samples["reclaim_fleet_silent", ("kvm2", "late")] == 1
    assert ("reclaim_fleet_silent", ("kvm1", "late")) not in samples
    assert samples["reclaim_fleet_newly_broken", ("disk-bus",)] == 1
    assert samples["reclaim_fleet_newly_broken", ("fstab-uuid",)] == 0
    assert samples["reclaim_fleet_reclaimable_bytes", ()] == 4 * GIB
    assert samples["reclaim_fleet_waivers", ("ends",)] == 1
    assert samples["reclaim_fleet_waivers", ("ended",)] == 0
    assert samples["reclaim_fleet_went_wrong", ()] == 0
    assert samples["reclaim_fleet_last_merge_timestamp_seconds", ()] == NOW.timestamp()
    assert {name.removeprefix("reclaim_") for name, _ in samples} == {*exported.FAMILIES}


def test_the_rows_of_a_requirement_have_their_whole(samples: Samples) -> None:
    rows = {labels: value for (name, labels), value in samples.items() if name == "reclaim_fleet_rows"}
    assert {verdict: value for (slug, verdict), value in rows.items() if slug == "disk-bus" and value} == {
        "noncompliant": 1,
        "not-assessable": 1,
        "compliant": 1,
    }
    assert len(rows) == 2 * 8


def test_no_label_names_a_guest_and_no_name_breaks_the_file(tmp_path: Path) -> None:
    put(tmp_path / "reports", run(0, bus("compliant", TAG)), run(1, bus("noncompliant", TAG, reason=ESCAPES)))
    into(tmp_path / "f", tmp_path / "reports")
    names = ['kvm"1\\\n{x="y"} 1', "kvm2"]
    samples = written(tmp_path / "f", tmp_path / "fleet.prom", names)
    assert TAG not in (tmp_path / "fleet.prom").read_text(encoding="utf-8")
    assert {labels for name, labels in samples if name == "reclaim_fleet_silent"} == {
        ('kvm"1\\ {x="y"} 1', "never"),
        ("kvm2", "never"),
    }
    assert (tmp_path / "fleet.prom").stat().st_mode & 0o777 == 0o644
    if promtool := shutil.which("promtool"):
        text = (tmp_path / "fleet.prom").read_bytes()
        done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b"")


def test_a_fleet_has_at_most_one_series_a_hypervisor(tmp_path: Path) -> None:
    counts = []
    for fleet in (1, 11):
        put(tmp_path / f"r{fleet}", *(run(0, hypervisor=f"kvm{number}") for number in range(fleet)))
        into(tmp_path / f"f{fleet}", tmp_path / f"r{fleet}")
        counts.append(len(written(tmp_path / f"f{fleet}", tmp_path / "fleet.prom", None)))
    assert counts[1] - counts[0] == 10


def test_merge_writes_page_and_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path / "reports", run(0))
    (tmp_path / "hosts").write_text("kvm1\nkvm2\n")
    files = ["--into", str(tmp_path / "f"), "--page", str(tmp_path / "p"), "--metrics", str(tmp_path / "m")]
    assert main(["merge", str(tmp_path / "reports"), *files, "--inventory", str(tmp_path / "hosts")]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"merged 1 run of 1 hypervisor: {tmp_path}/f",
        str(tmp_path / "p"),
        str(tmp_path / "m"),
    ]
    assert 'reclaim_fleet_silent{hypervisor="kvm2",state="never"} 1.0' in (tmp_path / "m").read_text()
    assert "kvm2" in (tmp_path / "p").read_text()


def test_ctrl_c_is_one_line_and_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "reports", run(0))
    into(tmp_path / "f", tmp_path / "reports")
    before = (tmp_path / "f").read_bytes()
    put(tmp_path / "reports", run(1))

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("reclaim.database.weeks.renew", stop)
    assert main(["merge", str(tmp_path / "reports"), "--into", str(tmp_path / "f")]) == 2
    assert capsys.readouterr().err == f"reclaim: stopped: nothing was merged, and {tmp_path}/f is as it was\n"
    assert (tmp_path / "f").read_bytes() == before
    monkeypatch.setattr("reclaim.database.output.table", stop)
    assert main(["ask", "worst", "--from", str(tmp_path / "f")]) == 2
    assert capsys.readouterr().err == "reclaim: stopped before the answer was whole\n"


def test_a_merge_with_a_torn_file_ends_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path / "reports", run(0), run(1))
    torn = tmp_path / "reports/kvm1/20260101T000000Z-audit/results.json"
    torn.write_text('{"schema": 2,')
    assert main(["merge", str(tmp_path / "reports"), "--into", str(tmp_path / "f")]) == 1
    printed = capsys.readouterr()
    assert printed.out == f"merged 1 run of 1 hypervisor, 1 file not merged: {tmp_path}/f\n"
    assert printed.err.startswith(f"not merged: {torn}: not a record of a run: ")
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--inventory", "x"], "--inventory goes with --page or --metrics alone"),
        (["--page", "/nowhere/x"], "/nowhere/"),
        (["--page", "/dev/null"], "no regular file"),
        (["--metrics", "/nowhere/x"], "--metrics /nowhere/x: there is no folder /nowhere"),
        (["--page", "f"], "--page f: this is the database"),
        (["--page", "x", "--metrics", "./x"], "--metrics x: this is the file of --page"),
        (["--page", "results.json"], "a record of a run"),
    ],
)
def test_a_merge_that_cannot_be_done_as_asked_ends_with_2(
    tmp_path: Path,
    words: list[str],
    why: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    put(tmp_path / "reports", run(0))
    monkeypatch.chdir(tmp_path)
    assert main(["merge", str(tmp_path / "reports"), "--into", str(tmp_path / "f"), *words]) == 2
    assert why in capsys.readouterr().err
    assert not (tmp_path / "f").exists()


def test_the_requirements_of_a_record_make_no_series_without_end(tmp_path: Path) -> None:
    put(tmp_path / "reports", run(0, *(row(f"r{number}", "compliant", "web") for number in range(400))))
    into(tmp_path / "f", tmp_path / "reports")
    found = written(tmp_path / "f", tmp_path / "fleet.prom", None)
    assert {labels[0] for name, labels in found if name == "reclaim_fleet_rows"} == {"other"}
    assert found["reclaim_fleet_rows", ("other", "compliant")] == 400
    page = tmp_path / "page.html"
    assert main(["ask", "--page", str(page), "--from", str(tmp_path / "f")]) == 0
    assert page.read_text().count('<th scope="row">r') == 100


def test_the_names_of_an_inventory_are_bounded(tmp_path: Path) -> None:
    """They come from the hypervisors, and each would be a series."""
    named = ["x" * 256, "kvm\x1b[1m", *(f"h{number}" for number in range(10_100))]
    document = run(8)
    document["run"]["inventory_hypervisors"] = named
    put(tmp_path / "reports", document)
    into(tmp_path / "f", tmp_path / "reports")
    found = written(tmp_path / "f", tmp_path / "fleet.prom", None)
    silent = [labels for name, labels in found if name == "reclaim_fleet_silent"]
    assert len(silent) == 10_000 - 1
    assert ("kvm\\x1b[1m", "never") in silent
