"""rows.html as pytest-html carries it, hardened, in a browser; and the page that --html names."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from pypdf import PdfReader
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.browser.window import Window
from tests.hostile import TAG

SHOWN = "#results-table tbody.results-table-row"


@pytest.fixture
def shown(window: Window, carried: Path) -> Window:
    window.open(carried)
    window.ask("sessionStorage.clear()")
    window.open(carried)
    return window


def test_pytest_html_has_the_rows(shown: Window) -> None:
    assert "pytest-html" in shown.one("main > p").text
    assert len(shown.all(SHOWN)) > 20


def test_the_sentence_comes_before_any_table(shown: Window) -> None:
    first = shown.ask("return [...document.querySelectorAll('.lead, table')].map(one => one.className || one.id)")
    assert first[0] == "lead"
    assert first[-2:] == ["results-table", "environment"]


def test_it_leads_back_to_our_page(shown: Window) -> None:
    shown.click("a[href='report.html']")
    assert shown.all(".grid td a")
    shown.click(".contents a[href='rows.html']")
    assert "pytest-html" in shown.one("main > p").text


@pytest.fixture
def mine(window: Window, named: Path) -> Window:
    """The page that the user names."""
    window.open(named)
    window.ask("sessionStorage.clear()")
    window.open(named)
    return window


def test_the_page_that_the_user_names_has_its_style_and_what_our_page_has_above_its_rows(mine: Window) -> None:
    assert mine.ask("return getComputedStyle(document.querySelector('.cards')).display") == "grid"
    assert mine.complaints() == []
    assert mine.all("#next .copy")
    mine.size(360, 740)
    mine.settle()
    assert mine.ask("return document.documentElement.scrollWidth") <= 360


@pytest.mark.node
def test_axe_has_nothing_against_the_page_that_the_user_names(mine: Window) -> None:
    assert mine.axe() == []


def test_every_cell_of_the_grid_leads_to_its_row(mine: Window) -> None:
    shown = mine
    cells = shown.all(".grid td a")
    targets = [str(cell.get_attribute("href")).partition("#")[2] for cell in cells]
    rows = shown.ask(f"return [...document.querySelectorAll('{SHOWN}')].map(row => row.id)")
    assert set(targets) == set(rows)
    assert len(set(rows)) == len(rows)
    cells[-1].click()
    shown.settle()
    assert shown.is_in_view(targets[-1])
    assert shown.one("tbody.aimed").get_attribute("id") == targets[-1]
    assert shown.one(f"#{targets[-1]} .extras-row").is_displayed()


def test_a_link_to_a_row_that_is_filtered_away_shows_it(mine: Window) -> None:
    shown = mine
    shown.click("input[data-test-result=failed]")
    link = shown.one(".grid td a.v-noncompliant")
    target = str(link.get_attribute("href")).partition("#")[2]
    assert shown.all(f"#{target}") == []
    link.click()
    shown.settle()
    assert shown.is_in_view(target)


def test_rows_are_filtered_by_outcome(shown: Window) -> None:
    shown.click("input[data-test-result=passed]")
    assert "compliant" not in shown.texts("button.fold")
    assert "noncompliant" in shown.texts("button.fold")


def test_rows_are_sorted_with_the_keyboard(shown: Window) -> None:
    shown.one("th[data-column-type=guest] button").send_keys(Keys.ENTER)
    shown.settle()
    names = shown.texts(f"{SHOWN} .col-guest")
    assert names == sorted(names)
    assert len(set(names)) == 3
    assert shown.one("th[data-column-type=guest]").get_attribute("aria-sort") == "ascending"
    assert shown.driver.switch_to.active_element.text.startswith("Guest")
    shown.driver.switch_to.active_element.send_keys(Keys.ENTER)
    shown.settle()
    assert shown.texts(f"{SHOWN} .col-guest") == sorted(names, reverse=True)


def test_a_row_is_unfolded_with_the_keyboard_and_so_is_its_diff(shown: Window) -> None:
    shown.click("#hide_all_details")
    row = "#" + str(shown.ask(f"return document.querySelector('{SHOWN}:has(.log ins)').id"))
    fold = shown.one(f"{row} button.fold")
    assert fold.get_attribute("aria-expanded") == "false"
    assert not shown.one(f"{row} .extras-row").is_displayed()
    fold.send_keys(Keys.ENTER)
    shown.settle()
    assert shown.one(f"{row} button.fold").get_attribute("aria-expanded") == "true"
    assert shown.driver.switch_to.active_element == shown.one(f"{row} button.fold")
    details = shown.one(f"{row} details")
    assert not details.find_element(By.TAG_NAME, "ins").is_displayed()
    details.find_element(By.TAG_NAME, "summary").send_keys(Keys.ENTER)
    shown.settle()
    assert details.find_element(By.TAG_NAME, "ins").text.startswith("+")
    assert "Why:" in shown.one(f"{row} .log").text
    assert str(shown.one(f"{row} .log a").get_attribute("href")).startswith("https://")


def test_no_text_became_markup(shown: Window) -> None:
    shown.click("#show_all_details")
    text = str(shown.ask("return document.body.innerText"))
    assert TAG in text
    assert TAG in shown.one("#environment").text  # --metadata
    assert shown.all("img[src='x'], [onerror]") == []
    assert [one for one in shown.complaints() if "Security" in one or "alert" in one] == []


def test_what_would_become_a_script_does_not_run(shown: Window) -> None:
    shown.ask("document.body.insertAdjacentHTML('beforeend', \"<img src=data:, onerror='window.ran = true'>\")")
    shown.ask(
        "const one = document.createElement('script'); one.text = 'window.ran = true'; document.body.append(one);"
    )
    shown.settle()
    assert shown.ask("return window.ran") is None
    assert any("Content Security Policy" in one for one in shown.complaints())


def test_nothing_is_fetched(shown: Window) -> None:
    assert shown.ask("return performance.getEntriesByType('resource').map(one => one.name)") == []


def test_it_is_dark_where_dark_is_wanted(shown: Window) -> None:
    shown.media("dark")
    dark = shown.ask("return getComputedStyle(document.body).backgroundColor")
    assert max(int(part) for part in dark[4:-1].split(",")) < 60


def test_it_fits_a_phone(shown: Window) -> None:
    shown.size(360, 740)
    shown.settle()
    assert shown.ask("return document.documentElement.scrollWidth") <= 360


def test_it_prints_with_the_diffs_unfolded(shown: Window) -> None:
    text = "".join(sheet.extract_text() for sheet in PdfReader(io.BytesIO(shown.printed())).pages)
    assert re.search(r"\+<driver[^>]*discard=\W?unmap", "".join(text.split()))


@pytest.mark.node
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_axe_has_nothing_against_it(shown: Window, scheme: str, width: int) -> None:
    shown.media(scheme)
    shown.size(width, 900)
    shown.click("#show_all_details")
    shown.ask("for (const one of document.querySelectorAll('details')) one.open = true;")
    shown.settle()
    assert shown.axe() == []
