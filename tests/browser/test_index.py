"""reports/index.html in a browser."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By

from reclaim.report import archive as archive_of
from reclaim.report.summary import ROAD
from tests import records
from tests.browser.serve import STRICT, serve
from tests.browser.window import Window
from tests.hostile import TAG


@pytest.fixture
def shown(window: Window, archive: Path) -> Window:
    window.open(archive / "index.html")
    return window


@pytest.fixture(scope="session")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index with a line, something mended, something broken, and a run that cannot be read."""
    reports = tmp_path_factory.mktemp("told")
    for day, (verdict, held) in enumerate([("noncompliant", 9), ("compliant", 5), ("noncompliant", 6)]):
        one = records.document(
            [records.row("disk-bus", verdict, TAG, "sda")],
            [records.storage(TAG, allocated_before=held * records.GIB, allocated_after=held * records.GIB)],
            started=records.EPOCH + timedelta(days=day),
        )
        records.archive(reports, one)
    torn = reports / "kvm1/20260105T000000Z-audit"
    torn.mkdir()
    (torn / "results.json").write_text('{"schema": 1, "run"', encoding="ascii")
    (reports / "kvm1/20260106T000000Z-fix").mkdir()
    archive_of.update(reports)
    return reports


def test_a_run_leads_to_its_report(shown: Window) -> None:
    assert len(shown.all(".runs tbody tr")) == 2
    shown.click(".runs tbody tr a")
    assert "reclaim plan" in shown.driver.title
    assert shown.all(".grid td a")


def test_what_changed_is_told(window: Window, told: Path) -> None:
    window.open(told / "index.html")
    newest, torn, *_ = window.texts(".runs tbody tr")
    assert "could not be read" in newest or "could not be read" in torn
    broken = window.one(".delta .worse")
    assert broken.text == "1 newly broken"
    assert "compliant → noncompliant" in broken.find_element(By.XPATH, "..").text, "it is read without unfolding"
    assert window.one(".delta .better").text == "1 newly mended"
    assert "1 without a record" in window.one("main").text


def test_a_guest_has_a_line(window: Window, told: Path) -> None:
    window.open(told / "index.html")
    window.click(".site summary")
    line = window.one(".site .bytes svg")
    assert len(str(line.find_element(By.TAG_NAME, "polyline").get_attribute("points")).split()) == 3
    assert "9.0 GiB at first, 6.0 GiB now" in str(line.get_attribute("aria-label"))


def test_no_text_became_markup(window: Window, told: Path, shown: Window) -> None:
    for where in (None, told / "index.html"):
        if where:
            window.open(where)
        assert window.all("img, [onerror], script[src]") == []
        assert len(window.all("script")) == 1
        assert window.complaints() == []
    window.ask("for (const one of document.querySelectorAll('details')) one.open = true;")
    assert TAG in str(window.ask("return document.body.innerText"))


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of 20 hypervisors with 40 guests each, three runs of each."""
    reports = tmp_path_factory.mktemp("fleet")
    for number in range(60):
        host = number % 20
        rows, disks = [], []
        for guest in range(40):
            name = f"guest-{guest:02}.host-{host:02}.example.org"
            verdict = "noncompliant" if (number + guest) % 7 == 0 else "compliant"
            rows += [records.row(slug, verdict, name, "sda") for slug in ROAD]
            disks.append(records.storage(name))
        one = records.document(
            rows,
            disks,
            hypervisor=f"host-{host:02}.example.org",
            started=records.EPOCH + timedelta(hours=number),
            filesystems=[records.filesystem(used_after=90 - number, free_after=10 + number)],
        )
        records.archive(reports, one)
    archive_of.update(reports)
    return reports


def test_the_runs_begin_on_the_first_screen(window: Window, fleet: Path) -> None:
    window.open(fleet / "index.html")
    first = window.one(".runs tbody tr")
    assert first.rect["y"] + 20 < 900
    assert "of 800 guests on 20 hypervisors do not return freed space" in window.one(".lead").text


def test_the_runs_of_one_hypervisor_are_chosen(window: Window, fleet: Path) -> None:
    window.open(fleet / "index.html")
    window.click("#host option:nth-child(4)")
    assert window.texts(".runs tbody td:nth-child(2)") == ["host-02.example.org"] * 3
    assert window.texts(".hosts tbody th") == ["host-02.example.org"]
    assert window.one("#counted").text == "3 runs shown"
    assert len(window.texts(".site > summary")) == 1
    window.click("#host option:nth-child(1)")
    assert len(window.texts(".runs tbody tr")) == 60


def test_it_is_read_without_scripts_under_a_strict_policy(window: Window, fleet: Path) -> None:
    with serve(fleet, STRICT) as root:
        window.load(f"{root}/index.html")
        assert len(window.texts(".runs tbody tr")) == 60
        assert not window.one("#host").is_displayed()
        window.one(".hosts-more summary").click()
        assert len(window.texts(".hosts tbody tr")) == 20


@pytest.mark.parametrize("name", ["told", "fleet"])
@pytest.mark.parametrize("width", [360, 1280, 1920])
def test_nothing_is_cut_off(window: Window, request: pytest.FixtureRequest, name: str, width: int) -> None:
    window.open(request.getfixturevalue(name) / "index.html")
    window.size(width, 900)
    window.ask("for (const one of document.querySelectorAll('details')) one.open = true;")
    window.ask("for (const one of document.querySelectorAll('.later')) one.style.contentVisibility = 'visible';")
    window.settle()
    assert window.ask("return document.documentElement.scrollWidth") <= width
    assert window.wide() == []


@pytest.mark.node
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_has_nothing_against_it(window: Window, told: Path, scheme: str) -> None:
    window.open(told / "index.html")
    window.media(scheme)
    window.ask("for (const one of document.querySelectorAll('details')) one.open = true;")
    window.settle()
    assert window.axe() == []


@pytest.mark.parametrize("width", [360, 700, 1280])
def test_a_hypervisors_name_breaks_at_its_dots_alone(window: Window, tmp_path: Path, width: int) -> None:
    """A fleet's names are alike: half a word on the next line makes them hard to tell apart."""
    for number in (9, 19):
        host = f"kvm{number}.virtualisation.example.org"
        rows = [records.row("disk-bus", "noncompliant", "web", "sda")]
        records.archive(tmp_path, records.document(rows, hypervisor=host))
    archive_of.update(tmp_path)
    window.open(tmp_path / "index.html")
    window.size(width, 900)
    broken = window.ask(
        """
        const broken = [];
        for (const cell of document.querySelectorAll(".hosts th[scope=row], .runs td:nth-child(2)")) {
          const texts = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
          while (texts.nextNode()) {
            const part = document.createRange();
            part.selectNodeContents(texts.currentNode);
            if (part.getClientRects().length > 1) broken.push(texts.currentNode.data);
          }
        }
        return [broken, document.querySelector(".hosts th[scope=row]").innerText];
        """
    )
    assert broken == [[], "kvm9.virtualisation.example.org"]
