"""`reclaim ask`: the questions, SQL that can only read, and the forms of an answer."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from reclaim.__main__ import main
from reclaim.database import output, questions, schema
from reclaim.database.questions import Column
from tests import records
from tests.hostile import ESCAPES, TAG
from tests.records import EPOCH, GIB, row, storage
from tests.unit.database.made import bus, into, put, rows, run

NOW = datetime.now(timezone.utc)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Three hypervisors: one that gets worse, one that is fine, one that was last heard from long ago."""
    put(
        tmp_path / "reports",
        run(0, bus("compliant", "web"), bus("noncompliant", "mail"), disks=[storage("web", used=GIB)]),
        run(1, bus("noncompliant", "web", reason="no scsi"), bus("noncompliant", "mail"), bus("compliant", "new")),
        run(1, bus("compliant", "db"), row("disk-discard", "error", "db", "sda", reason="gone"), hypervisor="kvm2"),
        run(0, hypervisor="kvm3.example.org"),
    )
    into(tmp_path / "fleet.sqlite", tmp_path / "reports")
    return tmp_path / "fleet.sqlite"


def asked(database: Path, *words: str, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main(["ask", *words, "--from", str(database), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert isinstance(answer, list)
    return answer


def refused(*words: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of a refusal."""
    capsys.readouterr()
    assert main(["ask", *words]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    return printed.err.removeprefix("reclaim: ").strip()


# Questions ------------------------------------------------------------------------------------


def test_without_a_question_they_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask"]) == 0
    text = capsys.readouterr().out
    for question in questions.EVERY:
        assert f"  {question.name}" in text
        assert question.help in text


def test_a_question_that_is_none_is_refused_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert refused("wrost", capsys=capsys) == "wrost: there is no such question; did you mean worst?"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["worst", "--sql", "SELECT 1"], "give a question, worst, or --sql, and not both"),
        (["worst", "--inventory", "x"], "--inventory goes with silent or --page alone"),
        (["worst", "--days", "1"], "--days goes with silent or waivers alone"),
        (["silent", "--days", "-1"], "--days -1: give a number of days"),
        (["worst", "--limit", "-1"], "--limit -1: give a number of rows, or 0 for all of them"),
        (["worst", "--seconds", "0"], "--seconds 0: give a number of seconds"),
        (["worst", "--seconds", "nan"], "--seconds nan: give a number of seconds"),
    ],
)
def test_options_that_mean_nothing_are_refused(words: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(*words, capsys=capsys) == why


def test_every_question_has_rows_as_wide_as_its_columns(database: Path) -> None:
    with schema.reading(database, print) as connection:
        for question in questions.EVERY:
            given = questions.Given(NOW, ["kvm9"], None)
            for answer in question.answer(connection, given):
                assert len(answer) == len(question.columns), question.name


def test_who_is_silent(database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("  hosts (4):\n    KVM1\n    kvm2\n    kvm3\n    kvm4\n")
    days = (NOW - EPOCH).days - 3
    answer = asked(database, "silent", "--inventory", str(hosts), "--days", str(days), capsys=capsys)
    assert [(each["hypervisor"], each["state"]) for each in answer] == [
        ("kvm4", "never"),
        ("kvm3.example.org", "late"),
    ]
    assert answer[0]["heard"] is None
    hosts.write_text("kvm1\nkvm2\n")
    assert asked(database, "silent", "--inventory", str(hosts), "--days", str(days), capsys=capsys) == []
    assert answer[1]["heard"] == "2026-01-01T00:00:30Z"


def test_a_hypervisor_that_was_not_reached_is_silent(
    database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    away = row("reach-hypervisor", "error", None, reason="no route to host")
    put(tmp_path / "more", run(2, away, hypervisor="kvm2"), run(2, away, hypervisor="kvm9"))
    into(database, tmp_path / "more")
    answer = asked(database, "silent", "--days", "36500", capsys=capsys)
    assert [(each["hypervisor"], each["state"], each["heard"], each["reason"]) for each in answer] == [
        ("kvm9", "unreached", None, "no route to host"),
        ("kvm2", "unreached", "2026-01-08T00:00:30Z", "no route to host"),
    ]


def test_without_a_list_the_names_of_the_inventories_are_expected(
    database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for week, names in ((0, ["kvm1", "old"]), (3, ["kvm1", "kvm2.example.org", "kvm7"])):
        one = run(week, hypervisor="kvm8")
        one["run"]["inventory_hypervisors"] = names
        put(tmp_path / "more", one)
    into(database, tmp_path / "more")
    days = (NOW - EPOCH).days - 15
    answer = asked(database, "silent", "--days", str(days), capsys=capsys)
    assert [each["hypervisor"] for each in answer if each["heard"] is None] == ["kvm7"]


def test_runs_that_went_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad, good = run(0, mode="fix"), run(0, hypervisor="kvm2")
    bad["outcome"] |= {"went_wrong": True, "rolled_back": 2, "status": 1}
    put(tmp_path / "reports", bad, good)
    into(tmp_path / "f", tmp_path / "reports")
    (wrong,) = asked(tmp_path / "f", "went-wrong", capsys=capsys)
    assert (wrong["hypervisor"], wrong["rolled_back"], wrong["status"]) == ("kvm1", 2, 1)


def test_records_of_schema_1_and_2_lie_in_one_file(tmp_path: Path) -> None:
    old = run(0, bus("compliant"), mode="fix")
    del old["outcome"]
    old["schema"] = 1
    put(tmp_path / "reports", old, run(1, bus("noncompliant"), mode="fix"))
    into(tmp_path / "f", tmp_path / "reports")
    assert rows(tmp_path / "f", "SELECT started, went_wrong FROM runs ORDER BY 1") == [
        ("2026-01-01T00:00:00Z", 0),
        ("2026-01-08T00:00:00Z", 0),
    ]
    assert rows(tmp_path / "f", "SELECT guest FROM judged WHERE broke") == [("web",)]


def test_without_a_list_the_note_names_the_gap(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", "silent", "--from", str(database)]) == 0
    assert "without --inventory a hypervisor that was never heard from is not known" in capsys.readouterr().err


def test_the_worst_come_first(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = asked(database, "worst", capsys=capsys)
    assert [(each["hypervisor"], each["open"], each["failing_rows"], each["errors"]) for each in answer] == [
        ("kvm1", 2, 2, 0),
        ("kvm2", 0, 0, 1),
        ("kvm3.example.org", 0, 0, 0),
    ]


def test_the_bytes_of_each_hypervisor(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = asked(database, "bytes", capsys=capsys)
    assert answer[0] == {
        "hypervisor": "kvm1",
        "reclaimable": 4 * GIB,
        "allocated": 5 * GIB,
        "reclaimed": 4 * GIB,
        "guests": 3,
        "heard": "2026-01-08T00:00:30Z",
    }
    assert answer[1]["reclaimable"] is None, "it is not known, and not 0"


def test_the_pass_rate_counts_rows_that_were_looked_at(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = asked(database, "pass-rate", capsys=capsys)
    assert [(each["week"], each["requirement"], each["pass_rate"], each["unknown"]) for each in answer] == [
        ("2026-W02", "disk-bus", 50.0, 0),
        ("2026-W02", "disk-discard", None, 1),
        ("2026-W01", "disk-bus", 66.67, 0),
    ]


def test_the_newly_broken_have_a_before(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (broken,) = asked(database, "newly-broken", capsys=capsys)
    assert (broken["hypervisor"], broken["guest"], broken["before"], broken["verdict"], broken["reason"]) == (
        "kvm1",
        "web",
        "compliant",
        "noncompliant",
        "no scsi",
    )


def test_waivers_that_end_soon_or_have_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def waived(days: int | None, verdict: str, guest: str) -> dict[str, Any]:
        until = None if days is None else (NOW + timedelta(days=days)).date().isoformat()
        return bus(verdict, guest, waiver={"reason": f"of {guest}", "until": until})

    every = (
        waived(10, "waived", "soon"),
        waived(-3, "noncompliant", "past"),
        waived(90, "waived", "later"),
        waived(None, "waived", "ever"),
    )
    put(tmp_path / "reports", run(0, *every))
    into(tmp_path / "f", tmp_path / "reports")
    answer = asked(tmp_path / "f", "waivers", capsys=capsys)
    assert [(each["guest"], each["days"], each["state"], each["reason"]) for each in answer] == [
        ("past", -3, "ended: noncompliant", "of past"),
        ("soon", 10, "in force", "of soon"),
    ]
    assert len(asked(tmp_path / "f", "waivers", "--days", "100", capsys=capsys)) == 3


def test_looking_that_failed(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (error,) = asked(database, "errors", capsys=capsys)
    assert (error["hypervisor"], error["guest"], error["reason"]) == ("kvm2", "db", "gone")


# SQL ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["latest", "runs", "turns", "changes", "disks", "week", "week_tally", "hypervisor"])
def test_the_tables_that_are_listed_can_be_asked(
    database: Path, table: str, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = asked(database, "--sql", f"SELECT * FROM {table}", capsys=capsys)
    assert len(answer) == len(rows(database, f"SELECT * FROM {table}"))


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM judged",
        "UPDATE run SET name = 'x'",
        "INSERT INTO week_tally VALUES ('', '', '', 1)",
        "CREATE TABLE x (y)",
        "CREATE TEMP TABLE x (y)",
        "DROP TABLE judged",
        "ATTACH '/etc/passwd' AS x",
        "ATTACH 'FOLDER/new' AS x",
        "VACUUM",
        "VACUUM INTO 'FOLDER/new'",
        "PRAGMA user_version = 7",
        "PRAGMA query_only = OFF",
        "PRAGMA journal_mode = WAL",
        "SELECT load_extension('x')",
        "BEGIN IMMEDIATE",
        "SELECT 1; DELETE FROM judged",
        "SELECT * FROM pragma_database_list",
        "WITH x AS (SELECT 1) DELETE FROM judged",
        "REINDEX",
        "ANALYZE",
    ],
)
def test_sql_can_only_read(database: Path, sql: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = database.read_bytes()
    sql = sql.replace("FOLDER", str(database.parent))
    line = refused("--sql", sql, "--from", str(database), capsys=capsys)
    assert line.startswith("--sql: ")
    assert database.read_bytes() == before
    assert not (database.parent / "new").exists()


@pytest.mark.parametrize("sql", ["", "SELECT", "SELECT nothing", "-- SELECT 1", "\0", "SELECT '\ud800'"])
def test_sql_that_is_none_is_refused_in_one_line(database: Path, sql: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused("--sql", sql, "--from", str(database), capsys=capsys).startswith("--sql: ")


@pytest.mark.parametrize("form", [[], ["--csv"], ["--json"]])
def test_a_question_that_takes_too_long_is_stopped(
    database: Path, form: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n"
    assert main(["ask", "--sql", endless, "--from", str(database), "--seconds", "0.1", *form]) == 2
    assert capsys.readouterr().err == "reclaim: stopped: the question took longer than 0.1 s (--seconds)\n"


@pytest.mark.slow
def test_a_step_that_looks_at_no_clock_is_stopped_too(database: Path) -> None:
    text = "SELECT instr(printf('%.*c', 20000000, 'x'), printf('%.*c', 10000000, 'x') || 'y')"
    words = [sys.executable, "-m", "reclaim", "ask", "--from", str(database), "--sql", text, "--seconds", "0.2"]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "reclaim: stopped: the question took longer than 0.2 s (--seconds)\n"


def test_a_table_without_end_is_refused(
    database: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("reclaim.database.output._MOST_CELLS", 1000)
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"
    assert "--csv and --json have every row" in refused(
        "--from", str(database), "--sql", endless, "--limit", "0", capsys=capsys
    )


def test_a_question_that_needs_too_much_memory_is_stopped(database: Path) -> None:
    """In a process of its own: the limit is that of the process."""
    words = ["ask", "--sql", "SELECT hex(zeroblob(400000000))", "--from", str(database)]
    done = subprocess.run([sys.executable, "-m", "reclaim", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "memory" in done.stderr or "too big" in done.stderr


def test_values_of_any_kind_are_printed(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sql = "SELECT 1 AS a, 2 AS a, x'ff00' AS b, CAST(x'ff' AS TEXT) AS c, 9e999 AS d, NULL AS e"
    (answer,) = asked(database, "--sql", sql, capsys=capsys)
    assert answer == {"a": 1, "a:2": 2, "b": "ff00", "c": "\ufffd", "d": "inf", "e": None}
    assert main(["ask", "--sql", sql, "--from", str(database)]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["1", "2", "ff00", "\ufffd", "inf", "–"]


# The file -------------------------------------------------------------------------------------


def test_a_file_that_is_not_there_is_named_with_the_way_to_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused("worst", "--from", str(tmp_path / "no"), capsys=capsys)
    assert line == f"{tmp_path}/no: there is no such file: `reclaim merge DIR --into {tmp_path}/no` makes it"
    assert not (tmp_path / "no").exists()


def test_a_name_that_means_something_in_a_uri_is_a_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path / "reports", run(0))
    path = tmp_path / "a?mode=rwc&x#%20 ü"
    into(path, tmp_path / "reports")
    assert len(asked(path, "worst", capsys=capsys)) == 1
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a?mode=rwc&x#%20 ü", "reports"]


def test_a_newer_database_is_refused_in_one_line(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    connection = sqlite3.connect(database)
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    line = refused("worst", "--from", str(database), capsys=capsys)
    assert line.endswith("update reclaim, or merge into another file")


def test_a_question_while_a_merge_writes_is_answered_or_refused(
    database: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = sqlite3.connect(database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert len(asked(database, "worst", capsys=capsys)) == 3
    other.execute("COMMIT")
    other.execute("BEGIN EXCLUSIVE")
    monkeypatch.setattr(schema, "PATIENCE", 0.0)
    line = refused("worst", "--from", str(database), capsys=capsys)
    assert "another process uses it" in line
    other.close()


# Forms ----------------------------------------------------------------------------------------

HOSTILE = [TAG, ESCAPES, "=cmd|' /C calc'!A0", "+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", " =1", "＝1", 'a","b', "a\nb"]


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    every = [bus("noncompliant", name, reason=f"={name}") for name in HOSTILE]
    made = run(1, *every)
    records.archive(tmp_path / "reports", run(0, *(bus("compliant", name) for name in HOSTILE)))
    records.archive(tmp_path / "reports", made)
    into(tmp_path / "f", tmp_path / "reports")
    return tmp_path / "f"


def test_a_terminal_obeys_no_name(hostile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["newly-broken"], ["--sql", "SELECT guest, reason FROM latest"]):
        assert main(["ask", *words, "--from", str(hostile)]) == 0
        text = capsys.readouterr().out
        assert all(character.isprintable() or character == "\n" for character in text)
        assert len(text.splitlines()) == len(HOSTILE) + 1


def test_a_spreadsheet_computes_no_name(hostile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", "newly-broken", "--csv", "--from", str(hostile)]) == 0
    text = capsys.readouterr().out
    table = [*csv.DictReader(io.StringIO(text))]
    assert len(table) == len(HOSTILE)
    for cells in table:
        for cell in cells.values():
            assert not cell.lstrip().startswith(("=", "+", "-", "@", "＝"))
        assert cells["reason"].startswith("'=")
    assert {"'+1", "'-2+3", "'@SUM(A1)", 'a","b', "a b"} <= {cells["guest"] for cells in table}


def test_a_number_stays_a_number_in_csv() -> None:
    stream = io.StringIO()
    output.write_csv([Column("a"), Column("b"), Column("c")], [(-5, -0.5, None)], stream)
    assert stream.getvalue() == "a,b,c\n-5,-0.5,\n"


def test_json_has_every_name_as_it_is(hostile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = asked(hostile, "newly-broken", capsys=capsys)
    assert {each["guest"] for each in answer} == set(HOSTILE)


def test_an_answer_without_rows(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nothing = "SELECT guest FROM latest WHERE 0"
    for form, text in (((), "nothing\n"), (("--csv",), "guest\n"), (("--json",), "[]\n")):
        assert main(["ask", "--sql", nothing, "--from", str(database), *form]) == 0
        assert capsys.readouterr().out == text


def test_a_long_table_is_cut_and_its_rest_is_counted(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", "worst", "--from", str(database), "--limit", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[2] == "and 2 more: --limit 0 prints all"


def test_columns_of_wide_characters_stand_below_each_other() -> None:
    columns = Column("name"), Column("bytes", "bytes")
    head, first, second = output.table(columns, [("日本", 1024), ("a", None)], 0)
    assert (head, first, second) == ("name    bytes", "日本  1.0 KiB", "a           –")


def test_parquet_without_pyarrow_is_refused_with_the_way_to_it(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    line = refused("worst", "--from", str(database), "--parquet", str(tmp_path / "p"), capsys=capsys)
    assert line == "--parquet needs pyarrow: install reclaim[parquet], or pyarrow into this venv"


def test_parquet_has_the_rows_with_their_types(
    database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    for words in (["worst"], ["--sql", "SELECT 1 AS a, 0.5 AS b, NULL AS c UNION ALL SELECT 2, 3, x'ff'"]):
        assert main(["ask", *words, "--from", str(database), "--parquet", str(tmp_path / "p")]) == 0
    assert [each["hypervisor"] for each in parquet.read_table(tmp_path / "p/worst.parquet").to_pylist()] == [
        "kvm1",
        "kvm2",
        "kvm3.example.org",
    ]
    query = parquet.read_table(tmp_path / "p/query.parquet")
    assert query.to_pylist() == [{"a": 1, "b": 0.5, "c": None}, {"a": 2, "b": 3.0, "c": b"\xff"}]
    assert [*(tmp_path / "p").iterdir()] != []
    assert capsys.readouterr().out.endswith("query.parquet\n")
