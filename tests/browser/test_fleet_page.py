"""The page of `reclaim merge --page` in a browser."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from reclaim.database import schema, shown
from reclaim.database.merge import merge
from reclaim.database.questions import Given
from reclaim.report import page
from reclaim.report.summary import ROAD
from tests import records
from tests.browser.test_html import complaints
from tests.browser.window import Window
from tests.hostile import ESCAPES, TAG
from tests.records import EPOCH, GIB

NOW = EPOCH + timedelta(weeks=3)
#: bytes of the page of a thousand hypervisors
_MOST = 2_000_000


def database(folder: Path, hypervisors: int, weeks: int, *, names: str = "kvm{}.example.org") -> Path:
    """Make the database of a fleet whose guests get better and worse, and whose reports are there."""
    for number in range(hypervisors):
        for week in range(weeks):
            rows, disks = [], []
            for guest in ("web", "mail"):
                for place, slug in enumerate(ROAD):
                    verdict = "noncompliant" if (number + week + place) % 5 == 0 else "compliant"
                    rows.append(records.row(slug, verdict, guest, "sda" if slug == "disk-bus" else None))
                held = (5 + (number + week) % 4) * GIB
                disks.append(records.storage(guest, allocated_after=held, allocated_before=held))
            started = EPOCH + timedelta(weeks=week, seconds=number)
            made = records.document(rows, disks, hypervisor=names.format(number), started=started)
            home = records.archive(folder / "reports", made)
            (home / page.NAME).write_text(f"<title>{names.format(number)}</title>", encoding="utf-8")
    merge([folder / "reports"], folder / "fleet.sqlite", NOW, print)
    return folder / "fleet.sqlite"


def written(base: Path, path: Path, expected: list[str] | None = None) -> Path:
    path.parent.mkdir(exist_ok=True)
    with schema.reading(base, print) as connection:
        shown.write(connection, path, Given(NOW, expected))
    return path


@pytest.fixture(scope="session")
def fleet_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve hypervisors, three weeks of them, and two that never sent anything."""
    folder = tmp_path_factory.mktemp("fleet-page")
    expected = [*(f"kvm{number}" for number in range(12)), "kvm-new", "kvm-newer"]
    return written(database(folder, 12, 3), folder / "pages/fleet.html", expected)


@pytest.fixture(scope="session")
def hostile_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hostile text in each place that takes any."""
    folder = tmp_path_factory.mktemp("hostile-page")
    until = (NOW + timedelta(days=3)).date().isoformat()
    for week, verdict in enumerate(("compliant", "noncompliant")):
        rows = [
            records.row("disk-bus", verdict, TAG, TAG, reason=TAG),
            records.row("disk-bus", verdict, ESCAPES, "sda", reason=ESCAPES),
            records.row("fstab-uuid", "waived", TAG, waiver={"reason": TAG, "until": until}),
            records.row("guest-access", "error", TAG, reason=TAG),
        ]
        started = EPOCH + timedelta(weeks=week)
        made = records.document(rows, [records.storage(TAG, TAG)], hypervisor="&lt;b&gt;'\"", started=started)
        made["outcome"] |= {"went_wrong": True, "left_off": 1}
        home = folder / "reports" / "<b> '\"&" / made["run"]["id"]
        home.mkdir(parents=True)
        (home / "results.json").write_text(json.dumps(made), encoding="utf-8")
        (home / page.NAME).touch()
    merge([folder / "reports"], folder / "fleet.sqlite", NOW, print)
    return written(folder / "fleet.sqlite", folder / "fleet.html", ["kvm1"])


def test_who_was_not_heard_from_comes_first(window: Window, fleet_page: Path) -> None:
    window.open(fleet_page)
    first = window.one("main section")
    assert first.get_attribute("id") == "silent"
    assert first.rect["y"] < 300
    assert window.texts("#silent tbody th") == ["kvm-new", "kvm-newer"]
    assert "2 never sent a run" in first.text
    assert "of 24 guests on 12 hypervisors do not return freed space" in window.one(".lead").text


def test_a_hypervisor_leads_to_its_own_report(window: Window, fleet_page: Path) -> None:
    window.open(fleet_page)
    links = window.all("#hosts th a")
    assert len(links) == 12
    name = links[0].text
    links[0].click()
    assert window.driver.title == name


def test_bytes_and_the_pass_rate_have_a_line_over_time(window: Window, fleet_page: Path) -> None:
    window.open(fleet_page)
    labels = [str(line.get_attribute("aria-label")) for line in window.all(".cards svg")]
    assert [label.partition(":")[0] for label in labels] == [
        "guests that do not return space",
        "bytes that can be freed",
        "pass rate",
        "hypervisors heard from",
    ]
    assert all(label.endswith("in 3 weeks") for label in labels)
    assert len(window.all("#rates svg")) == len(ROAD)


def test_a_report_that_is_not_there_has_no_link(tmp_path: Path) -> None:
    base = database(tmp_path, 2, 1)
    next((tmp_path / "reports").glob("kvm0*/*/report.html")).unlink()
    text = written(base, tmp_path / "fleet.html").read_text(encoding="utf-8")
    assert text.count("report.html") == 1
    assert "give a list with <code>--inventory</code>" in text


def test_an_empty_fleet_has_a_page(tmp_path: Path) -> None:
    made = records.document([])
    records.archive(tmp_path / "reports", made)
    merge([tmp_path / "reports"], tmp_path / "f", NOW, print)
    assert "0 of 0 guests on 1 hypervisor" in written(tmp_path / "f", tmp_path / "p").read_text(encoding="utf-8")


def test_samples_are_named(tmp_path: Path) -> None:
    made = records.document([records.row("disk-bus", "compliant", "web", "sda")])
    made["hypervisor"]["uri"] = "test:///default"
    records.archive(tmp_path / "reports", made)
    merge([tmp_path / "reports"], tmp_path / "f", NOW, print)
    assert "no real guests</strong> on 1 of 1 hypervisor." in written(tmp_path / "f", tmp_path / "p").read_text("utf-8")


def test_no_text_became_markup_on_the_fleets_page(window: Window, hostile_page: Path) -> None:
    window.open(hostile_page)
    window.ask("for (const one of document.querySelectorAll('details')) one.open = true;")
    assert window.all("img, [onerror], script, b") == []
    assert window.complaints() == []
    text = str(window.ask("return document.body.innerText"))
    assert text.count(TAG) >= 5
    link = window.one("#hosts th a")
    assert link.text == "<b> '\"&"
    assert str(link.get_attribute("href")).endswith("/report.html")
    link.click()
    assert window.complaints() == []


@pytest.mark.parametrize("width", [360, 1280, 1920])
@pytest.mark.parametrize("name", ["fleet_page", "hostile_page"])
def test_nothing_is_cut_off_the_fleets_page(
    window: Window, request: pytest.FixtureRequest, name: str, width: int
) -> None:
    window.open(request.getfixturevalue(name))
    window.size(width, 900)
    window.ask("for (const one of document.querySelectorAll('details')) one.open = true;")
    window.ask("for (const one of document.querySelectorAll('.later')) one.style.contentVisibility = 'visible';")
    window.settle()
    assert window.ask("return document.documentElement.scrollWidth") <= width
    assert window.wide() == []


@pytest.mark.node
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["fleet_page", "hostile_page"])
def test_axe_has_nothing_against_the_fleets_page(
    window: Window, request: pytest.FixtureRequest, name: str, scheme: str
) -> None:
    window.open(request.getfixturevalue(name))
    window.media(scheme)
    window.ask("for (const one of document.querySelectorAll('details')) one.open = true;")
    window.settle()
    assert window.axe() == []


@pytest.mark.node
@pytest.mark.parametrize("name", ["fleet_page", "hostile_page"])
def test_the_fleets_page_is_valid(request: pytest.FixtureRequest, name: str) -> None:
    assert complaints(request.getfixturevalue(name)) == []


@pytest.mark.slow
def test_the_page_of_a_thousand_hypervisors_is_small(window: Window, tmp_path: Path) -> None:
    base = database(tmp_path, 1000, 2, names="kvm{:04}.rack-07.datacenter-3.example.org")
    path = written(base, tmp_path / "fleet.html", [f"new{number}" for number in range(1000)])
    assert path.stat().st_size <= _MOST
    window.open(path)
    assert len(window.all("#hosts tbody tr")) == 1000
    assert window.one("#hosts-title").rect["y"] < 1800, "a long list of silent ones is folded"
