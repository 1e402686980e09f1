"""rows.html by pytest-html, beside our page: the rows of one host, hardened and below its own limits.

It escapes neither node ids nor cells nor the environment, shows no outcome but its own, and opens ten
thousand rows in ten seconds: every cell here is escaped, verdicts have a column of their own, the page
says itself that nothing but its own scripts may run, and from `MOST` rows on there is none.
With --html it is the page that the user names, and has all that our page has above its rows.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator
from html import escape
from pathlib import Path
from typing import Any

import pytest

from reclaim.base.text import printable
from reclaim.base.verdict import ChangeRecord, Result
from reclaim.files import whole
from reclaim.record import record
from reclaim.record.record import Record, RecordedChange
from reclaim.report import page
from reclaim.report.attached import attached
from reclaim.report.page import View
from reclaim.requirement import catalogue

NAME = "rows.html"
#: rows that pytest-html shows in about two seconds, and folds in two more
MOST = 2000
#: characters of a change that its cell shows; the folded part below the row has all of it
_CELL = 240
#: the attribute in which pytest-html's plugin keeps the path that it writes to
_PLACE = "_report_path"
#: the stylesheet beside a page that is not self-contained
_STYLESHEET = re.compile(r"<link [^>]*stylesheet")
_COLUMNS = {
    "result": "Result",
    "testId": "Row",
    "verdict": "Verdict",
    "guest": "Guest",
    "disk": "Disk",
    "requirement": "Requirement",
    "evidence": "Evidence",
    "change": "Before → after",
    "duration": "Duration",
}


class Rows:
    """The hooks of pytest-html, for the run whose *records* will lie in *folders*."""

    def __init__(
        self,
        config: pytest.Config,
        title: str,
        run_id: str,
        folders: list[Path],
        records: Callable[[], list[Record]],
    ) -> None:
        self.title = title
        self._run_id = run_id
        self._config = config
        self._folders = folders
        self._records = records
        self.path = (
            Path.cwd() / Path(os.path.expandvars(config.option.htmlpath)).expanduser()
        )
        self.is_ours = [self.path] == [folder / NAME for folder in folders]
        #: the path that pytest-html writes to
        self.written = self.path
        config.option.css += [str(_template("style.css")), str(_template("rows.css"))]

    @pytest.hookimpl(trylast=True, optionalhook=True)
    def pytest_metadata(self, metadata: dict[str, Any]) -> None:
        metadata.update({key: escaped(value) for key, value in metadata.items()})

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_report_title(self, report: Any) -> None:
        report.title = self.title

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_table_header(self, cells: list[str]) -> None:
        # the button has the keyboard, and the name by which pytest-html sorts
        cells[:] = [
            f'<th scope="col" class="sortable" data-column-type="{column}">'
            f'<button type="button" data-column-type="{column}">{title}</button></th>'
            for column, title in _COLUMNS.items()
        ]

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_table_row(self, report: Any, cells: list[str]) -> None:
        result = attached(report)
        if report.when != "call" and report.outcome == "passed":
            cells.clear()  # no row of its own: pytest-html would make all of it and then leave it out
            return
        if result is not None:
            texts = self._texts(result)
        else:
            texts = {
                "testId": record.anchor("row", report.nodeid),
                "verdict": report.outcome,
                "evidence": report.nodeid,
            }
        # one line a cell: pytest-html reads its sort key with a pattern that stops at a line's end
        shown = {
            column: escape(printable(" ".join(text.split())))
            for column, text in texts.items()
        }
        shown["verdict"] = (
            f'<button type="button" class="fold">{shown["verdict"]}</button>'
        )
        result_cell, _, duration, _ = cells
        made = (
            f'<td class="col-{column}">{shown.get(column, "")}</td>'
            for column in list(_COLUMNS)[1:-1]
        )
        cells[:] = [result_cell, *made, duration]

    def _texts(self, result: Result) -> dict[str, str]:
        """The text of each column for *result*, not escaped."""
        anchor = record.anchor(
            "row",
            self._run_id,
            result.hypervisor,
            result.requirement,
            result.guest,
            result.disk,
            result.backup,
        )
        return {
            "testId": anchor,
            "verdict": str(result.verdict),
            "guest": result.guest or "",
            "disk": " ".join(filter(None, (result.disk, result.backup))),
            "requirement": f"{result.requirement}: {result.title}",
            "evidence": "; ".join(filter(None, (result.reason, result.evidence))),
            "change": "; ".join(map(_before_after, result.changes)),
        }

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_table_html(self, report: Any, data: list[str]) -> None:
        result = attached(report)
        if result is None:
            return
        changes = [_shown(change) for change in result.changes]
        text = (
            page.environment()
            .get_template("row.html.jinja")
            .render(
                row=result,
                changes=changes,
                declared=catalogue().get(result.requirement),
            )
        )
        if result.reason.startswith("a fault in reclaim"):
            text += f"<pre>{escape(printable(report.longreprtext, lines=True))}</pre>"
        data[:] = [text]

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_summary(self, prefix: list[str]) -> None:
        view = View(self._records(), self._folders, own_rows=False)
        template = page.environment().get_template("above.html.jinja")
        beside = page.NAME if self.is_ours else ""
        scripts = [page.asset("copy.js"), page.asset("rows.js")]
        prefix.append(template.render(view=view, scripts=scripts, beside=beside))

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionfinish(self) -> Generator[None, None, None]:
        """Let pytest-html write beside the page, since a kill would tear it, and print the page's own name after that.

        It writes in the run's own folder: in the folder of the user's page others may write. Of our own page it
        prints nothing, since the terminal names report.html, which leads to it.
        """
        homes = [folder for folder in self._folders if folder.is_dir()]
        writers = []
        for plugin in _writers(self._config):
            if homes and getattr(plugin, _PLACE, None) == self.path:
                writers.append(plugin)
        for plugin in writers:
            self.written = homes[0] / f".{NAME}.{os.getpid()}.raw.new"
            setattr(plugin, _PLACE, self.written)
        try:
            yield
        finally:
            for plugin in writers:
                setattr(plugin, _PLACE, self.path)
                whole.drop(self.written)

    def harden(self) -> None:
        """Add the parts that pytest-html lacks: language, landmark, width for phones, a policy against foreign scripts.

        The page gets its own name with that.
        """
        text = _hardened(self.written.read_text(encoding="utf-8"))
        if self.is_ours:
            self.written.chmod(whole.PRIVATE)  # pytest-html leaves that to the umask
        else:
            whole.expect_file(self.path)
        # the umask, or the file that is there, decides who may read a page that the user names
        mode = whole.PRIVATE if self.is_ours or self.path.exists() else whole.BY_UMASK
        whole.write(self.path, [text], mode=mode)


def _hardened(text: str) -> str:
    """Return the page *text* with the parts that pytest-html leaves out."""
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    styles = re.findall(r"<style[^>]*>(.*?)</style>", text, re.DOTALL)
    policy = page.content_security_policy(styles, scripts, images="data:")
    if _STYLESHEET.search(text):
        # the user's page without --self-contained-html; 'self' is no file in some browsers
        policy = policy.replace("style-src ", "style-src 'self' file: ", 1)
        policy = policy.replace("'self' file: 'none'", "'self' file:")
    head = (
        '<meta charset="utf-8"/>'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}"/>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        '<meta name="color-scheme" content="light dark"/>'
    )
    for bare, dressed in (
        ("<html>", '<html lang="en">'),
        ('<meta charset="utf-8"/>', head),
        # its default unfolds every row that did not pass
        (
            "&#34;renderCollapsed&#34;: [&#34;passed&#34;]",
            "&#34;renderCollapsed&#34;: [&#34;all&#34;]",
        ),
        ("<body>", "<body><main>"),
        (' onclick="location.reload()"', ""),
        ("<footer>", "</main><footer>"),
    ):
        text = text.replace(bare, dressed, 1)
    return text.replace('checked="true"', "checked")


def _before_after(change: ChangeRecord) -> str:
    """Return the removed and the added text of the change's diff in one line."""
    removed, added = [], []
    for line in change.diff.splitlines():
        if line.startswith(("---", "+++")):
            continue
        if line.startswith("-"):
            removed.append(line[1:].strip())
        elif line.startswith("+"):
            added.append(line[1:].strip())
    before, after = " ".join(removed), " ".join(added)
    text = change.diff
    if before or after:
        text = f"{before or 'nothing'} → {after or 'nothing'}"
    if len(text) > _CELL:
        text = f"{text[:_CELL]}…"
    return f"{text} ({_shown(change).state})"


def stand_down(config: pytest.Config) -> None:
    """Take pytest-html out of the run, so that it writes nothing."""
    rows = [
        plugin
        for plugin in config.pluginmanager.get_plugins()
        if isinstance(plugin, Rows)
    ]
    for plugin in (*rows, *_writers(config)):
        config.pluginmanager.unregister(plugin)


def _writers(config: pytest.Config) -> list[Any]:
    """Return pytest-html's own plugins that write the page."""
    plugins = config.pluginmanager.get_plugins()
    return [
        plugin
        for plugin in plugins
        if type(plugin).__module__.startswith("pytest_html.")
    ]


def escaped(value: Any) -> str:
    """Escape *value* for pytest-html's environment table, which shows text as markup and lists as broken markup."""
    if isinstance(value, dict):
        return ", ".join(
            f"{escape(str(key))} {escaped(entry)}" for key, entry in value.items()
        )
    if isinstance(value, list | tuple):
        return ", ".join(map(escaped, value))
    return escape(printable(str(value)))


def _shown(change: ChangeRecord) -> RecordedChange:
    return RecordedChange(**change.to_json())


def _template(name: str) -> Path:
    return Path(__file__).with_name("templates") / name
