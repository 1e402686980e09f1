"""The files that are made from a run's record: report, pytest-html's rows, index, metrics."""

from __future__ import annotations

import errno
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
from reclaim.report.summary import is_unreached

#: errors of a disk, of a quota and of a limit that another file may fill
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Pages:
    """The choice whether pytest-html writes its table too, and the writing of all other files."""

    def __init__(self, config: pytest.Config, run: Run) -> None:
        self._config = config
        self._run = run
        self._folders = [part.folder.absolute() for part in run.parts]
        self._remark = ""
        self.rows: Rows | None = None
        self._failure: OSError | ReclaimError | None = None
        if not config.pluginmanager.hasplugin("html"):
            return
        has_home = len(run.parts) == 1 and not run.parts[0].homeless
        if not config.option.htmlpath and has_home and not _is_ours(self._folders[0]):
            self._remark = "There is no table of pytest-html, because other users can write to this folder."
        elif not config.option.htmlpath and has_home:
            config.option.htmlpath = str(self._folders[0] / html.NAME)
            config.option.self_contained_html = True
        if config.option.htmlpath:
            names = [part.hypervisor.name for part in run.parts]
            title = f"reclaim {run.options.mode}: {names[0] if len(names) == 1 else f'{len(names)} hypervisors'}"
            self.rows = Rows(config, title, run.id, self._folders, self._records)
            config.pluginmanager.register(self.rows, "reclaim-html")

    def choose(self, rows: int) -> None:
        """Leave pytest-html's table out if there are more *rows* than it can show."""
        if self.rows is None or not self.rows.is_ours or rows <= html.MOST:
            return
        html.stand_down(self._config)
        self.rows = None
        self._remark = (
            "There is no table of pytest-html: "
            f"it carries up to {html.MOST:,} rows, and this run has {rows:,}."
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
        are_reached = not any(part.unreached for part in self._run.parts)
        is_success = self._are_written and are_reached and not self._run.cut_short
        attempt = metrics.Attempt(datetime.now(timezone.utc), is_success)
        # the figures of a hypervisor that was not reached stay those of its last run
        records = [record for record in self._records() if not is_unreached(record)]
        metrics.write(self._run.options.metrics, records, attempt)

    def _index(self) -> None:
        if any(part.is_written for part in self._run.parts):
            archive.update(self._run.options.reports, self._run.options.keep)

    def _reports(self) -> None:
        """Harden pytest-html's page, and write the static page of each run."""
        self._harden_rows()
        for part in self._run.parts:
            if part.is_written:
                self._write_page(part.folder.absolute())

    def _write_page(self, folder: Path) -> None:
        """Write the page of the run in *folder*. If there is no room for two, pytest-html's table goes."""
        path = folder / page.NAME
        try:
            write_report([folder], path, self._remark)
        except OSError as exc:
            is_room_needed = exc.errno in _NO_ROOM
            if self.rows is None or not (self.rows.is_ours and is_room_needed):
                raise
            whole.drop(self.rows.path)
            self.give_up_rows(exc)
            write_report([folder], path, self._remark)

    def _harden_rows(self) -> None:
        if self.rows is not None and self.rows.written.exists():
            try:
                self.rows.harden()
            except OSError as exc:
                self.give_up_rows(exc)  # ours may be smaller


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
    rows_page = ""
    if len(homes) == 1 and path.parent == homes[0] and (homes[0] / html.NAME).is_file():
        rows_page = html.NAME
    whole.write(
        path,
        page.page(records, homes, remark, rows_page=rows_page),
        mode=whole.BY_UMASK if shared else whole.PRIVATE,
    )
