"""What a run leaves for people and machines once its record is written: report, index, metrics."""

from __future__ import annotations

from pathlib import Path

import pytest

from reclaim.errors import ReclaimError
from reclaim.report import archive, html, metrics, page, record, whole
from reclaim.report.html import Rows
from reclaim.run import Run
from reclaim.text import trouble


class Pages:
    """Chooses which report a run gets, and writes what pytest-html does not."""

    def __init__(self, config: pytest.Config, run: Run) -> None:
        self._config = config
        self._run = run
        self._folders = [part.folder.absolute() for part in run.parts]
        self._remark = ""
        #: what is said where the static page was chosen for its number of rows
        self.choice = ""
        self.rows: Rows | None = None
        if not config.pluginmanager.hasplugin("html"):
            return
        if not config.option.htmlpath and len(self._folders) == 1:
            config.option.htmlpath = str(self._folders[0] / html.NAME)
            config.option.self_contained_html = True
        if config.option.htmlpath:
            names = [part.hypervisor.name for part in run.parts]
            title = f"reclaim {run.options.mode}: {names[0] if len(names) == 1 else f'{len(names)} hypervisors'}"
            self.rows = Rows(config, title, run.id, self._folders)
            config.pluginmanager.register(self.rows, "reclaim-html")

    def choose(self, rows: int) -> None:
        """Choose by the number of *rows*."""
        if self.rows is None or not self.rows.is_ours or rows <= html.MOST:
            return
        html.stand_down(self._config)
        self.rows = None
        self.choice = (
            f"reclaim: {rows} rows, more than pytest-html opens in reasonable time: report.html is the static page"
        )
        self._remark = (
            f"{rows} rows: this is the static page; pytest-html's own, which carries up to {html.MOST}, "
            "would take long to open."
        )

    def give_up_rows(self) -> None:
        """pytest-html failed: what it left is no page."""
        if self.rows is not None:
            self.rows.path.unlink(missing_ok=True)
            self.rows = None

    def finish(self) -> list[str]:
        """Write everything that is made from the record; returns what could not be, a line each."""
        options = self._run.options
        troubles: list[str] = []
        steps = (
            self._reports,
            lambda: metrics.write(options.metrics, [record.read(folder) for folder in self._folders]),
            lambda: archive.update(options.reports, options.keep),
        )
        for step in steps:
            try:
                step()
            except OSError as exc:
                troubles.append(f"reclaim: cannot be written: {trouble(exc)}")
            except ReclaimError as exc:
                troubles.append(f"reclaim: {exc}")
        return troubles

    def _reports(self) -> None:
        if self.rows is not None and self.rows.path.exists():
            self.rows.harden()
        for folder in self._folders:
            if not (folder / page.NAME).exists():
                write_report([folder], folder / page.NAME, self._remark)


def write_report(folders: list[Path], path: Path, remark: str = "", *, shared: bool = False) -> None:
    """Write the static page of the runs in *folders* to *path*. Raises ReclaimError where one is no run.

    *shared*: who may read it is for the user's umask to say.
    """
    homes = list(dict.fromkeys(folder.parent if folder.is_file() else folder for folder in folders))
    records = [record.read(home) for home in homes]
    whole.write(path, page.page(records, homes, remark), mode=whole.BY_UMASK if shared else whole.PRIVATE)
