"""The fleet as the archive knows it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from lxml import html as lxml_html

from reclaim.report import archive, page
from reclaim.report.archived import IndexState
from reclaim.report.fleet import Fleet, sites
from reclaim.report.summary import ROAD
from tests import records
from tests.hostile import TAG
from tests.records import EPOCH, GIB, row, storage


def judged(guest: str, verdict: str = "compliant") -> list[dict[str, Any]]:
    """The rows that decide whether *guest* returns freed space."""
    return [row(slug, verdict if slug == "disk-bus" else "compliant", guest, "sda") for slug in ROAD]


def run(reports: Path, day: int, *rows: dict[str, Any], **more: Any) -> None:
    records.archive(reports, records.document(rows, started=EPOCH + timedelta(days=day), **more))


def seen(reports: Path) -> Fleet:
    archive.update(reports)
    runs = IndexState.model_validate_json((reports / ".index.json").read_bytes()).runs
    ordered = sorted(runs.items(), key=lambda pair: (pair[1].started, pair[0]), reverse=True)
    return Fleet(sites(ordered))


def page_of(reports: Path) -> Any:
    archive.update(reports)
    return lxml_html.document_fromstring((reports / "index.html").read_text(encoding="utf-8"))


def test_guests_are_counted_by_the_newest_run_of_each_hypervisor(tmp_path: Path) -> None:
    run(tmp_path, 0, *judged("a", "noncompliant"), *judged("b", "noncompliant"), hypervisor="kvm1")
    run(tmp_path, 1, *judged("a"), *judged("b", "noncompliant"), *judged("c", "not-assessable"), hypervisor="kvm1")
    run(tmp_path, 0, *judged("d"), hypervisor="kvm2")
    found = seen(tmp_path)
    assert (found.bad, found.good, found.others, found.guests) == (1, 2, 1, 4)
    assert found.sentence == (
        "1 of 4 guests on 2 hypervisors does not return freed space; 2 do; "
        "1 was only partly checked, or waived in part."
    )
    assert found.state == "bad"
    assert [site.name for site in found.sites] == ["kvm1", "kvm2"], "the worst is the first"


def test_a_run_of_some_guests_leaves_the_others_as_they_were(tmp_path: Path) -> None:
    run(tmp_path, 0, *judged("a", "noncompliant"), *judged("b", "noncompliant"))
    run(tmp_path, 1, *judged("a"), arguments=["checks/", "--guests", "a", "--fix"], mode="fix")
    found = seen(tmp_path)
    assert (found.bad, found.good) == (1, 1)


def test_a_run_of_some_requirements_decides_nothing(tmp_path: Path) -> None:
    run(tmp_path, 0, *judged("a", "noncompliant"))
    run(tmp_path, 1, row("machine-type", "compliant", "a"), arguments=["checks/", "-k", "machine_type"])
    found = seen(tmp_path)
    assert (found.bad, found.good) == (1, 0)
    assert found.is_whole


def test_if_no_run_judged_enough_the_sentence_names_that(tmp_path: Path) -> None:
    run(tmp_path, 0, row("machine-type", "compliant", "a"))
    found = seen(tmp_path)
    assert not found.is_whole
    assert found.sentence == "1 of 1 guest on 1 hypervisor passes the checks that ran."


@pytest.mark.parametrize(
    ("verdicts", "sentence"),
    [
        (("compliant",), "1 of 1 guest on 1 hypervisor returns freed space."),
        (("compliant", "compliant"), "2 of 2 guests on 1 hypervisor return freed space."),
        (("noncompliant", "noncompliant"), "2 of 2 guests on 1 hypervisor do not return freed space; 0 do."),
        (("noncompliant", "compliant"), "1 of 2 guests on 1 hypervisor does not return freed space; 1 does."),
        (
            ("waived", "error"),
            "0 of 2 guests on 1 hypervisor return freed space; 2 were only partly checked, or waived in part.",
        ),
    ],
)
def test_the_sentence_is_about_one_guest_or_many(tmp_path: Path, verdicts: tuple[str, ...], sentence: str) -> None:
    run(tmp_path, 0, *[each for number, verdict in enumerate(verdicts) for each in judged(f"g{number}", verdict)])
    assert seen(tmp_path).sentence == sentence


def test_a_guest_that_is_gone_is_not_counted(tmp_path: Path) -> None:
    run(tmp_path, 0, *judged("a"), *judged("gone", "noncompliant"))
    run(tmp_path, 1, *judged("a"))
    found = seen(tmp_path)
    assert (found.bad, found.good, found.state) == (0, 1, "good")


def test_samples_are_not_counted_beside_real_guests(tmp_path: Path) -> None:
    sample = records.document(judged("s", "noncompliant"), hypervisor="test-driver")
    sample["hypervisor"]["uri"] = "test:///x.xml"
    records.archive(tmp_path, sample)
    assert seen(tmp_path).bad == 1
    run(tmp_path, 0, *judged("a"), hypervisor="kvm1")
    found = seen(tmp_path)
    assert (found.bad, found.good, len(found.sites)) == (0, 1, 2)
    assert "not counted" in page_of(tmp_path).text_content()


def test_bytes_of_all_runs_are_added_and_those_of_the_newest_can_be_freed(tmp_path: Path) -> None:
    for day, spare in enumerate((9, 3)):
        disk = storage("a", allocated_before=6 * GIB, allocated_after=5 * GIB, reclaimable_after=spare * GIB)
        run(tmp_path, day, *judged("a"), disks=[disk])
    found = seen(tmp_path)
    assert (found.freed, found.can_be_freed) == (2 * GIB, 3 * GIB)
    assert "3.0 GiB can be freed now" in found.sentence
    run(tmp_path, 2, *judged("b"), hypervisor="kvm2")
    assert seen(tmp_path).can_be_freed == 3 * GIB


def test_nothing_known_is_not_nothing(tmp_path: Path) -> None:
    run(tmp_path, 0, *judged("a"))
    assert seen(tmp_path).can_be_freed is None
    empty = Fleet([])
    assert (empty.sentence, empty.state, empty.lines) == ("No guest was judged.", "unknown", {})


def test_the_fleet_is_drawn_over_time(tmp_path: Path) -> None:
    run(tmp_path, 0, *judged("a", "noncompliant"), *judged("b", "noncompliant"), hypervisor="kvm1")
    run(tmp_path, 1, *judged("c", "noncompliant"), hypervisor="kvm2")
    run(tmp_path, 2, *judged("a"), *judged("b", "noncompliant"), hypervisor="kvm1")
    run(tmp_path, 3, *judged("a"), hypervisor="kvm1", arguments=["--guests", "a"])
    line = seen(tmp_path).lines["bad"]
    assert (line.first, line.high, line.last, line.count) == (2, 3, 2, 3)
    labels = page_of(tmp_path).xpath("//dl[@class='cards']//svg/@aria-label")
    assert "guests that do not return space: 2 at first, 2 now, in 3 runs" in labels


def test_the_hosts_filesystem_is_drawn_over_time(tmp_path: Path) -> None:
    for day, used in enumerate((90, 80, 40)):
        spaces = [
            records.filesystem("/srv", used_after=used, free_after=100 - used),
            records.filesystem("/full", used_after=95, free_after=5),
            records.filesystem(None, used_after=None, free_after=None),
        ]
        run(tmp_path, day, *judged("a"), filesystems=spaces)
    [site] = seen(tmp_path).sites
    assert [(mount.mount, mount.line.first, mount.line.last) for mount in site.mounts] == [
        ("/full", 95, 95),
        ("/srv", 90, 40),
    ]
    labels = [
        label.replace("\u00a0", " ") for label in page_of(tmp_path).xpath("//ul[@class='mounts']//svg/@aria-label")
    ]
    assert "/srv: 90 % full at first, 40 % now, in 3 runs" in labels


def test_the_page_names_the_runs_and_guests_beyond_those_that_it_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "_LISTED", 3)
    monkeypatch.setattr(archive, "MOST_GUESTS", 2)
    for day in range(5):
        rows = [each for guest in "abc" for each in judged(guest)]
        run(tmp_path, day, *rows, disks=[storage(guest) for guest in "abc"])
    document = page_of(tmp_path)
    text = document.text_content()
    assert len(document.xpath("//table[@class='runs']/tbody/tr")) == 3
    assert "2 older runs are in their folders" in text
    assert "5 runs of 1 hypervisor" in text
    assert len(document.xpath("//details[@class='site']//table/tbody/tr")) == 2
    assert "1 more guests have no line here" in text


def test_many_hypervisors_are_folded_and_all_can_be_chosen(tmp_path: Path) -> None:
    for number in range(8):
        run(tmp_path, 0, *judged("a", "compliant" if number else "noncompliant"), hypervisor=f"kvm{number}")
    document = page_of(tmp_path)
    names = [cell.text_content().strip() for cell in document.xpath("//table[@class='hosts']/tbody/tr/th")]
    assert len(names) == 8
    assert names[0] == "kvm0"
    assert len(document.xpath("//details[contains(@class, 'hosts-more')]//tbody/tr")) == 8 - archive._SITES
    assert len(document.xpath("//select[@id='host']/option")) == 9


@pytest.mark.parametrize("text", [TAG, '"x', "\x1b[31m", "'>x"])
def test_no_text_of_a_run_becomes_markup(tmp_path: Path, text: str) -> None:
    run(tmp_path, 0, *judged(text), disks=[storage(text)], filesystems=[records.filesystem(text)])
    run(tmp_path, 1, *judged(text, "noncompliant"), disks=[storage(text)], filesystems=[records.filesystem(text)])
    document = page_of(tmp_path)
    assert not document.xpath("//img | //*[@onerror] | //@style")
    [script] = document.xpath("//script/text()")
    [policy] = document.xpath("//meta[@http-equiv]/@content")
    assert page.content_security_policy([], [script]).split("script-src")[1] in policy
    assert "\x1b" not in (tmp_path / "index.html").read_text(encoding="utf-8")
