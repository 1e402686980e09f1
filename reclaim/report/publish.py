"""The files that are made from a run's record: report, index, metrics."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest

from reclaim.base.errors import ReclaimError
from reclaim.base.text import trouble
from reclaim.engine.run import Run
from reclaim.files import trust, whole
from reclaim.record import record
from reclaim.record.record import Record
from reclaim.report import archive, html, metrics, page
from reclaim.report.html import Rows


class Pages:
    """The choice between pytest-html's report and the static one, and the writing of all other files."""

    def __init__(self, config: pytest.Config, run: Run) -> None:
        self._config = config
        self._run = run
        self._folders = [part.folder.absolute() for part in run.parts]
        self._remark = ""
        #: the line that explains that the static page was chosen for its number of rows
        self.choice = ""
        self.rows: Rows | None = None
        self._failure: OSError | ReclaimError | None = None
        if not config.pluginmanager.hasplugin("html"):
            return
        has_home = len(run.parts) == 1 and not run.parts[0].homeless
        if not config.option.htmlpath and has_home and not _is_ours(self._folders[0]):
            self._remark = (
                "This is the static page, because other users can write to its folder."
            )
        elif not config.option.htmlpath and has_home:
            config.option.htmlpath = str(self._folders[0] / html.NAME)
            config.option.self_contained_html = True
        if config.option.htmlpath:
            names = [part.hypervisor.name for part in run.parts]
            title = f"reclaim {run.options.mode}: {names[0] if len(names) == 1 else f'{len(names)} hypervisors'}"
            self.rows = Rows(config, title, run.id, self._folders, self._records)
            config.pluginmanager.register(self.rows, "reclaim-html")

    def choose(self, rows: int) -> None:
        """Choose the static page if there are more *rows* than pytest-html can show."""
        if self.rows is None or not self.rows.is_ours or rows <= html.MOST:
            return
        html.stand_down(self._config)
        self.rows = None
        self.choice = (
            f"reclaim: {rows} rows, more than pytest-html opens in reasonable time: "
            "report.html is the static page"
        )
        self._remark = (
            f"{rows} rows: this is the static page; pytest-html's own, which carries up to {html.MOST}, "
            "would take long to open."
        )

    def _records(self) -> list[Record]:
        return [part.found for part in self._run.parts if part.found is not None]

    @property
    def _are_written(self) -> bool:
        return all(part.is_written for part in self._run.parts)

    def give_up_rows(self, exc: OSError | ReclaimError | None = None) -> None:
        """Take pytest-html out after it failed, so that it does not print that there is a page."""
        self._failure = exc
        html.stand_down(self._config)
        if self.rows is not None:
            whole.drop(self.rows.written)
            self.rows = None

    def finish(self) -> list[str]:
        """Write everything that is made from the record. Return a line for each reason of a failure."""
        options = self._run.options
        if self.rows is not None and self.rows.is_ours and not self._are_written:
            self.give_up_rows()  # a page beside no record
        failed = {
            part.unlinked: ["latest"] for part in self._run.parts if part.unlinked
        }
        for name, step in (
            (page.NAME, self._reports),
            (str(options.metrics), self._metrics),
            (archive.INDEX, self._index),
        ):
            try:
                step()
            except OSError as exc:
                failed.setdefault(exc.strerror or str(exc), []).append(name)
            except ReclaimError as exc:
                failed.setdefault(str(exc), [])
        if self._failure is not None and self._are_written:
            failed[_page_lost(self._failure, failed)] = []
        self._name_once()
        lines = []
        for why, paths in failed.items():
            reason = f"cannot be written: {', '.join(paths)}: {why}" if paths else why
            lines.append(f"reclaim: {reason}")
        return lines

    def _name_once(self) -> None:
        """Keep pytest-html from naming the page of the archive: the summary does that."""
        if self.rows is not None and self.rows.is_ours:
            html.stand_down(self._config)

    def _metrics(self) -> None:
        is_success = self._are_written and not self._run.cut_short
        attempt = metrics.Attempt(datetime.now(timezone.utc), is_success)
        metrics.write(self._run.options.metrics, self._records(), attempt)

    def _index(self) -> None:
        if any(part.is_written for part in self._run.parts):
            archive.update(self._run.options.reports, self._run.options.keep)

    def _reports(self) -> None:
        """Harden pytest-html's page, and write the static page of each run that has no other."""
        if self.rows is not None and self.rows.written.exists():
            try:
                self.rows.harden()
            except OSError as exc:
                self.give_up_rows(exc)  # ours may be smaller
        for part in self._run.parts:
            if not part.is_written:
                continue
            path = part.folder.absolute() / page.NAME
            if path.is_symlink() or not path.is_file():
                write_report([path.parent], path, self._remark)


def _is_ours(folder: Path) -> bool:
    """True if no other user can write in *folder*: pytest-html follows any link that lies there by then."""
    try:
        trust.expect(folder)
    except (OSError, ReclaimError):
        return False
    return True


def _page_lost(exc: OSError | ReclaimError, failed: dict[str, list[str]]) -> str:
    """Return why pytest-html's page is missing. If the static page *failed* too, one line reports both."""
    reason = trouble(exc) if isinstance(exc, OSError) else str(exc)
    nor_ours = ""
    for why, paths in list(failed.items()):
        if page.NAME in paths:
            paths.remove(page.NAME)
            nor_ours = ", nor can ours be written"
            if not paths:
                del failed[why]
    return f"pytest-html could not write its page{nor_ours}: {reason}"


def write_report(
    folders: list[Path], path: Path, remark: str = "", *, shared: bool = False
) -> None:
    """Write the static page of the runs in *folders* to *path*. Raises ReclaimError if one is no run.

    With *shared* the user's umask decides who may read it.
    """
    homes = list(
        dict.fromkeys(
            folder.parent if folder.is_file() else folder for folder in folders
        )
    )
    records = [record.read(home) for home in homes]
    whole.write(
        path,
        page.page(records, homes, remark),
        mode=whole.BY_UMASK if shared else whole.PRIVATE,
    )
