"""Our own page in a browser: it is read with the keyboard, on a phone, in the dark, on paper, without a script."""

from __future__ import annotations

import io
import time
from itertools import pairwise
from pathlib import Path

import pytest
from pypdf import PdfReader
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.browser.serve import STRICT, serve
from tests.browser.window import Window
from tests.hostile import TAG

#: seconds in which ten thousand rows are to be open
OPEN = 3.0


@pytest.fixture
def shown(window: Window, static: Path) -> Window:
    window.open(static)
    return window


def test_the_sentence_comes_before_any_table(shown: Window) -> None:
    first = shown.ask("return [...document.querySelectorAll('.lead, table')][0].className")
    assert first == "lead"
    text = shown.one(".lead").text
    assert "return freed space" in text or "the checks that ran" in text


def test_every_cell_of_the_grid_leads_to_its_row(shown: Window) -> None:
    cells = shown.all(".grid td a")
    targets = [str(cell.get_attribute("href")).partition("#")[2] for cell in cells]
    rows = shown.ask("return [...document.querySelectorAll('.guest:has(h3) tr[id]')].map(row => row.id)")
    assert len(set(targets)) == len(targets) > 20
    assert set(targets) < set(rows)
    cells[-1].click()
    shown.settle()
    assert shown.is_in_view(targets[-1])
    assert shown.ask("return document.querySelector(':target').id") == targets[-1]


def test_a_cell_says_what_it_is(shown: Window) -> None:
    names = [cell.get_attribute("aria-label") for cell in shown.all(".grid td a")]
    assert "disk-bus of mail sda: noncompliant" in names
    assert all(cell.text for cell in shown.all(".grid td a"))  # not by colour alone


def test_rows_are_filtered_by_verdict(shown: Window) -> None:
    assert "compliant" in " ".join(shown.texts(".rows .badge"))
    for box in shown.all(".filters input[type=checkbox]"):
        if box.get_attribute("id") != "show-noncompliant":
            box.click()
    shown.settle()
    assert set(shown.texts(".rows .badge")) == {"✗ noncompliant"}
    assert "web" not in " ".join(shown.texts(".guest h3"))
    assert "of" in shown.one("#shown").text


def test_a_link_to_a_row_that_is_filtered_away_shows_it(shown: Window) -> None:
    shown.click("#show-compliant")
    link = shown.one(".grid td a.v-compliant")
    target = str(link.get_attribute("href")).partition("#")[2]
    assert not shown.one(f"#{target}").is_displayed()
    link.click()
    shown.settle()
    assert shown.one(f"#{target}").is_displayed()
    assert shown.is_in_view(target)


def test_guests_are_found_by_name_and_put_in_order(shown: Window) -> None:
    shown.one("#find").send_keys("MAI")
    assert [text.split()[0] for text in shown.texts(".guest[data-name] h3")] == ["mail"]
    shown.one("#find").send_keys(Keys.BACKSPACE * 3)
    assert shown.texts(".guest[data-name] h3")[0].startswith("web")
    shown.click("#order option[value=findings]")
    assert shown.texts(".guest[data-name] h3")[0].startswith("mail")
    shown.click("#order option[value=number]")
    assert shown.texts(".guest[data-name] h3")[0].startswith("web")


def test_diffs_are_folded_and_open(shown: Window) -> None:
    details = shown.one(".rows details")
    assert not details.find_element(By.TAG_NAME, "pre").is_displayed()
    details.find_element(By.TAG_NAME, "summary").send_keys(Keys.ENTER)
    shown.settle()
    assert details.find_element(By.TAG_NAME, "ins").text == "+<target bus='scsi'/>"
    assert details.find_element(By.TAG_NAME, "del").text == "-<target bus='virtio'/>"


def test_the_keyboard_goes_straight_to_the_rows(shown: Window) -> None:
    ActionChains(shown.driver).send_keys(Keys.TAB).perform()
    assert shown.driver.switch_to.active_element.text == "To the rows"
    ActionChains(shown.driver).send_keys(Keys.ENTER).perform()
    shown.settle()
    assert shown.is_in_view("rows-title")


def test_everything_that_scrolls_is_reached_with_the_keyboard(shown: Window) -> None:
    shown.size(360, 740)
    stuck = shown.ask(
        "return [...document.querySelectorAll('body *')].filter(one => ['auto', 'scroll'].includes("
        "getComputedStyle(one).overflowX) && one.scrollWidth > one.clientWidth + 1 && one.tabIndex < 0)"
        ".map(one => one.outerHTML)"
    )
    assert stuck == []


def test_headings_do_not_skip_a_level(shown: Window) -> None:
    levels = shown.ask("return [...document.querySelectorAll('h1,h2,h3,h4')].map(one => Number(one.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_it_is_dark_where_dark_is_wanted(shown: Window) -> None:
    light = shown.ask("return getComputedStyle(document.body).backgroundColor")
    shown.media("dark")
    dark = shown.ask("return getComputedStyle(document.body).backgroundColor")
    assert light == "rgb(255, 255, 255)"
    assert max(int(part) for part in dark[4:-1].split(",")) < 60


def test_it_fits_a_phone(shown: Window) -> None:
    shown.size(360, 740)
    shown.settle()
    assert shown.ask("return document.documentElement.scrollWidth") <= 360


def test_it_prints_with_the_diffs_unfolded_and_without_the_controls(shown: Window) -> None:
    text = "\n".join(sheet.extract_text() for sheet in PdfReader(io.BytesIO(shown.printed())).pages)
    flat = "".join(text.split())
    assert "<targetbus='scsi'/>" in flat
    assert "Nextsteps" in flat
    assert "python-mreclaimundo" in flat
    assert "Guestscalled" not in flat


def test_no_text_became_markup(shown: Window) -> None:
    assert TAG in str(shown.ask("return document.body.innerText"))
    assert shown.all("img, [onerror], script[src], iframe, object") == []
    assert shown.complaints() == []


def test_it_is_read_without_scripts_under_a_strict_policy(window: Window, static: Path) -> None:
    with serve(static.parent, STRICT) as root:
        window.load(f"{root}/{static.name}")
        assert len(window.texts(".rows .badge")) > 20
        assert TAG in str(window.ask("return document.body.innerText"))
        assert window.all("img, [onerror]") == []
        assert not window.one("#find").is_displayed()  # what needs a script is not offered
        window.one("#show-compliant").click()  # what needs none works
        assert not any("✓" in text for text in window.texts(".rows .badge"))


def test_nothing_is_fetched(shown: Window) -> None:
    assert shown.ask("return performance.getEntriesByType('resource').map(one => one.name)") == []


@pytest.mark.node
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_axe_has_nothing_against_it(shown: Window, scheme: str, width: int) -> None:
    shown.media(scheme)
    shown.size(width, 900)
    shown.ask("for (const one of document.querySelectorAll('details')) one.open = true;")
    shown.settle()
    assert shown.axe() == []


def test_ten_thousand_rows_open_quickly(window: Window, large: Path) -> None:
    seconds = []
    for _ in range(3):
        window.open("about:blank")
        started = time.monotonic()
        window.open(large)
        seconds.append(time.monotonic() - started)
    assert len(window.all(".rows tbody tr")) >= 10_000
    assert min(seconds) < OPEN, seconds
