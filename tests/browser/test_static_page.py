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
    assert "web" not in shown.texts(".grid tr.one th")
    assert "3 of 4 guests" in shown.one("#shown").text
    shown.click("#all")
    assert "web" in shown.texts(".grid tr.one th")
    assert shown.one("#shown").text == ""


def test_rows_are_filtered_by_requirement(shown: Window) -> None:
    shown.click("#requirement option:nth-child(5)")
    slug = shown.one("#requirement").get_attribute("value")
    assert set(shown.texts(".guest[data-name] .rows td:nth-child(2) a")) == {slug}


def test_rows_are_searched_by_their_text(shown: Window) -> None:
    shown.one("#search").send_keys("WHY LIVE-DEFINITION")
    shown.settle()
    assert shown.texts(".guest[data-name] .rows td:nth-child(2) a") == ["live-definition"]
    assert shown.texts(".grid tr.one th") == ["mail"]
    shown.one("#search").send_keys(" nowhere")
    shown.settle()
    assert shown.texts(".guest[data-name] h3") == []
    assert "0 of 4 guests" in shown.one("#shown").text


def test_a_link_to_a_row_that_is_filtered_away_shows_it(shown: Window) -> None:
    shown.click("#show-compliant")
    link = shown.one(".grid td a.v-compliant")
    target = str(link.get_attribute("href")).partition("#")[2]
    assert not shown.one(f"#{target}").is_displayed()
    shown.ask("arguments[0].click()", link)
    shown.settle()
    assert shown.one(f"#{target}").is_displayed()
    assert shown.is_in_view(target)


def test_a_link_to_a_row_that_is_folded_away_shows_it(shown: Window) -> None:
    shown.ask("for (const one of document.querySelectorAll('.guest details')) one.open = false;")
    link = shown.one(".grid td a.v-noncompliant")
    target = str(link.get_attribute("href")).partition("#")[2]
    link.click()
    shown.settle()
    assert shown.is_in_view(target)


def test_guests_are_found_by_name_and_put_in_order(shown: Window) -> None:
    assert shown.texts(".guest[data-name] h3")[0].startswith("mail"), "the worst is the first"
    shown.one("#find").send_keys("MAI")
    assert [text.split()[0] for text in shown.texts(".guest[data-name] h3")] == ["mail"]
    assert shown.texts(".grid tr.one th") == ["mail"]
    shown.one("#find").send_keys(Keys.BACKSPACE * 3)
    for order, last in (("name", "web"), ("bytes", TAG), ("number", "web"), ("findings", "web")):
        shown.click(f"#order option[value={order}]")
        lines = shown.texts(".grid tr.one th")
        assert len(lines) == 4
        assert [text.startswith(line) for line, text in zip(lines, shown.texts(".guest[data-name] h3"), strict=True)]
        assert order == "bytes" or lines[-1] == last, lines


def test_diffs_are_folded_and_open(shown: Window) -> None:
    details = shown.one(".rows details")
    assert "<target> bus='virtio' → 'scsi'" in details.find_element(By.TAG_NAME, "summary").text
    assert not details.find_element(By.TAG_NAME, "pre").is_displayed()
    details.find_element(By.TAG_NAME, "summary").send_keys(Keys.ENTER)
    shown.settle()
    assert details.find_element(By.TAG_NAME, "ins").text == "+<target bus='scsi'/>"
    assert details.find_element(By.TAG_NAME, "del").text == "-<target bus='virtio'/>"


@pytest.mark.parametrize(
    ("tabs", "text", "target"),
    [
        (1, "To the next steps", "next-title"),
        (2, "To the findings", "findings-title"),
        (4, "To the rows", "rows-title"),
    ],
)
def test_the_keyboard_goes_straight_to_a_part(shown: Window, tabs: int, text: str, target: str) -> None:
    ActionChains(shown.driver).send_keys(Keys.TAB * tabs).perform()
    assert shown.driver.switch_to.active_element.text == text
    ActionChains(shown.driver).send_keys(Keys.ENTER).perform()
    shown.settle()
    assert shown.is_in_view(target)


def test_everything_that_scrolls_is_reached_with_the_keyboard(shown: Window) -> None:
    shown.size(360, 740)
    stuck = shown.ask(
        "return [...document.querySelectorAll('body *')].filter(one => ['auto', 'scroll'].includes("
        "getComputedStyle(one).overflowX) && one.scrollWidth > one.clientWidth + 1 && one.tabIndex < 0)"
        ".map(one => one.outerHTML)"
    )
    assert stuck == []


# The first screen -----------------------------------------------------------------------------

#: elements that a reader sees before scrolling
_ON_FIRST = (
    ".lead",
    ".cards > div:nth-child(1)",
    ".cards > div:nth-child(2)",
    ".cards > div:nth-child(4)",
    "#next .command .copy",
    "#undo .command .copy",
)


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_the_first_screen_has_the_result_the_next_step_and_the_way_back(
    window: Window, mended: Path, width: int, height: int
) -> None:
    window.open(mended)
    window.size(width, height)
    window.settle()
    bottoms = window.ask(
        "return arguments[0].map(one => document.querySelector(one).getBoundingClientRect().bottom)", _ON_FIRST
    )
    assert all(0 < bottom <= height for bottom in bottoms), dict(zip(_ON_FIRST, bottoms, strict=True))


@pytest.mark.parametrize("name", ["static", "fleet", "mended"])
@pytest.mark.parametrize("width", [360, 1280, 1920])
def test_nothing_is_cut_off(window: Window, request: pytest.FixtureRequest, name: str, width: int) -> None:
    """Nothing is wider than the window, no text is wider than its box, and no badge is wider than its cell."""
    window.open(request.getfixturevalue(name))
    window.size(width, 900)
    window.ask("for (const one of document.querySelectorAll('details')) one.open = true;")
    window.ask("for (const one of document.querySelectorAll('.later')) one.style.contentVisibility = 'visible';")
    window.settle()
    assert window.ask("return document.documentElement.scrollWidth") <= width
    assert window.wide() == []


@pytest.mark.parametrize("width", [360, 1280])
def test_verdicts_are_not_broken_in_the_middle(window: Window, static: Path, width: int) -> None:
    window.open(static)
    window.size(width, 900)
    window.settle()
    broken = window.ask(
        "return [...document.querySelectorAll('.badge, .rows td:nth-child(2) a')]"
        ".filter(one => one.getClientRects().length > 1).map(one => one.textContent)"
    )
    assert broken == []


def test_a_command_is_copied_as_it_is(window: Window, mended: Path) -> None:
    window.open(mended)
    window.driver.execute_cdp_cmd(
        "Browser.grantPermissions", {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    )
    for place in ("next", "undo"):
        command = window.one(f"#{place} .command code").text
        window.click(f"#{place} .command .copy")
        copied = window.driver.execute_async_script("navigator.clipboard.readText().then(arguments[0], arguments[0])")
        assert copied == command
        assert window.one(f"#{place} .command .copy").text == "Copied"


def test_a_command_is_copied_without_the_clipboards_permission(window: Window, mended: Path) -> None:
    """A page that is served without TLS has no navigator.clipboard."""
    window.open(mended)
    window.ask("Object.defineProperty(navigator, 'clipboard', {value: undefined});")
    window.ask("document.execCommand = (name) => { window.taken = [name, String(getSelection())]; return true; };")
    window.click("#undo .command .copy")
    assert window.ask("return window.taken") == ["copy", window.one("#undo .command code").text]


# Reading --------------------------------------------------------------------------------------


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


def _printed(window: Window) -> tuple[int, str]:
    """The sheets of paper, and their text without blanks."""
    sheets = PdfReader(io.BytesIO(window.printed())).pages
    return len(sheets), "".join("".join(sheet.extract_text().split()) for sheet in sheets)


def test_it_prints_with_the_diffs_unfolded_and_without_the_controls(shown: Window) -> None:
    _, text = _printed(shown)
    assert "<targetbus='scsi'/>" in text
    assert "Nextsteps" in text
    assert "reclaimundo" in text
    assert "Showguests" not in text
    assert "Copy" not in text


def test_sixty_guests_are_a_few_sheets_and_nothing_of_the_table_is_lost(window: Window, fleet: Path) -> None:
    window.open(fleet)
    sheets, text = _printed(window)
    assert sheets <= 12
    for words in ("Freed", "Canbefreed", "/srv/images", "guest-59.example.org", "noncompliant", "arenotprinted"):
        assert words in text
    for place in ("grid", "levels", "glasses", "bytes"):
        assert _is_inside_of_paper(window, f".{place}"), place


def _is_inside_of_paper(window: Window, selector: str) -> bool:
    """True if the matches are no wider than an A4 sheet less its margins, at 96 units an inch."""
    window.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    window.size(702, 1000)
    window.settle()
    try:
        widest = window.ask(
            "return Math.max(...[...document.querySelectorAll(arguments[0])].map(one => one.scrollWidth))", selector
        )
    finally:
        window.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
        window.size(1280, 900)
    return bool(0 <= widest <= 702)


def test_the_legend_is_printed_and_not_by_colour_alone(shown: Window) -> None:
    shown.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        adjust = "return getComputedStyle(document.querySelector('.key .badge'), '::before').printColorAdjust"
        assert shown.ask(adjust) == "exact"
        assert "gradient" in shown.ask(
            "return getComputedStyle(document.querySelector('.k-spare'), '::before').backgroundImage"
        )
        assert "hatch" in shown.ask("return getComputedStyle(document.querySelector('.b-spare')).fill")
    finally:
        shown.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


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
        assert window.all(".copy") == []
        assert "reclaim undo" in window.one("#undo .command").text
        window.one(".grid td a.v-noncompliant").click()
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
