"""What pytest-html's page carries of ours: cells that nothing breaks out of, and a page that is hardened after it."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pluggy
import pytest
from lxml import html as lxml_html

from reclaim.base.verdict import ChangeRecord, Result, Verdict
from reclaim.record import record
from reclaim.report import html
from reclaim.report.attached import attach, attached
from reclaim.report.html import Rows, escaped, stand_down
from tests import records
from tests.hostile import TAG
from tests.records import DIFF, row

RUN = "20260101T000000Z-audit"


def _result(**more: Any) -> Result:
    values = {"guest": "web", "disk": "sda", "backup": None, "verdict": Verdict.NONCOMPLIANT, "reason": "why", **more}
    return Result("disk-bus", "The disk is on SCSI", "kvm1", **values)


def _report(result: Result | None = None, **more: Any) -> Any:
    report: Any = SimpleNamespace(when="call", outcome="failed", nodeid="checks/x.py::y", longreprtext="", **more)
    if result is not None:
        attach(report, result)
    return report


def _config(path: Path, *plugins: object) -> Any:
    manager = pluggy.PluginManager("pytest")
    for plugin in plugins:
        manager.register(plugin)
    return SimpleNamespace(option=SimpleNamespace(htmlpath=str(path), css=[]), pluginmanager=manager)


def _rows(path: Path, *folders: Path, config: Any = None, found: Any = ()) -> Rows:
    return Rows(config or _config(path), "a title", RUN, list(folders) or [path.parent], lambda: list(found))


CELLS = ['<td class="col-result">Failed</td>', "<td>checks</td>", '<td class="col-duration">0.1</td>', "<td></td>"]


def _cells(report: Any) -> dict[str, str]:
    cells = list(CELLS)
    _rows(Path("/reports/report.html")).pytest_html_results_table_row(report, cells)
    assert all(cell.count("<td") == 1 and cell.endswith("</td>") for cell in cells)
    return {re.findall(r'class="col-(\w+)"', cell)[0]: cell for cell in cells}


def _text(cell: str) -> str:
    return str(lxml_html.fromstring(cell).text_content())


# Cells ----------------------------------------------------------------------------------------


def test_a_result_is_found_behind_its_report() -> None:
    result = _result()
    assert attached(_report(result)) is result
    assert attached(_report()) is None
    assert attached(SimpleNamespace(_reclaim_result="text")) is None


def test_columns_and_their_heads_are_the_same() -> None:
    heads: list[str] = []
    _rows(Path("/reports/report.html")).pytest_html_results_table_header(heads)
    names = [re.findall(r'data-column-type="(\w+)"', head) for head in heads]
    assert all(first == second for first, second in names)
    assert [first for first, _ in names] == list(_cells(_report(_result())))


def test_a_row_has_all_that_the_engine_found() -> None:
    changes = [ChangeRecord("definition", "definition of web", DIFF, applied=True)]
    cells = _cells(_report(_result(reason="a", evidence="b", backup="/copies/x", changes=changes)))
    assert _text(cells["verdict"]) == "noncompliant"
    assert _text(cells["guest"]) == "web"
    assert _text(cells["disk"]) == "sda /copies/x"
    assert _text(cells["requirement"]) == "disk-bus: The disk is on SCSI"
    assert _text(cells["evidence"]) == "a; b"
    assert "(applied)" in _text(cells["change"])
    assert cells["result"] == CELLS[0]
    assert cells["duration"] == CELLS[2]
    anchor = record.anchor("row", RUN, "kvm1", "disk-bus", "web", "sda", "/copies/x")
    assert _text(cells["testId"]) == anchor


def test_rows_of_two_disks_have_anchors_of_their_own() -> None:
    first, second = (_cells(_report(_result(disk=disk)))["testId"] for disk in ("sda", "sdb"))
    assert first != second


def test_what_has_no_guest_and_no_disk_has_empty_cells() -> None:
    cells = _cells(_report(_result(guest=None, disk=None)))
    assert (_text(cells["guest"]), _text(cells["disk"]), _text(cells["change"])) == ("", "", "")


@pytest.mark.parametrize("text", [TAG, "a\nb\r\nc\u2028d", "\x1b[31m", '" onclick="x', "</td><td>"])
def test_nothing_breaks_out_of_a_cell(text: str) -> None:
    changes = [ChangeRecord(text, text, text)]
    cells = _cells(_report(_result(guest=text, disk=text, reason=text, evidence=text, changes=changes)))
    for name, cell in cells.items():
        if name not in ("result", "duration"):
            assert len(cell.splitlines()) == 1, name
            assert cell.count("<") == (4 if name == "verdict" else 2), name
            assert cell.isprintable(), name


def test_a_test_that_is_no_check_has_its_own_name() -> None:
    cells = _cells(_report())
    assert _text(cells["verdict"]) == "failed"
    assert _text(cells["evidence"]) == "checks/x.py::y"
    assert _text(cells["requirement"]) == ""


@pytest.mark.parametrize(
    ("when", "outcome", "has_row"), [("setup", "passed", False), ("teardown", "failed", True), ("call", "passed", True)]
)
def test_an_empty_set_up_has_no_row(when: str, outcome: str, *, has_row: bool) -> None:
    report, cells = _report(_result()), list(CELLS)
    report.when, report.outcome = when, outcome
    _rows(Path("/reports/report.html")).pytest_html_results_table_row(report, cells)
    assert bool(cells) is has_row


@pytest.mark.parametrize(
    ("diff", "shown"),
    [
        (DIFF, "<target bus='virtio'/> → <target bus='scsi'/> (not applied)"),
        ("+++ a\n+new", "nothing → new (not applied)"),
        ("--- a\n-old", "old → nothing (not applied)"),
        ("systemctl enable x", "systemctl enable x (not applied)"),
    ],
)
def test_a_change_is_shown_as_before_and_after(diff: str, shown: str) -> None:
    assert html._before_after(ChangeRecord("definition", "x", diff)) == shown


def test_a_large_change_is_cut_and_its_state_is_not() -> None:
    shown = html._before_after(ChangeRecord("file", "x", "+" + "y" * 10_000, applied=True, undone=True))
    assert shown.endswith("y… (undone)")
    assert len(shown) < 300


def test_what_is_folded_has_the_diff_and_the_reason_of_the_requirement() -> None:
    change = ChangeRecord("definition", "definition of web", f"{DIFF}\n+{TAG}")
    data = ["pytest's own"]
    _rows(Path("/r/report.html")).pytest_html_results_table_html(_report(_result(changes=[change], reason=TAG)), data)
    [text] = data
    assert TAG not in text
    assert "definition of web" in text
    assert "<pre>" not in text.partition("definition of web")[0]
    assert "pytest's own" not in text


def test_a_fault_of_ours_shows_its_traceback() -> None:
    report = _report(_result(reason="a fault in reclaim: x"))
    report.longreprtext = f"line 1 {TAG}\nline 2"
    data: list[str] = []
    rows = _rows(Path("/r/report.html"))
    rows.pytest_html_results_table_html(report, data)
    assert "line 1" in data[0]
    assert TAG not in data[0]
    other = _report(_result())
    other.longreprtext = "line 1"
    rows.pytest_html_results_table_html(other, data)
    assert "line 1" not in data[0]


def test_a_test_that_is_no_check_keeps_pytests_own_fold() -> None:
    data = ["pytest's own"]
    _rows(Path("/r/report.html")).pytest_html_results_table_html(_report(), data)
    assert data == ["pytest's own"]


@pytest.mark.parametrize(("name", "is_short"), [("rows.html", True), ("mine.html", False)])
def test_above_the_rows_stands_the_result_of_the_run(tmp_path: Path, name: str, *, is_short: bool) -> None:
    """Beside our page, which has the rest, it is the sentence."""
    found = [records.record([row("disk-bus", "noncompliant", TAG, "sda")])]
    prefix: list[str] = []
    _rows(tmp_path / name, tmp_path, found=found).pytest_html_results_summary(prefix)
    assert found[0].guests == [TAG]
    assert TAG not in prefix[0]
    assert "disk-bus" in prefix[0]
    assert 'class="lead"' in prefix[0]
    assert ('href="report.html"' in prefix[0]) is is_short
    assert ('class="grid"' in prefix[0]) is not is_short
    assert "show-noncompliant" not in prefix[0], "pytest-html has its own filters"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (TAG, "&lt;"),
        ({"a<": ["b<", 1]}, "a&lt; b&lt;, 1"),
        (("x", {"y": "z"}), "x, y z"),
        (None, "None"),
        ("\x1b", "\\x1b"),
    ],
)
def test_the_environment_is_text(value: Any, shown: str) -> None:
    assert shown in escaped(value)
    assert "<" not in escaped(value)


def test_metadata_is_escaped_in_its_place() -> None:
    metadata = {"Packages": {"a": TAG}}
    rows = _rows(Path("/r/report.html"))
    rows.pytest_metadata(metadata)
    assert "<" not in str(metadata["Packages"])
    report = SimpleNamespace(title="")
    rows.pytest_html_report_title(report)
    assert report.title == "a title"


# The file -------------------------------------------------------------------------------------


class _Writer:
    """As pytest-html's plugin: it writes to `_report_path` when the session ends."""

    def __init__(self, path: Path) -> None:
        self._report_path = path


_Writer.__module__ = "pytest_html.report"


def _finished(rows: Rows, writer: _Writer, error: Exception | None = None) -> Path:
    """Let the hook around pytest-html's own run; returns where it wrote."""
    hook = rows.pytest_sessionfinish()
    next(hook)
    path = writer._report_path
    path.write_text(PAGE, encoding="utf-8")
    with suppress(StopIteration):
        hook.throw(error) if error else next(hook)
    return path


PAGE = (
    '<!DOCTYPE html>\n<html>\n<head><meta charset="utf-8"/><style type="text/css">a{}</style></head>\n<body>'
    '<div data-jsonblob="{&#34;renderCollapsed&#34;: [&#34;passed&#34;]}"></div>'
    '<input checked="true"/><button onclick="location.reload()">x</button><script>one()</script>'
    "<script>two()\n</script><footer></footer></body></html>"
)


def test_the_page_of_a_run_is_hardened_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "rows.html"
    writer = _Writer(path)
    rows = _rows(path, config=_config(path, writer))
    assert rows.is_ours
    raw = _finished(rows, writer)
    assert raw.parent == tmp_path
    assert raw.name.startswith(".rows.html.")
    assert raw == rows.written
    assert writer._report_path == path
    assert not raw.exists(), "it is dropped once the hook is through"
    raw.write_text(PAGE, encoding="utf-8")
    raw.chmod(0o666)
    rows.harden()
    assert path.stat().st_mode & 0o777 == 0o600
    assert raw.stat().st_mode & 0o777 == 0o600


def test_a_page_that_the_user_names_is_written_in_the_runs_own_folder_first(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    path = tmp_path / "mine.html"
    writer, other = _Writer(path), _Writer(tmp_path / "another.html")
    rows = _rows(path, tmp_path / "run", config=_config(path, writer, other))
    assert not rows.is_ours
    assert _finished(rows, writer).parent == tmp_path / "run"
    assert other._report_path == tmp_path / "another.html"
    rows.written.write_text(PAGE, encoding="utf-8")
    path.touch()
    path.chmod(0o644)
    rows.harden()
    assert path.stat().st_mode & 0o777 == 0o644


def test_where_pytest_html_fails_nothing_is_left(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    writer = _Writer(path)
    rows = _rows(path, config=_config(path, writer))
    with pytest.raises(OSError, match="no room"):
        _finished(rows, writer, OSError("no room"))
    assert list(tmp_path.iterdir()) == []
    assert writer._report_path == path


def test_without_a_folder_of_the_run_pytest_html_writes_where_it_was_told(tmp_path: Path) -> None:
    path = tmp_path / "mine.html"
    writer = _Writer(path)
    rows = _rows(path, tmp_path / "no-such", config=_config(path, writer))
    assert _finished(rows, writer) == path
    assert path.exists()


def test_the_path_of_the_page_may_hold_a_home_and_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLACE", "x")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert _rows(Path("~/$PLACE/r.html"), tmp_path).path == tmp_path / "x/r.html"
    assert _rows(Path("r.html"), tmp_path).path == Path.cwd() / "r.html"


def test_the_styles_are_those_of_our_page() -> None:
    config = _config(Path("/r/report.html"))
    _rows(Path("/r/report.html"), config=config)
    assert [Path(path).name for path in config.option.css] == ["style.css", "rows.css"]
    assert all(Path(path).is_file() for path in config.option.css)


def test_a_hardened_page_runs_nothing_but_its_own_scripts() -> None:
    text = html._hardened(PAGE)
    document = lxml_html.fromstring(text)
    assert document.get("lang") == "en"
    [policy] = document.xpath("//meta[@http-equiv]/@content")
    assert "default-src 'none'" in policy
    assert len(re.findall(r"'sha256-[A-Za-z0-9+/=]+'", policy)) == 3
    assert "onclick" not in text
    assert "&#34;all&#34;" in text
    assert document.xpath("//meta[@name='viewport']")
    assert document.xpath("//main//script")
    assert not document.xpath("//main//footer")
    assert 'checked="true"' not in text


def test_a_page_that_is_not_self_contained_may_load_its_stylesheet() -> None:
    link = '<link href="assets/style.css" rel="stylesheet" type="text/css"/>'
    text = html._hardened(re.sub("<style.*?</style>", link, PAGE))
    [policy] = lxml_html.document_fromstring(text).xpath("//meta[@http-equiv]/@content")
    assert "style-src 'self' file:;" in policy
    assert "style-src 'sha256-" in html._hardened(PAGE).replace("&#x27;", "'")


def test_pytest_html_is_taken_out_and_nobody_else(tmp_path: Path) -> None:
    path, other = tmp_path / "report.html", pluggy.HookspecMarker("other")
    writer = _Writer(path)
    config = _config(path, writer, other)
    rows = _rows(path, config=config)
    config.pluginmanager.register(rows)
    stand_down(config)
    assert config.pluginmanager.get_plugins() == {other}
