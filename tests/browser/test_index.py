"""reports/index.html in a browser."""

from __future__ import annotations

from pathlib import Path

import pytest
from selenium.webdriver.common.by import By

from tests import records
from tests.browser.window import Window
from tests.hostile import TAG


@pytest.fixture
def shown(window: Window, archive: Path) -> Window:
    window.open(archive / "index.html")
    return window


@pytest.fixture(scope="session")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index with a line, something mended, something broken, and a run that cannot be read."""
    from datetime import timedelta  # noqa: PLC0415

    from reclaim.report import archive  # noqa: PLC0415

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
    archive.update(reports)
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
    broken = window.one(".worse").find_element(By.XPATH, "ancestor::details")
    assert broken.find_element(By.TAG_NAME, "summary").text == "1 newly broken"
    broken.find_element(By.TAG_NAME, "summary").click()
    assert "compliant → noncompliant" in broken.text
    assert window.one(".better").text == "1 newly mended"
    assert "1 without a record" in window.one("main").text


def test_a_guest_has_a_line(window: Window, told: Path) -> None:
    window.open(told / "index.html")
    assert len(str(window.one("polyline").get_attribute("points")).split()) == 3
    assert "9.0 GiB at first, 6.0 GiB now" in str(window.one("svg").get_attribute("aria-label"))


def test_no_text_became_markup(window: Window, told: Path, shown: Window) -> None:
    for where in (None, told / "index.html"):
        if where:
            window.open(where)
        assert window.all("img, script, [onerror]") == []
        assert window.complaints() == []
    assert TAG in str(window.ask("return document.body.innerText"))


def test_it_fits_a_phone(window: Window, told: Path) -> None:
    window.open(told / "index.html")
    window.size(360, 740)
    window.settle()
    assert window.ask("return document.documentElement.scrollWidth") <= 360


@pytest.mark.node
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_has_nothing_against_it(window: Window, told: Path, scheme: str) -> None:
    window.open(told / "index.html")
    window.media(scheme)
    window.ask("for (const one of document.querySelectorAll('details')) one.open = true;")
    window.settle()
    assert window.axe() == []
