"""The files that are made from the record of a run."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pluggy
import pytest

from reclaim.base.errors import ReclaimError
from reclaim.engine.part import Options
from reclaim.engine.run import Run
from reclaim.files import whole
from reclaim.report import html, publish
from reclaim.report.publish import Pages
from tests.command import FLEET


def test_a_link_in_the_place_of_the_page_is_replaced(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("root's own")
    run = Run(Options(uri=FLEET, definitions_only=True, reports=tmp_path / "reports"))
    run.open()
    run.prepare()
    pages = Pages(_config(), run)
    pages.rows = None
    (part,) = run.parts
    assert run.close() == []
    page = part.folder / "report.html"
    page.symlink_to(victim)
    assert pages.finish() == []
    assert victim.read_text() == "root's own"
    assert not page.is_symlink()
    assert page.stat().st_mode & 0o777 == 0o600


# The choice of the page -----------------------------------------------------------------------


RAW = "<html>\n<body><footer></footer></body></html>"


class _Manager(pluggy.PluginManager):
    """pytest's, as far as it is asked."""

    def hasplugin(self, name: str) -> bool:
        return bool(self.has_plugin(name))


def _config(htmlpath: str | None = None, *, has_html: bool = True) -> Any:
    manager = _Manager("pytest")
    if has_html:
        manager.register(_Config(), "html")
    return SimpleNamespace(
        option=SimpleNamespace(htmlpath=htmlpath, self_contained_html=False, css=[]), pluginmanager=manager
    )


class _Config:
    """pytest-html's own plugin, which writes the page."""


_Config.__module__ = "pytest_html.plugin"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run that is over, with its record in its folder."""
    return _over(tmp_path / "reports")


def _over(reports: Path, **more: Any) -> Run:
    made = Run(Options(uri=FLEET, definitions_only=True, reports=reports, **more))
    made.open()
    made.prepare()
    assert made.close() == []
    return made


def test_pytest_html_gets_a_place_in_the_folder_of_the_run(run: Run) -> None:
    config = _config()
    pages = Pages(config, run)
    assert config.option.htmlpath == str(run.parts[0].folder.absolute() / "rows.html")
    assert config.option.self_contained_html is True
    assert pages.rows is not None
    assert pages.rows.is_ours
    assert pages.rows.title == "reclaim audit: test-driver"
    assert pages.rows in config.pluginmanager.get_plugins()


def test_without_pytest_html_nothing_is_asked_of_it(run: Run) -> None:
    config = _config(has_html=False)
    assert Pages(config, run).rows is None
    assert config.option.htmlpath is None


def test_a_page_that_the_user_asks_for_is_left_where_it_is(run: Run, tmp_path: Path) -> None:
    config = _config(str(tmp_path / "mine.html"))
    pages = Pages(config, run)
    assert config.option.htmlpath == str(tmp_path / "mine.html")
    assert config.option.self_contained_html is False
    assert pages.rows is not None
    assert not pages.rows.is_ours


def test_several_hypervisors_have_no_page_of_pytest_html(run: Run) -> None:
    run.parts.append(run.parts[0])
    config = _config()
    assert Pages(config, run).rows is None
    assert config.option.htmlpath is None
    config = _config("mine.html")
    rows = Pages(config, run).rows
    assert rows is not None
    assert rows.title == "reclaim audit: 2 hypervisors"


def test_a_run_without_a_folder_has_no_page(run: Run) -> None:
    run.parts[0].homeless = "no room"
    assert Pages(_config(), run).rows is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root trusts nobody else")
def test_where_others_can_write_there_is_no_table_and_the_page_says_so(run: Run) -> None:
    run.parts[0].folder.chmod(0o777)
    config = _config()
    pages = Pages(config, run)
    assert pages.rows is None
    assert config.option.htmlpath is None
    assert pages.finish() == []
    assert "other users can write" in _page(run).read_text(encoding="utf-8")


def _page(run: Run) -> Path:
    return run.parts[0].folder / "report.html"


@pytest.mark.parametrize(("rows", "is_static"), [(html.MOST, False), (html.MOST + 1, True)])
def test_for_more_rows_than_it_shows_pytest_html_has_no_table(run: Run, rows: int, *, is_static: bool) -> None:
    config = _config()
    pages = Pages(config, run)
    pages.choose(rows)
    assert (pages.rows is None) is is_static
    assert bool(config.pluginmanager.get_plugins()) is not is_static
    if is_static:
        assert pages.finish() == []
        assert f"{rows:,}" in _page(run).read_text(encoding="utf-8")


def test_a_page_that_the_user_asked_for_is_made_however_many_rows_it_has(run: Run, tmp_path: Path) -> None:
    pages = Pages(_config(str(tmp_path / "mine.html")), run)
    pages.choose(html.MOST + 1)
    assert pages.rows is not None


# The files of a run ---------------------------------------------------------------------------


def test_all_files_are_made_from_the_record(tmp_path: Path) -> None:
    run = _over(tmp_path / "reports", metrics=tmp_path / "one.prom")
    pages = Pages(_config(has_html=False), run)
    assert pages.finish() == []
    assert "reclaim audit" in _page(run).read_text(encoding="utf-8")
    assert "test-driver" in (tmp_path / "one.prom").read_text(encoding="utf-8")
    assert run.id in (tmp_path / "reports/index.html").read_text(encoding="utf-8")


def test_the_page_leads_to_the_table_beside_it(run: Run) -> None:
    assert Pages(_config(has_html=False), run).finish() == []
    assert 'href="rows.html"' not in _page(run).read_text(encoding="utf-8")
    config = _config()
    pages = Pages(config, run)
    assert pages.rows is not None
    pages.rows.written = run.parts[0].folder / ".rows.html.raw.new"
    pages.rows.written.write_text(RAW, encoding="utf-8")
    assert pages.finish() == []
    assert 'href="rows.html"' in _page(run).read_text(encoding="utf-8")
    assert config.pluginmanager.get_plugins() == set(), "pytest-html prints nothing of its table"


def test_if_there_is_no_room_for_two_pages_the_table_goes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = Pages(_config(), run)
    assert pages.rows is not None
    honest = publish.write_report

    def full(folders: list[Path], path: Path, remark: str) -> None:
        if (path.parent / "rows.html").exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        honest(folders, path, remark)

    monkeypatch.setattr(publish, "write_report", full)
    pages.rows.written = run.parts[0].folder / ".rows.html.raw.new"
    pages.rows.written.write_text(RAW, encoding="utf-8")
    [line] = pages.finish()
    assert "pytest-html could not write its page: No space left on device" in line
    assert _page(run).exists()
    assert not (run.parts[0].folder / "rows.html").exists()


def test_without_a_record_there_is_no_page_and_no_index(run: Run, tmp_path: Path) -> None:
    config = _config()
    pages = Pages(config, run)
    run.parts[0].is_written = False
    assert pages.finish() == []
    assert pages.rows is None
    assert config.pluginmanager.get_plugins() == set()
    assert not _page(run).exists()
    assert not (tmp_path / "reports/index.html").exists()


def test_the_newest_runs_are_kept(tmp_path: Path) -> None:
    first = _over(tmp_path / "reports")
    Pages(_config(has_html=False), first).finish()
    second = _over(tmp_path / "reports", keep=1)
    Pages(_config(has_html=False), second).finish()
    assert not first.parts[0].folder.exists()
    assert _page(second).exists()


def test_files_that_cannot_be_written_for_one_reason_are_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object, **_more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(whole, "write", full)
    run.parts[0].unlinked = "No space left on device"
    [line] = Pages(_config(has_html=False), run).finish()
    assert line.startswith("reclaim: ")
    for name in ("latest", "report.html", "index.html", "No space left on device"):
        assert name in line


def test_each_reason_has_its_line(tmp_path: Path) -> None:
    run = _over(tmp_path / "reports", metrics=tmp_path / "no-such/one.prom")
    (tmp_path / "reports/index.html").mkdir()
    lines = Pages(_config(has_html=False), run).finish()
    assert len(lines) == 2
    assert [line for line in lines if "one.prom" in line and "No such file" in line]
    assert [line for line in lines if "index.html" in line]


@pytest.mark.parametrize("is_full", [False, True])
def test_why_pytest_html_made_no_page_is_told_in_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, *, is_full: bool
) -> None:
    config = _config()
    pages = Pages(config, run)
    pages.give_up_rows(OSError(errno.ENOSPC, "No space left on device"))
    assert config.pluginmanager.get_plugins() == set()
    if is_full:

        def full(*_arguments: object, **_more: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(publish, "write_report", full)
    [line] = pages.finish()
    assert "pytest-html" in line
    assert "No space left on device" in line
    assert ("nor can ours" in line) is is_full
    assert _page(run).exists() is not is_full


def test_a_failure_of_ours_is_told_as_it_is(run: Run) -> None:
    pages = Pages(_config(), run)
    pages.give_up_rows(ReclaimError("the page lies in a folder of others"))
    [line] = pages.finish()
    assert line.endswith("the page lies in a folder of others")


def test_pytest_htmls_page_is_hardened(run: Run) -> None:
    pages = Pages(_config(), run)
    assert pages.rows is not None
    pages.rows.written = run.parts[0].folder / ".rows.html.raw.new"
    pages.rows.written.write_text(RAW, encoding="utf-8")
    assert pages.finish() == []
    table = run.parts[0].folder / "rows.html"
    assert '<html lang="en">' in table.read_text(encoding="utf-8")
    assert table.stat().st_mode & 0o777 == 0o600


def test_a_table_that_cannot_be_hardened_is_left_out(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = Pages(_config(), run)
    assert pages.rows is not None

    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pages.rows, "harden", full)
    pages.rows.written = run.parts[0].folder / ".rows.html.raw.new"
    pages.rows.written.write_text("<html>", encoding="utf-8")
    [line] = pages.finish()
    assert not (run.parts[0].folder / "rows.html").exists()
    assert "No space left on device" in line
    assert "reclaim audit" in _page(run).read_text(encoding="utf-8")


# A page made again ----------------------------------------------------------------------------


def test_a_page_of_several_runs(run: Run, tmp_path: Path) -> None:
    other = _over(tmp_path / "other")
    folders = [run.parts[0].folder, other.parts[0].folder / "results.json", run.parts[0].folder]
    publish.write_report(folders, tmp_path / "all.html", "a remark")
    text = (tmp_path / "all.html").read_text(encoding="utf-8")
    assert "a remark" in text
    assert text.count("<time datetime=") == 2, "a run that is named twice is there once"
    assert (tmp_path / "all.html").stat().st_mode & 0o777 == 0o600


def test_what_is_no_run_has_no_page(tmp_path: Path) -> None:
    with pytest.raises(ReclaimError, match=r"results\.json"):
        publish.write_report([tmp_path], tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []
