"""report.html: pytest-html carries the rows, hardened: it escapes neither node ids nor cells."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import pytest

from reclaim.report import results
from reclaim.text import size
from reclaim.verdict import ChangeRecord, Result

if TYPE_CHECKING:
    from pathlib import Path

    from reclaim.run import Part, Run

NAME = "report.html"
#: rows that pytest-html can show: with 10 000 each click in its page takes 8 s (measured with Chromium)
MOST_ROWS = 8000
_ATTACHED = "_reclaim_result"
_COLUMNS = ("verdict", "guest", "disk", "requirement", "evidence", "change")


def attach(report: pytest.TestReport, result: Result) -> None:
    """Let the hooks below find the result behind a report."""
    setattr(report, _ATTACHED, result)


def attached(report: Any) -> Result | None:
    found = getattr(report, _ATTACHED, None)
    return found if isinstance(found, Result) else None


@pytest.hookimpl(optionalhook=True)
def pytest_html_report_title(report: Any) -> None:
    report.title = "reclaim"


@pytest.hookimpl(optionalhook=True)
def pytest_html_results_table_header(cells: list[str]) -> None:
    titles = ("Verdict", "Guest", "Disk", "Requirement", "Evidence", "Before → after")
    cells[1:2] = [
        f'<th class="sortable" data-column-type="{column}">{title}</th>'
        for column, title in zip(_COLUMNS, titles, strict=True)
    ]
    cells.pop()  # links: there are none


@pytest.hookimpl(optionalhook=True)
def pytest_html_results_table_row(report: Any, cells: list[str]) -> None:
    result = attached(report)
    if report.when != "call" and report.outcome == "passed":
        cells.clear()  # no row of its own: pytest-html would make all of it and then leave it out
        return
    if result is None:
        texts = ("", "", "", report.nodeid, "", "")
    else:
        texts = (
            str(result.verdict),
            result.guest or "",
            " ".join(filter(None, (result.disk, result.backup))),
            f"{result.requirement}: {result.title}",
            "; ".join(filter(None, (result.reason, result.evidence))),
            "; ".join(_before_after(change) for change in result.changes),
        )
    # one line a cell: pytest-html reads its sort key with a pattern that stops at a line's end
    cells[1:2] = [
        f'<td class="col-{column}">{escape(" ".join(text.split()))}</td>'
        for column, text in zip(_COLUMNS, texts, strict=True)
    ]
    cells.pop()


#: characters of a change that its cell shows; the folded part below the row has all of it
_CELL = 240


def _before_after(change: ChangeRecord) -> str:
    """What the change's diff takes away and what it brings, in one line."""
    lines = [line for line in change.diff.splitlines() if not line.startswith(("---", "+++"))]
    gone = " ".join(line[1:].strip() for line in lines if line.startswith("-"))
    come = " ".join(line[1:].strip() for line in lines if line.startswith("+"))
    text = f"{gone or 'nothing'} → {come or 'nothing'}" if gone or come else change.diff
    return f"{text if len(text) <= _CELL else text[:_CELL] + '…'} ({_word(change)})"


def _word(change: ChangeRecord) -> str:
    return "undone" if change.undone else "applied" if change.applied else "not applied"


def _state(change: ChangeRecord) -> str:
    return f"{change.kind}: {change.target}: {_word(change)}"


@pytest.hookimpl(optionalhook=True)
def pytest_html_results_table_html(report: Any, data: list[str]) -> None:
    result = attached(report)
    if result is None:
        return
    data.clear()
    for text in (result.reason, result.evidence):
        if text:
            data.append(f"<p>{escape(text)}</p>")
    for change in result.changes:
        data.append(f"<p>{escape(_state(change))}</p><pre>{escape(change.diff)}</pre>")


def summary(run: Run) -> list[str]:
    """The lines above the table: where, when, how; bytes for each disk; what comes next."""
    lines = []
    for part in run.parts:
        one = part.hypervisor
        lines.append(
            f"<p><strong>{escape(one.name)}</strong> ({escape(one.uri)}), libvirt {escape(one.libvirt_version)}, "
            f"QEMU {escape(one.qemu_version or '–')}; mode {escape(run.options.mode)}, run {escape(run.id)}</p>"
        )
        if one.is_test_driver:
            lines.append("<p><strong>Sample definitions on libvirt's test driver: no real guests.</strong></p>")
        if run.options.force:
            lines.append("<p><strong>--force: what a fix waits for was ignored.</strong></p>")
        storage = list(part.storage.values())
        if storage:
            lines.append(
                "<table><caption>Bytes on the host</caption><tr><th>Guest</th><th>Disk</th><th>Virtual</th>"
                "<th>Allocated before</th><th>Allocated after</th><th>Needed by the guest</th></tr>"
            )
            for row in storage:
                counts = (row.virtual, row.allocated_before, row.allocated_after, row.used)
                cells = "".join(f"<td>{'–' if count is None else f'{size(count)} ({count})'}</td>" for count in counts)
                lines.append(f"<tr><td>{escape(row.guest)}</td><td>{escape(row.disk)}</td>{cells}</tr>")
            lines.append("</table>")
            came = results.reclaimed(storage)
            lines.append(f"<p><strong>{size(came)} came home in this run ({came} bytes).</strong></p>")
        if run.options.mode == "fix":
            lines.append(
                f"<p>What this run changed is in journal.jsonl; "
                f"<code>python -m reclaim undo {escape(str(part.folder))}</code> takes it back.</p>"
            )
    return lines


def write_plain(path: Path, run: Run, part: Part) -> None:
    """The report of a very large fleet: a static table without scripts, what is wrong first."""
    rows = sorted(part.engine.results.values(), key=lambda row: row.verdict.outcome != "failed")
    with path.open("w", encoding="utf-8") as page:
        page.write(
            "<!doctype html><meta charset=utf-8><title>reclaim</title><style>body{font-family:sans-serif}"
            "table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:.2em .5em;text-align:left}</style>"
            f"<h1>reclaim</h1>{''.join(summary(run))}<table><tr><th>Verdict<th>Guest<th>Disk<th>Requirement<th>Evidence"
            "<th>Before → after</tr>\n"
        )
        for row in rows:
            texts = (
                str(row.verdict),
                row.guest or "",
                row.disk or "",
                f"{row.requirement}: {row.title}",
                "; ".join(filter(None, (row.reason, row.evidence))),
            )
            changes = "".join(f"<p>{escape(_state(one))}</p><pre>{escape(one.diff)}</pre>" for one in row.changes)
            page.write(f"<tr>{''.join(f'<td>{escape(text)}' for text in texts)}<td>{changes}</tr>\n")
        page.write("</table>\n")
