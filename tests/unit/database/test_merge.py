"""`reclaim merge`: runs into one database, in any order, each once."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from reclaim.__main__ import main
from reclaim.base.errors import ReclaimError
from reclaim.base.verdict import Verdict
from reclaim.database import schema, weeks
from reclaim.database.history import packed, unpacked
from reclaim.database.merge import merge
from reclaim.record import results
from reclaim.report.summary import ROAD
from tests import records
from tests.records import GIB, change, row, storage
from tests.unit.database.made import NOW, bus, content, into, put, rows, run


def verdicts(database: Path) -> dict[str, str]:
    found = rows(database, "SELECT guest || ' ' || disk, verdict FROM latest WHERE requirement = 'disk-bus'")
    return {str(name): str(verdict) for name, verdict in found}


def broken(database: Path) -> list[str]:
    return sorted(str(guest) for (guest,) in rows(database, "SELECT guest FROM judged WHERE broke"))


# Twice, torn, copied --------------------------------------------------------------------------


def test_merging_twice_changes_nothing(tmp_path: Path) -> None:
    database = tmp_path / "fleet.sqlite"
    reports = put(tmp_path / "reports", run(0), run(1, bus("noncompliant")), run(0, hypervisor="kvm2"))
    first = into(database, reports)
    assert (first.new, first.known, len(first.hypervisors)) == (3, 0, 2)
    before = database.read_bytes()
    again = into(database, reports)
    assert (again.new, again.known, again.hypervisors) == (0, 3, set())
    assert database.read_bytes() == before


def test_a_torn_file_is_refused_by_name_and_the_others_are_merged(tmp_path: Path) -> None:
    reports = put(tmp_path / "reports", run(0), run(1), run(0, hypervisor="kvm2"))
    torn = reports / "kvm1/20260108T000000Z-audit/results.json"
    whole = torn.read_bytes()
    torn.write_bytes(whole[: len(whole) // 2])
    said: list[str] = []
    merged = into(tmp_path / "f", reports, said=said)
    assert (merged.new, merged.refused) == (2, 1)
    (line,) = said
    assert line.startswith(f"not merged: {torn}: not a record of a run: ")
    torn.write_bytes(whole)
    assert into(tmp_path / "f", reports).new == 1, "it comes in once it is whole"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[" * 100_000,
        '{"schema": 99}',
        "\0" * 10,
        '"\\ud800"',
    ],
)
def test_a_file_that_is_no_record_is_refused(tmp_path: Path, text: str) -> None:
    reports = put(tmp_path / "reports", run(0), run(1))
    (reports / "kvm1/20260101T000000Z-audit/results.json").write_text(text)
    said: list[str] = []
    merged = into(tmp_path / "f", reports, said=said)
    assert (merged.new, merged.refused, len(said)) == (1, 1, 1)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"reclaimed_bytes": 2**70}, "more than 8192.0 TiB"),
        ({"storage": [storage(allocated_after=2**62)]}, "more than 8192.0 TiB"),
        *(
            ({"outcome": {**run(0)["outcome"], name: 2**70}}, "its outcome counts more")
            for name in ("rolled_back", "errors", "left_off", "failed", "applied")
        ),
        ({"results": [row(f"r{number}", "compliant", "web") for number in range(501)]}, "500 requirements"),
        ({"results": [row("r" * 101, "compliant", "web")]}, "100 characters"),
        ({"hypervisor": {**run(0)["hypervisor"], "uri": "test:///" + "x" * 1000}}, "its URI has more than 1000"),
        ({"run": {**run(0)["run"], "ended": "9999-12-31T00:00:00Z"}}, "it ended on 9999-12-31, which is to come"),
    ],
)
def test_a_size_that_cannot_be_right_is_refused(tmp_path: Path, more: dict[str, Any], words: str) -> None:
    put(tmp_path / "reports", {**run(0), **more}, run(1))
    said: list[str] = []
    assert into(tmp_path / "f", tmp_path / "reports", said=said).new == 1
    assert words in said[0]


def test_sums_of_many_wrong_sizes_end_no_merge(tmp_path: Path) -> None:
    database = tmp_path / "f"
    put(tmp_path / "reports", {**run(0), "reclaimed_bytes": 2**52}, run(0, hypervisor="kvm2"))
    into(database, tmp_path / "reports")
    # as 2,000 runs of one hypervisor would have it
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE run SET reclaimed = 9223372036854775807, reclaimable = 9223372036854775807")
        connection.execute("UPDATE hypervisor SET reclaimable = 9223372036854775807, allocated = 9223372036854775807")
    put(tmp_path / "more", {**run(0, bus("fixed"), mode="fix"), "reclaimed_bytes": 2**52})
    assert into(database, tmp_path / "more", said=[]).new == 1
    assert rows(database, "SELECT typeof(reclaimed), typeof(reclaimable), allocated FROM week")[0][0] == "integer"
    figures = tmp_path / "fleet.prom"
    assert main(["merge", str(tmp_path / "more"), "--into", str(database), "--metrics", str(figures)]) == 0


def test_a_year_of_three_digits_is_a_year(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A clock that was never set, or a record that was made by hand."""
    document = run(0)
    document["run"] |= {"started": "0500-01-02T00:00:00Z", "ended": "0500-01-02T00:01:00Z"}
    put(tmp_path / "reports", document)
    into(tmp_path / "f", tmp_path / "reports")
    assert main(["ask", "silent", "--from", str(tmp_path / "f"), "--page", str(tmp_path / "p")]) == 2
    assert main(["ask", "silent", "--from", str(tmp_path / "f")]) == 0
    assert "late   0500-01-02 00:01:00" in capsys.readouterr().out
    assert main(["ask", "--page", str(tmp_path / "p"), "--from", str(tmp_path / "f")]) == 0


def test_a_folder_that_cannot_be_read_costs_the_others_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "reports", run(0), run(0, hypervisor="kvm2"), run(0, hypervisor="kvm3"))
    scandir = os.scandir

    def refuse(folder: str) -> Any:
        if folder.endswith("/kvm1"):
            raise PermissionError(13, "Permission denied", folder)
        if folder.endswith("/kvm3"):
            raise FileNotFoundError(2, "No such file or directory", folder)
        return scandir(folder)

    monkeypatch.setattr("reclaim.database.sources.os.scandir", refuse)
    said: list[str] = []
    merged = into(tmp_path / "f", tmp_path / "reports", said=said)
    assert (merged.new, merged.refused) == (1, 1)
    assert said == [f"not merged: {tmp_path}/reports/kvm1: Permission denied"]
    with pytest.raises(ReclaimError, match="Permission denied"):
        into(tmp_path / "g", tmp_path / "reports/kvm1")


def test_a_database_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "reports", run(0))
    monkeypatch.chdir(tmp_path)
    into(Path(":memory:"), tmp_path / "reports")
    assert rows(tmp_path / ":memory:", "SELECT count(*) FROM run") == [(1,)]


def test_an_image_may_be_virtually_larger_than_sqlite_can_count(tmp_path: Path) -> None:
    put(tmp_path / "reports", run(0, disks=[storage("web", virtual=2**64)]))
    into(tmp_path / "f", tmp_path / "reports")
    assert rows(tmp_path / "f", "SELECT virtual, allocated FROM disks") == [(None, 5 * GIB)]


def test_a_surrogate_in_a_text_is_no_end_of_the_merge(tmp_path: Path) -> None:
    reports = put(tmp_path / "reports", run(0), run(1))
    path = reports / "kvm1/20260101T000000Z-audit/results.json"
    path.write_text(path.read_text().replace("it was seen", "\\udc80").replace('"compliant"', '"compliant"'))
    said: list[str] = []
    merged = into(tmp_path / "f", reports, said=said)
    assert merged.new + merged.refused == 2
    assert merged.new >= 1


def test_a_record_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    reports = put(tmp_path / "reports", run(0), run(1))
    with (reports / "kvm1/20260101T000000Z-audit/results.json").open("r+b") as stream:
        stream.truncate(2**30)
    said: list[str] = []
    assert into(tmp_path / "f", reports, said=said).new == 1
    assert said[0].endswith("it has more than 128.0 MiB")


def test_a_pipe_in_the_place_of_a_record_is_refused(tmp_path: Path) -> None:
    reports = put(tmp_path / "reports", run(0), run(1))
    path = reports / "kvm1/20260101T000000Z-audit/results.json"
    path.unlink()
    os.mkfifo(path)
    said: list[str] = []
    assert into(tmp_path / "f", reports, said=said).new == 1
    assert said[0].endswith("not a file")


def test_the_link_latest_is_no_second_run(tmp_path: Path) -> None:
    reports = put(tmp_path / "reports", run(0))
    results.point_latest(reports / "kvm1/20260101T000000Z-audit")
    assert into(tmp_path / "f", reports).new == 1
    assert into(tmp_path / "f", reports / "kvm1/latest").known == 1, "the link itself leads to its run"


def test_another_link_is_named_and_a_half_removed_run_is_left_out(tmp_path: Path) -> None:
    reports = put(tmp_path / "reports", run(0), run(1))
    (reports / "kvm1/20260108T000000Z-audit").rename(reports / "kvm1/.20260108T000000Z-audit.removed")
    elsewhere = put(tmp_path / "elsewhere", run(0, hypervisor="kvm2"))
    (reports / "kvm2").symlink_to(elsewhere / "kvm2")
    said: list[str] = []
    assert into(tmp_path / "f", reports, said=said).new == 1
    assert said == [f"{reports}/kvm2: a link, which is not followed: give its target too"]
    assert into(tmp_path / "f", reports / "kvm2").new == 1


def test_the_same_run_under_another_path_is_there_already(tmp_path: Path) -> None:
    reports = put(tmp_path / "reports", run(0), run(1))
    into(tmp_path / "f", reports)
    before = content(tmp_path / "f")
    shutil.copytree(reports, tmp_path / "copies/2026")
    merged = into(tmp_path / "f", tmp_path / "copies", reports)
    assert (merged.new, merged.known) == (0, 4)
    assert content(tmp_path / "f") == before


def test_another_run_of_the_same_name_is_refused_by_name(tmp_path: Path) -> None:
    """Two hypervisors of one name, merged from two folders: neither takes the place of the other."""
    put(tmp_path / "a", run(0, bus("compliant")))
    put(tmp_path / "b", run(0, bus("noncompliant", "mail")))
    into(tmp_path / "f", tmp_path / "a")
    before = content(tmp_path / "f")
    said: list[str] = []
    assert into(tmp_path / "f", tmp_path / "b", said=said).refused == 1
    assert "another run of this name was merged from" in said[0]
    assert content(tmp_path / "f") == before


def test_two_runs_that_began_in_one_second_are_two(tmp_path: Path) -> None:
    """Their records have the same id, and the folder of the later one a number."""
    put(tmp_path / "reports", run(0, bus("compliant")))
    made = run(0, bus("noncompliant"))
    folder = tmp_path / "reports/kvm1/20260101T000000Z-audit-2"
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps(made))
    shutil.copytree(folder, tmp_path / "copy/kvm1/latest")
    into(tmp_path / "f", tmp_path / "copy", tmp_path / "reports")
    assert rows(tmp_path / "f", "SELECT name FROM run ORDER BY name") != []
    assert rows(tmp_path / "f", "SELECT count(*) FROM run") == [(2,)]
    shutil.rmtree(tmp_path / "copy")
    into(tmp_path / "g", tmp_path / "reports")
    assert rows(tmp_path / "g", "SELECT run.name, verdict, broke FROM judged JOIN run ON run.id = run") == [
        ("20260101T000000Z-audit-2", "noncompliant", 1)
    ]


def test_a_record_in_the_folder_of_its_hypervisor(tmp_path: Path) -> None:
    for name in ("kvm1", "kvm2"):
        (tmp_path / "collected" / name).mkdir(parents=True)
        text = json.dumps(run(0, bus("compliant", name), hypervisor="localhost"))
        (tmp_path / "collected" / name / "results.json").write_text(text)
    into(tmp_path / "f", tmp_path / "collected")
    assert rows(tmp_path / "f", "SELECT hypervisor, guest FROM latest ORDER BY 1") == [
        ("kvm1", "kvm1"),
        ("kvm2", "kvm2"),
    ]


# Hypervisors ----------------------------------------------------------------------------------


def test_a_hypervisor_is_known_by_its_folder(tmp_path: Path) -> None:
    """What a host calls itself is often localhost: the folder has the name of the inventory."""
    for name in ("kvm-a", "kvm-b"):
        folder = put(tmp_path / "made", run(0, hypervisor="localhost"))
        shutil.move(folder / "localhost", tmp_path / "reports" / name)
    into(tmp_path / "f", tmp_path / "reports")
    assert rows(tmp_path / "f", "SELECT name FROM hypervisor ORDER BY name") == [("kvm-a",), ("kvm-b",)]
    assert into(tmp_path / "f", tmp_path / "reports/kvm-a").known == 1


def test_two_hypervisors_of_one_hostname_are_told_apart_by_their_addresses(tmp_path: Path) -> None:
    for week, host in enumerate(("10.0.0.1", "10.0.0.2")):
        one = run(week, bus("compliant", host), hypervisor="localhost")
        one["hypervisor"]["uri"] = f"qemu+ssh://root@{host}/system"
        put(tmp_path / "reports", one)
    into(tmp_path / "f", tmp_path / "reports")
    assert rows(tmp_path / "f", "SELECT hypervisor, guest FROM latest ORDER BY 1") == [
        ("localhost (10.0.0.1)", "10.0.0.1"),
        ("localhost (10.0.0.2)", "10.0.0.2"),
    ]


def test_a_user_and_a_port_make_no_other_hypervisor_of_it_but_a_password_is_not_kept(tmp_path: Path) -> None:
    for week, user in enumerate(("root", "audit:s3cret")):
        one = run(week)
        one["hypervisor"]["uri"] = f"qemu+ssh://{user}@kvm1/system"
        put(tmp_path / "reports", one)
    into(tmp_path / "f", tmp_path / "reports")
    assert rows(tmp_path / "f", "SELECT name FROM hypervisor") == [("kvm1",)]
    assert b"s3cret" not in (tmp_path / "f").read_bytes()


def test_runs_without_a_common_guest_are_named(tmp_path: Path) -> None:
    put(tmp_path / "reports", run(0, bus("compliant", "a")), run(1, bus("compliant", "b")))
    said: list[str] = []
    assert into(tmp_path / "f", tmp_path / "reports", said=said).new == 2
    assert len(said) == 1
    assert "no guest in common" in said[0]


# History --------------------------------------------------------------------------------------


def test_a_row_breaks_if_it_held_before(tmp_path: Path) -> None:
    put(
        tmp_path / "reports",
        run(0, bus("compliant", "a"), bus("noncompliant", "b"), bus("not-assessable", "c"), bus("compliant", "d")),
        run(1, bus("noncompliant", "a"), bus("noncompliant", "b"), bus("noncompliant", "c"), bus("error", "d")),
    )
    into(tmp_path / "f", tmp_path / "reports")
    assert broken(tmp_path / "f") == ["a", "d"], "the same rows as those of `reclaim diff`"


def test_a_new_guest_has_not_broken(tmp_path: Path) -> None:
    put(tmp_path / "reports", run(0), run(1, bus("compliant"), bus("noncompliant", "new")))
    into(tmp_path / "f", tmp_path / "reports")
    assert broken(tmp_path / "f") == []


def test_a_hypervisor_that_missed_a_week_is_compared_with_its_last(tmp_path: Path) -> None:
    put(tmp_path / "reports", run(0), run(0, hypervisor="kvm2"), run(1, hypervisor="kvm2"))
    into(tmp_path / "f", tmp_path / "reports")
    put(tmp_path / "reports", run(2, bus("noncompliant")), run(2, hypervisor="kvm2"))
    into(tmp_path / "f", tmp_path / "reports")
    assert broken(tmp_path / "f") == ["web"]
    assert rows(tmp_path / "f", "SELECT week, hypervisors FROM week") == [
        ("2026-W01", 2),
        ("2026-W02", 1),
        ("2026-W03", 2),
    ]


def test_two_disks_of_one_guest_are_two_rows(tmp_path: Path) -> None:
    both = bus("compliant", disk="sda"), bus("compliant", disk="sdb")
    put(tmp_path / "reports", run(0, *both, disks=[storage("web", "sda"), storage("web", "sdb")]))
    put(tmp_path / "reports", run(1, both[0], bus("noncompliant", disk="sdb")))
    into(tmp_path / "f", tmp_path / "reports")
    assert verdicts(tmp_path / "f") == {"web sda": "compliant", "web sdb": "noncompliant"}
    assert rows(tmp_path / "f", "SELECT disk FROM judged WHERE broke") == [("sdb",)]


def test_a_disk_that_mending_moved_is_the_same_row(tmp_path: Path) -> None:
    """vda becomes sda, and a new disk takes the name vda."""
    old = storage("web", "vda", path="/images/old"), storage("web", "vdb", path="/images/data")
    put(
        tmp_path / "reports",
        run(0, bus("noncompliant", disk="vda"), bus("noncompliant", disk="vdb"), disks=old),
        run(
            1,
            bus("compliant", disk="sda"),
            bus("compliant", disk="sdb"),
            bus("noncompliant", disk="vda"),
            disks=[
                storage("web", "sda", path="/images/old"),
                storage("web", "sdb", path="/images/data"),
                storage("web", "vda", path="/images/new"),
            ],
        ),
    )
    into(tmp_path / "f", tmp_path / "reports")
    assert rows(tmp_path / "f", "SELECT disk, before, verdict FROM turns ORDER BY disk") == [
        ("sda", "noncompliant", "compliant"),
        ("sdb", "noncompliant", "compliant"),
    ]
    assert rows(tmp_path / "f", "SELECT disk, before FROM latest WHERE verdict = 'noncompliant'") == [("vda", None)]


def test_a_guest_that_is_gone_is_no_row_any_more(tmp_path: Path) -> None:
    put(
        tmp_path / "reports",
        run(0, bus("noncompliant", "a"), bus("compliant", "b"), disks=[storage("a"), storage("b")]),
        run(1, bus("compliant", "b"), disks=[storage("b")]),
    )
    into(tmp_path / "f", tmp_path / "reports")
    assert verdicts(tmp_path / "f") == {"b sda": "compliant"}
    assert rows(tmp_path / "f", "SELECT guest FROM disks") == [("b",)]
    assert rows(tmp_path / "f", "SELECT guests, failing FROM hypervisor") == [(1, 0)]


@pytest.mark.parametrize(
    "narrow",
    [
        {"arguments": ["checks/", "--guests", "b"]},
        {"cut_short": True},
        {"chosen": True},
    ],
)
def test_a_run_of_a_part_takes_nothing_away(tmp_path: Path, narrow: dict[str, Any]) -> None:
    last = run(1, bus("noncompliant", "b"))
    last["run"] |= narrow
    put(tmp_path / "reports", run(0, bus("compliant", "a"), bus("compliant", "b")), last)
    into(tmp_path / "f", tmp_path / "reports")
    assert verdicts(tmp_path / "f") == {"a sda": "compliant", "b sda": "noncompliant"}
    assert rows(tmp_path / "f", "SELECT week FROM week_tally") == [("2026-W01",)], "nor does it count in its week"


def test_a_run_of_the_definitions_keeps_the_rows_of_the_others(tmp_path: Path) -> None:
    put(
        tmp_path / "reports",
        run(0, *(row(slug, "compliant", "web") for slug in ROAD), row("backup-job", "compliant", None)),
        run(1, *(row(slug, "noncompliant", "web") for slug in ("disk-discard", "disk-bus"))),
    )
    into(tmp_path / "f", tmp_path / "reports")
    assert len(rows(tmp_path / "f", "SELECT 1 FROM latest")) == len(ROAD) + 1
    put(tmp_path / "reports", run(2, *(row(slug, "compliant", "web") for slug in ROAD)))
    into(tmp_path / "f", tmp_path / "reports")
    assert len(rows(tmp_path / "f", "SELECT 1 FROM latest")) == len(ROAD), "a whole run has no such row"


def test_a_proof_stays_until_the_next_one(tmp_path: Path) -> None:
    every = [row(slug, "compliant", "web") for slug in ROAD]
    put(tmp_path / "reports", run(0, *every, row("reclaim-proof", "compliant", "web")), run(1, *every))
    into(tmp_path / "f", tmp_path / "reports")
    assert len(rows(tmp_path / "f", "SELECT 1 FROM latest")) == len(ROAD) + 1


def test_a_hypervisor_that_was_not_reached_keeps_its_rows(tmp_path: Path) -> None:
    away = run(1, row("reach-hypervisor", "error", None, reason="no route to host"))
    away["hypervisor"] |= {"reached": False, "libvirt": "", "qemu": None}
    put(tmp_path / "reports", run(0), away)
    into(tmp_path / "f", tmp_path / "reports")
    assert verdicts(tmp_path / "f") == {"web sda": "compliant"}
    assert rows(tmp_path / "f", "SELECT heard, errors FROM hypervisor") == [("2026-01-01T00:00:30Z", 1)]
    put(tmp_path / "reports", run(2))
    into(tmp_path / "f", tmp_path / "reports")
    assert rows(tmp_path / "f", "SELECT heard, errors FROM hypervisor") == [("2026-01-15T00:00:30Z", 0)]


def test_the_changes_of_a_fix_are_kept_and_undo_is_seen(tmp_path: Path) -> None:
    fixed = bus("fixed", changes=[change(applied=True), change(kind="file", target="/etc/fstab", applied=False)])
    reports = put(tmp_path / "reports", run(0, bus("noncompliant")), run(1, fixed, mode="fix"))
    into(tmp_path / "f", reports)
    shutil.copytree(reports, tmp_path / "before")
    changes = "SELECT run, guest, kind, undone FROM changes"
    assert rows(tmp_path / "f", changes) == [("20260108T000000Z-fix", "web", "definition", 0)]
    results.mark_undone(reports / "kvm1/20260108T000000Z-fix", [("web", "disk-bus", "definition of one")])
    assert into(tmp_path / "f", reports).new == 0
    assert rows(tmp_path / "f", changes) == [("20260108T000000Z-fix", "web", "definition", 1)]
    into(tmp_path / "f", tmp_path / "before")
    assert rows(tmp_path / "f", changes) == [("20260108T000000Z-fix", "web", "definition", 1)], "an older copy"


# Order ----------------------------------------------------------------------------------------


def test_a_clock_that_went_back_replaces_nothing_and_is_named(tmp_path: Path) -> None:
    put(tmp_path / "a", run(2, bus("noncompliant", reason="the newest")))
    put(tmp_path / "b", run(1, bus("compliant")))
    into(tmp_path / "f", tmp_path / "a")
    said: list[str] = []
    into(tmp_path / "f", tmp_path / "b", said=said)
    assert "it began before 20260115T000000Z-audit" in said[0]
    assert rows(tmp_path / "f", "SELECT verdict, reason, before FROM latest") == [
        ("noncompliant", "the newest", "compliant")
    ]
    assert broken(tmp_path / "f") == ["web"]


def test_a_run_that_is_to_come_is_refused(tmp_path: Path) -> None:
    """A clock that is years ahead would hide every run that follows."""
    put(tmp_path / "reports", run(0), run(1000, bus("noncompliant")))
    said: list[str] = []
    assert into(tmp_path / "f", tmp_path / "reports", said=said).refused == 1
    assert "which is to come" in said[0]
    assert verdicts(tmp_path / "f") == {"web sda": "compliant"}


def life(seed: int) -> list[dict[str, Any]]:
    """Eight runs of a hypervisor whose guests come, break, are mended, move their disks, and go."""
    draw = random.Random(seed)
    kinds = ("compliant", "noncompliant", "error", "not-assessable", "waived", "pending")
    runs = []
    for week in range(8):
        every, disks = [], []
        for guest in draw.sample("abcd", draw.randint(1, 4)):
            for slug in ROAD if draw.random() < 0.7 else ROAD[:2]:
                every.append(row(slug, draw.choice(kinds), guest, "sda" if slug == "disk-bus" else None))
            if draw.random() < 0.8:
                held = draw.randint(5, 9) * GIB
                disks.append(storage(guest, allocated_after=held, allocated_before=held))
        narrow: Any = {"arguments": ["checks/", "--guests", "a"]} if draw.random() < 0.3 else {}
        runs.append(run(week, *every, disks=disks, mode=draw.choice(("audit", "fix")), **narrow))
    return runs


@pytest.mark.parametrize("seed", range(20))
def test_in_any_order_runs_come_to_the_same(tmp_path: Path, seed: int) -> None:
    runs = life(seed)
    put(tmp_path / "reports", *runs)
    into(tmp_path / "straight", tmp_path / "reports", said=[])
    folders = [*(tmp_path / "reports/kvm1").iterdir()]
    random.Random(seed).shuffle(folders)
    for folder in folders:
        into(tmp_path / "shuffled", folder, said=[])
    assert content(tmp_path / "shuffled") == content(tmp_path / "straight")


def test_the_roll_up_of_a_week_is_the_sum_of_the_newest_runs(tmp_path: Path) -> None:
    twice = run(0, bus("noncompliant")), run(0, bus("compliant"), bus("waived", "b"))
    twice[1]["run"] |= {"id": "20260102T000000Z-audit", "started": "2026-01-02T00:00:00Z"}
    put(tmp_path / "reports", *twice, run(0, bus("noncompliant"), hypervisor="kvm2"))
    into(tmp_path / "f", tmp_path / "reports")
    assert rows(tmp_path / "f", "SELECT * FROM week_tally ORDER BY verdict") == [
        ("2026-W01", "disk-bus", "compliant", 1),
        ("2026-W01", "disk-bus", "noncompliant", 1),
        ("2026-W01", "disk-bus", "waived", 1),
    ]


# The file -------------------------------------------------------------------------------------


def test_only_its_owner_can_read_a_new_file(tmp_path: Path) -> None:
    put(tmp_path / "reports", run(0))
    into(tmp_path / "f", tmp_path / "reports")
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o600


def _newer(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(
        f"PRAGMA application_id = {schema.APPLICATION}; PRAGMA user_version = 99; CREATE TABLE x (y)"
    )
    connection.close()


def _other(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.executescript("CREATE TABLE moz_places (url)")
    connection.close()


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda path: path.write_text("no database, but a text of some length" * 99), "file is not a database"),
        (_newer, "a newer reclaim made it (version 99 of its tables, and this one knows 1)"),
        (_other, "this is the database of another program"),
        (lambda path: path.mkdir(), "it is no regular file"),
    ],
)
def test_a_file_that_is_none_of_ours_is_refused_in_one_line(tmp_path: Path, made: Any, words: str) -> None:
    put(tmp_path / "reports", run(0))
    database = tmp_path / "f"
    made(database)
    before = database.read_bytes() if database.is_file() else b""
    with pytest.raises(ReclaimError) as raised:
        into(database, tmp_path / "reports")
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
    assert database.is_dir() or database.read_bytes() == before


def test_an_empty_file_is_filled(tmp_path: Path) -> None:
    put(tmp_path / "reports", run(0))
    (tmp_path / "f").touch()
    assert into(tmp_path / "f", tmp_path / "reports").new == 1


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_a_folder_without_a_record_is_refused_before_anything_is_made(tmp_path: Path, name: str) -> None:
    put(tmp_path / "reports", run(0))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ReclaimError, match=name):
        into(tmp_path / "f", tmp_path / "reports", tmp_path / name)
    assert not (tmp_path / "f").exists()


def test_a_merge_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "a", run(0))
    put(tmp_path / "b", run(1), run(0, hypervisor="kvm2"))
    into(tmp_path / "f", tmp_path / "a")
    before = (tmp_path / "f").read_bytes()

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr("reclaim.database.weeks.renew", full)
    with pytest.raises(ReclaimError, match="nothing was merged, and the file is as it was"):
        into(tmp_path / "f", tmp_path / "b")
    assert (tmp_path / "f").read_bytes() == before
    with pytest.raises(ReclaimError, match="full"):
        into(tmp_path / "new", tmp_path / "b")
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_a_merge_waits_for_another_and_both_come_in(tmp_path: Path) -> None:
    for number in range(3):
        put(tmp_path / f"reports-{number}", *(run(week, hypervisor=f"kvm{number}") for week in range(5)))
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=_merge_alone, args=(tmp_path / "f", tmp_path / f"reports-{number}"))
        for number in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 3
    assert rows(tmp_path / "f", "SELECT count(*) FROM run") == [(15,)]


def _merge_alone(database: Path, reports: Path) -> None:
    into(database, reports, said=[])


def test_the_end_of_another_merge_is_waited_for(tmp_path: Path) -> None:
    """It holds the file for itself alone, also against those who only read."""
    put(tmp_path / "reports", run(0))
    into(tmp_path / "f", tmp_path / "reports")
    put(tmp_path / "reports", run(1))
    said: list[str] = []

    def let_go(line: str) -> None:
        said.append(line)
        other.close()

    for ask in (
        lambda: merge([tmp_path / "reports"], tmp_path / "f", NOW, let_go),
        lambda: schema.reading(tmp_path / "f", let_go).__enter__().close(),
    ):
        other = sqlite3.connect(tmp_path / "f", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        ask()
    assert said == ["waiting: another process uses the database"] * 2


def test_a_merge_that_does_not_end_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "reports", run(0))
    into(tmp_path / "f", tmp_path / "reports")
    other = sqlite3.connect(tmp_path / "f", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr(schema, "PATIENCE", 0.0)
    said: list[str] = []
    with pytest.raises(ReclaimError, match="another process uses it, and does not end: try again"):
        into(tmp_path / "f", tmp_path / "reports", said=said)
    other.close()


def test_a_name_that_is_no_utf_8_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "reports", run(0))
    (tmp_path / "reports/kvm1").rename(tmp_path / "reports" / os.fsdecode(b"kvm\xff"))
    said: list[str] = []
    assert into(tmp_path / "f", tmp_path / "reports", said=said).refused == 1
    assert said[0].endswith("its path is not UTF-8")


def test_the_verdicts_of_a_run_are_kept_small() -> None:
    verdicts = {7 * number + 1: verdict for number, verdict in enumerate([*Verdict] * 100)}
    data = packed(verdicts)
    assert unpacked(data) == verdicts
    assert len(data) < len(verdicts)


def test_a_document_of_the_driver_has_its_uri_as_place(tmp_path: Path) -> None:
    for name in ("one", "two"):
        made = run(0 if name == "one" else 1, hypervisor="test-driver")
        made["hypervisor"]["uri"] = f"test:///{name}.xml"
        records.archive(tmp_path / "reports", made)
    into(tmp_path / "f", tmp_path / "reports")
    assert len(rows(tmp_path / "f", "SELECT 1 FROM hypervisor")) == 2


def test_a_question_that_is_under_way_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "reports", run(0))
    into(tmp_path / "f", tmp_path / "reports")
    put(tmp_path / "reports", run(1))
    reader = sqlite3.connect(tmp_path / "f", isolation_level=None)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM run").fetchone() == (1,)
    said: list[str] = []

    def wait(_: float) -> None:
        assert reader.execute("SELECT count(*) FROM run").fetchone() == (1,)
        reader.execute("COMMIT")

    monkeypatch.setattr("reclaim.database.schema.time.sleep", wait)
    into(tmp_path / "f", tmp_path / "reports", said=said)
    assert said == ["waiting: another process uses the database"]
    assert reader.execute("SELECT count(*) FROM run").fetchone() == (2,)
    reader.close()


@pytest.mark.slow
def test_a_merge_that_is_killed_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    """SIGKILL while pages are being written: the next merge takes the half back, and a question names that."""
    put(tmp_path / "a", *(run(0, hypervisor=f"kvm{number}") for number in range(3)))
    into(tmp_path / "f", tmp_path / "a")
    before = content(tmp_path / "f")
    put(tmp_path / "b", run(1))
    context = multiprocessing.get_context("spawn")
    worker = context.Process(target=_die_while_writing, args=(tmp_path / "f", tmp_path / "b"))
    worker.start()
    worker.join()
    assert worker.exitcode == -signal.SIGKILL
    assert (tmp_path / "f-journal").stat().st_size > 0
    with pytest.raises(ReclaimError, match="a merge was killed while it wrote"), schema.reading(tmp_path / "f", print):
        pass
    into(tmp_path / "f", tmp_path / "a")
    assert content(tmp_path / "f") == before


def _die_while_writing(database: Path, reports: Path) -> None:
    def die(connection: sqlite3.Connection, weeks: Iterable[str]) -> None:
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("UPDATE judged SET evidence = hex(randomblob(100000))")
        os.kill(os.getpid(), signal.SIGKILL)

    weeks.renew = die
    into(database, reports)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", disk], check=True)
    try:
        put(tmp_path / "a", run(0))
        into(disk / "f", tmp_path / "a")
        before = (disk / "f").read_bytes()
        large = [bus("noncompliant", f"guest-{number}", reason="x" * 1000) for number in range(1000)]
        put(tmp_path / "b", run(1, *large))
        for name in ("f", "new"):
            with pytest.raises(ReclaimError, match="nothing was merged, and the file is as it was"):
                into(disk / name, tmp_path / "b", said=[])
        assert (disk / "f").read_bytes() == before
        assert [each.name for each in disk.iterdir()] == ["f"]
    finally:
        subprocess.run(["umount", disk], check=True)
