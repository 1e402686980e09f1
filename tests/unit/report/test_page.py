"""The static page: what its parts hold, and that no text of a guest becomes markup."""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from lxml import html as lxml_html

from reclaim.base.verdict import Verdict
from reclaim.record.record import Storage
from reclaim.report import page
from reclaim.report.page import View, bars, chunks, diff_lines, prose
from reclaim.requirement import catalogue
from tests import records
from tests.hostile import ESCAPES, TAG
from tests.records import DIFF, GIB, change, row, storage, whole

if TYPE_CHECKING:
    from reclaim.record.record import Record

HOME = Path("reports/kvm1/20260101T000000Z-audit")


def _view(*found: Record, **more: Any) -> View:
    return View(found, [HOME] * len(found), **more)


def _document(*found: Record, **more: Any) -> Any:
    return lxml_html.fromstring("".join(page.page(found, [HOME] * len(found), **more)))


# Tables of verdicts ---------------------------------------------------------------------------


def test_every_verdict_has_a_glyph_of_its_own_and_a_meaning() -> None:
    assert set(page.GLYPHS) == set(page.MEANINGS) == set(Verdict)
    assert len(set(page.GLYPHS.values())) == len(Verdict)


# The view -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hypervisors", "modes", "title"),
    [
        (("kvm1",), ("audit",), "reclaim audit: kvm1"),
        (("kvm1", "kvm1"), ("audit", "fix"), "reclaim audit/fix: kvm1"),
        (("kvm1", "kvm2"), ("plan", "plan"), "reclaim plan: 2 hypervisors"),
    ],
)
def test_the_title_names_modes_and_hypervisors(
    hypervisors: tuple[str, ...], modes: tuple[str, ...], title: str
) -> None:
    found = [records.record([], hypervisor=name, mode=mode) for name, mode in zip(hypervisors, modes, strict=True)]
    assert _view(*found).title == title


def test_guests_have_their_rows_and_the_bytes_that_can_come_back() -> None:
    rows = [row("disk-bus", "noncompliant", "a", "sda"), row("disc-max", "error", "a"), row("disk-bus", "fixed", "b")]
    disks = [storage("a", "sda", reclaimable_after=3 * GIB), storage("a", "sdb", reclaimable_after=GIB)]
    first, second = _view(records.record([*rows, row("backup-job", "error", None)], disks)).guests
    assert (first.name, first.findings, first.reclaimable) == ("a", 2, 4 * GIB)
    assert (second.name, second.findings, second.reclaimable) == ("b", 0, 0)
    assert first.standing != second.standing
    assert first.anchor != second.anchor


def test_a_cell_has_a_row_for_each_disk() -> None:
    rows = [row("disk-bus", "fixed", "a", disk) for disk in ("sda", "sdb")]
    [guest] = _view(records.record([*rows, row("disc-max", "error", "a")])).guests
    cells = guest.cells(["fstab-uuid", "disk-bus", "disc-max"])
    assert [[each.disk for each in cell] for cell in cells] == [[], ["sda", "sdb"], [None]]


def test_guests_of_one_name_on_two_hypervisors_are_two() -> None:
    rows = [row("disk-bus", "fixed", "a", "sda")]
    first, second = _view(records.record(rows), records.record(rows, hypervisor="kvm2")).guests
    assert first.anchor != second.anchor


def test_rows_of_no_guest_are_apart() -> None:
    rows = [row("backup-job", "error", None), row("disk-bus", "fixed", "a")]
    view = _view(records.record(rows), records.record(rows[1:]))
    [(record, others)] = view.others
    assert record is view.records[0]
    assert [each.requirement for each in others] == ["backup-job"]


def test_requirements_are_in_the_order_of_mending_and_unknown_ones_last() -> None:
    rows = [row(slug, "fixed", "a") for slug in ("z-old", "disk-discard", "fstab-uuid", "a-old")]
    rows.append(row("backup-job", "error", None))
    asked = _view(records.record(rows)).asked
    known = [slug for slug in catalogue() if slug in ("disk-discard", "fstab-uuid", "backup-job")]
    assert [each.slug for each in asked] == [*known, "a-old", "z-old"]
    assert [each.declared is None for each in asked] == [False, False, False, True, True]
    assert asked[0].title == catalogue()[known[0]].title
    assert _view(records.record(rows)).columns == [*[slug for slug in known if slug != "backup-job"], "a-old", "z-old"]


@pytest.mark.parametrize(
    ("applied", "undone", "is_offered"), [(True, False, True), (False, False, False), (True, True, False)]
)
def test_undo_is_offered_while_a_change_stands(*, applied: bool, undone: bool, is_offered: bool) -> None:
    changes = [change(applied=applied, undone=undone)]
    found = records.record([row("disk-bus", "fixed", "a", changes=changes)], mode="fix")
    assert bool(_view(found).undo) is is_offered
    assert View([found], [None]).undo == [], "there is nowhere to undo it from"
    if is_offered:
        assert str(HOME) in _view(found).undo[0]


def test_changes_disks_and_tasks_of_all_records_are_listed() -> None:
    rows = [row("disk-bus", "noncompliant", "a", "sda", changes=[change(), change()])]
    found = [records.record(rows, [storage("a")]), records.record(rows, [storage("b")], hypervisor="kvm2")]
    view = _view(*found)
    assert [record.hypervisor.name for record, _, _ in view.changes] == ["kvm1", "kvm1", "kvm2", "kvm2"]
    assert [disk.guest for _, disk in view.disks] == ["a", "b"]
    assert {record.hypervisor.name for record, _ in view.tasks} == {"kvm1", "kvm2"}


# Filters --------------------------------------------------------------------------------------


def test_a_diff_has_its_elements() -> None:
    lines = list(diff_lines(f"{DIFF}\n-\x1b"))
    assert lines[0] == ("", "--- one (before)")
    assert lines[1] == ("", "+++ one (after)")
    assert ("del", "-<target bus='virtio'/>") in lines
    assert ("ins", "+<target bus='scsi'/>") in lines
    assert lines[-1] == ("del", "-\\x1b")
    assert list(diff_lines("")) == [("", "")]


def test_prose_is_escaped_before_its_code_is_marked() -> None:
    assert prose(f"a `b <c>` {TAG}") == f"a <code>b &lt;c&gt;</code> {prose(TAG)}"
    assert "<code>" not in prose("one ` alone")
    assert TAG not in prose(TAG)


def test_a_moment_is_in_utc() -> None:
    assert page.moment(datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)) == "2026-01-02 03:04:05 UTC"


@pytest.mark.parametrize(("count", "lengths"), [(0, []), (1, [1]), (4, [2, 2]), (5, [2, 2, 1])])
def test_chunks(count: int, lengths: list[int]) -> None:
    parts = list(chunks(list(range(count)), 2))
    assert [len(part) for part in parts] == lengths
    assert [number for part in parts for number in part] == list(range(count))


def _disk(**more: int | None) -> Storage:
    nothing = dict.fromkeys(("virtual", "allocated_before", "allocated_after", "used"))
    return records.record([], [{**storage(), **nothing, **more}]).storage[0]


def test_bars_are_as_wide_as_the_largest_size() -> None:
    found = bars(_disk(virtual=400, allocated_before=300, allocated_after=100, used=50))
    assert found == page.Bars(150, 50, 25)
    assert bars(_disk(virtual=400, allocated_after=800)) == page.Bars(0, 200, None)
    assert bars(_disk(used=0)) is None
    assert bars(_disk()) is None
    assert bars(_disk(used=3, virtual=9)) == page.Bars(0, 0, 66.7)


def test_a_policy_names_each_script_by_its_hash() -> None:
    digest = base64.b64encode(hashlib.sha256(b"two()").digest()).decode()
    policy = page.content_security_policy([], ["one()", "two()"])
    assert f"'sha256-{digest}'" in policy
    assert policy.count("'sha256-") == 2
    assert "style-src 'none'" in policy
    assert "img-src 'none'" in policy
    assert "unsafe" not in policy
    assert "img-src data:" in page.content_security_policy([], [], images="data:")


# The page -------------------------------------------------------------------------------------


def test_the_page_has_every_row_guest_and_disk() -> None:
    rows = [*whole("a", broken=True), *whole("b"), row("backup-job", "error", None)]
    found = records.record(rows, [storage("a"), storage("b")])
    document = _document(found, remark="a remark")
    anchors = set(document.xpath("//@id"))
    assert {found.anchor(each) for each in found.results} <= anchors
    assert {guest.anchor for guest in _view(found).guests} <= anchors
    targets = {str(link).removeprefix("#") for link in document.xpath("//a/@href") if str(link).startswith("#")}
    assert targets <= anchors, "no link leads nowhere"
    assert "a remark" in document.text_content()
    assert not document.xpath("//@src | //link | //script[@src]")


def test_the_pages_own_script_and_style_are_those_that_its_policy_allows() -> None:
    document = _document(records.record(whole("a")))
    [policy] = document.xpath("//meta[@http-equiv]/@content")
    scripts, styles = document.xpath("//script/text()"), document.xpath("//style/text()")
    assert policy == page.content_security_policy(styles, scripts)
    assert not document.xpath("//@onclick | //@style")


@pytest.mark.parametrize("text", [TAG, *ESCAPES, "</script>", '"x', "{{ 7 * 7 }}"])
def test_no_text_of_a_record_becomes_markup(text: str) -> None:
    rows = [
        row(
            "disk-bus", "noncompliant", text, text, reason=text, changes=[change(target=text, diff=text, applied=True)]
        ),
        row("sparse-backup", "error", None, backup=text, evidence=text),
    ]
    plain = _document(records.record(rows, [storage("a", "b", path="x")]))
    found = records.record(rows, [storage(text, text, path=text)], hypervisor=text, arguments=[text])
    page_of = "".join(page.page([found], [HOME], remark="x"))
    assert TAG not in page_of
    assert not set(page_of) & set("\x1b\x07\x9b\u202e")
    tags = [element.tag for element in lxml_html.fromstring(page_of).iter() if isinstance(element.tag, str)]
    assert set(tags) <= {element.tag for element in plain.iter() if isinstance(element.tag, str)}
    assert tags.count("script") == len(plain.xpath("//script"))
    if text == "{{ 7 * 7 }}":
        assert text in page_of, "and nothing becomes a template"


def test_sizes_that_are_not_known_are_called_so() -> None:
    text = _document(records.record(whole("a"), [storage("a", used=None, virtual=None)])).xpath("//svg/@aria-label")
    assert "needed not known" in str(text[0])


def test_many_tasks_and_changes_are_cut_at_the_top() -> None:
    rows = [
        row("disk-bus", "noncompliant", f"g{number}", "sda", reason=f"r{number}", changes=[change(target=f"t{number}")])
        for number in range(page.LISTED + 5)
    ]
    document = _document(records.record(rows))
    assert len(document.xpath("//*[@id='changes']/ul/li")) == page.LISTED
    assert "And 5 more" in document.xpath("//*[@id='changes']")[0].text_content()


def test_the_page_comes_in_pieces() -> None:
    pieces = page.page([records.record(whole("a"))], [HOME])
    assert len(next(pieces)) < len("".join(pieces))
