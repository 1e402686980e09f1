"""The report: written, opened and clicked, beside the page of plain pytest-html with the same rows."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import perf_counter

from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service

from bench.definitions import FINDINGS, ROOT
from bench.page import Aim, Asked, Results, Topic
from bench.rounds import Contender, Failed, Race, Taken, race, ran
from tests import records
from tests.browser.window import OPTIONS, Window

OURS, PEER, BARE = "reclaim report", "pytest-html", "pytest without a page"
TESTS = ROOT / "bench/peers/rows_of_pytest.py"
#: rows from which on one round is all: pytest-html takes minutes
_MANY = 50_000
#: seconds after which a page that is not open is given up, and a click
_PATIENCE = 300
#: a checkbox that hides the rows that are in order, and something that folds out
_CLICKS = {
    OURS: ("#show-compliant", ".rows details summary"),
    PEER: ("input[data-test-result=passed]", "tbody.results-table-row td.col-result"),
}

ABOUT = """\
The page of one run with so many rows, a third of the guests with findings. `reclaim report RUN` writes it from the \
record. pytest-html gets as many tests with the same names, outcomes and reasons \
(`pytest --html=FILE --self-contained-html`); pytest without a page is the share that is no writing of pages. Both are \
then opened in chromium until they are painted; *filter* is a click on the checkbox that hides the rows that \
passed, and *fold* one on the first row that has more to show, each until the page is painted again."""


def measure(asked: Asked) -> Results:
    sizes = (100, 1000) if asked.quick else (100, 2000, 10_000, 100_000)
    races: list[Race] = []
    aims: list[Aim] = []
    with tempfile.TemporaryDirectory(prefix="reclaim-bench-") as name:
        folder = Path(name)
        for rows in sizes:
            rounds = 1 if rows >= _MANY else asked.rounds_or(3)
            three = list(_of(folder, rows, rounds))
            races += three
            aims += _aims(rows, *three)
    return Results(tuple(races), tuple(aims), versions=_versions())


def _of(folder: Path, rows: int, rounds: int) -> Iterator[Race]:
    run = records.archive(folder / str(rows), records.fleet(rows))
    pages = {OURS: folder / f"{rows}-own.html", PEER: folder / f"{rows}-peer.html"}
    yield _write(run, pages, rows, rounds)
    with _chromium() as driver:
        for step, work in (("open", _open), ("filter", _filter), ("fold", _fold)):
            contenders = _shown(driver, work, pages)
            yield race(f"{rows:,} rows: {step}", contenders, rounds, baseline=PEER)


# Writing --------------------------------------------------------------------------------------


def _write(run: Path, pages: dict[str, Path], rows: int, rounds: int) -> Race:
    record = {"RECLAIM_BENCH_RECORD": str(run / "results.json"), "PYTEST_ADDOPTS": ""}
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]

    def own() -> Taken:
        into = ("--output", pages[OURS])
        taken = ran(sys.executable, "-m", "reclaim", "report", run, *into, cwd=ROOT)
        return _sized(taken, pages[OURS])

    def peer() -> Taken:
        html = (f"--html={pages[PEER]}", "--self-contained-html")
        taken = ran(*tests, TESTS, *html, cwd=ROOT, env=record, expected=(FINDINGS,))
        return _sized(taken, pages[PEER])

    def bare() -> Taken:
        return ran(*tests, TESTS, cwd=ROOT, env=record, expected=(FINDINGS,))

    contenders = [Contender(OURS, own), Contender(PEER, peer), Contender(BARE, bare)]
    return race(f"{rows:,} rows: write", contenders, rounds, baseline=PEER, by="cpu")


def _sized(taken: Taken, page: Path) -> Taken:
    return replace(taken, figures={"MB": page.stat().st_size / 1e6})


# In the browser -------------------------------------------------------------------------------


@contextmanager
def _chromium() -> Iterator[webdriver.Chrome | None]:
    """Start chromium, as tests/browser does; None if there is none."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        yield None
        return
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for option in OPTIONS:
        options.add_argument(option)
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    chrome.set_page_load_timeout(_PATIENCE)
    chrome.set_script_timeout(_PATIENCE)
    try:
        yield chrome
    finally:
        chrome.quit()


def _shown(
    driver: webdriver.Chrome | None,
    work: Callable[[Window, Path, str], float],
    pages: dict[str, Path],
) -> list[Contender]:
    def contender(name: str, page: Path) -> Contender:
        def show() -> Taken:
            assert driver is not None
            try:
                return Taken(wall=work(Window(driver), page, name))
            except WebDriverException as problem:
                raise Failed(str(problem.msg).partition("\n")[0]) from problem

        absent = ""
        if driver is None:
            absent = "chromium or chromedriver is not installed"
        elif not page.exists():
            absent = "there is no page"
        return Contender(name, show, absent=absent)

    return [contender(name, page) for name, page in pages.items()]


def _open(window: Window, page: Path, _name: str) -> float:
    window.open("about:blank")
    started = perf_counter()
    window.open(page)
    return perf_counter() - started


def _filter(window: Window, page: Path, name: str) -> float:
    window.open(page)
    return _clicked(window, _CLICKS[name][0])


def _fold(window: Window, page: Path, name: str) -> float:
    window.open(page)
    return _clicked(window, _CLICKS[name][1])


def _clicked(window: Window, selector: str) -> float:
    """Click as a script does, which needs no scrolling, and wait until the page is painted."""
    started = perf_counter()
    window.ask(f"document.querySelector({selector!r}).click()")
    window.settle()
    return perf_counter() - started


# Targets --------------------------------------------------------------------------------------


def _aims(rows: int, write: Race, *shown: Race) -> list[Aim]:
    size = write.ratio(OURS, PEER, "MB")
    aims = [Aim(f"{rows:,} rows: bytes, over those of pytest-html", size, 1.0)]
    for each in shown:
        step = each.title.rpartition(" ")[2]
        text = f"{rows:,} rows: seconds to {step}, over those of pytest-html"
        aims.append(Aim(text, each.ratio(OURS), 1.0))
    return aims


def _versions() -> dict[str, str]:
    versions = {
        name: importlib.metadata.version(name) for name in ("pytest", "pytest-html")
    }
    if program := shutil.which("chromium"):
        done = subprocess.run(
            [program, "--version"], capture_output=True, text=True, check=False
        )
        numbers = [word for word in done.stdout.split() if word[0].isdigit()]
        versions["chromium"] = numbers[0] if numbers else "unknown"
    return versions


TOPIC = Topic("report", "The report", ABOUT, measure)
