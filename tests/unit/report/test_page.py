"""The static page: what its parts hold, and that no text of a guest becomes markup."""

from __future__ import annotations

import base64
import hashlib
import shlex
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from lxml import html as lxml_html

from reclaim.base.verdict import Verdict
from reclaim.report import findings, page
from reclaim.report.page import View, chunks, diff_lines, prose
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


def test_the_worst_guests_come_first() -> None:
    rows = [
        *whole("good"),
        row("disk-bus", "compliant", "waits", "sda"),
        row("live-definition", "pending", "waits"),
        row("disk-bus", "noncompliant", "bad", "sda"),
        *[row(slug, "noncompliant", "worst", "sda") for slug in ("disk-bus", "disk-discard")],
    ]
    assert [guest.name for guest in _view(records.record(rows)).guests] == ["worst", "bad", "waits", "good"]


def test_rows_beyond_those_that_a_page_carries_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "MOST_ROWS", 5)
    rows = [row("disk-bus", "compliant", f"g{number}", "sda") for number in range(7)]
    rows += [row("disk-bus", "noncompliant", "bad", "sda")]
    found = records.record(rows)
    view = _view(found)
    assert [guest.name for guest in view.guests] == ["bad", "g0", "g1", "g2", "g3"]
    assert [guest.name for guest in view.left_out] == ["g4", "g5", "g6"]
    document = _document(found)
    assert "3 more guests with the fewest findings are in results.json alone" in document.text_content()
    assert len(document.xpath("//tr[starts-with(@id, 'row-')]")) == 5
    ids = set(document.xpath("//@id"))
    assert {str(link)[1:] for link in document.xpath("//a/@href") if str(link).startswith("#")} <= ids


def test_each_requirement_has_a_total() -> None:
    rows = [
        row("disk-bus", "noncompliant", "a", "sda"),
        row("disk-bus", "error", "a", "sdb"),
        row("disk-bus", "not-assessable", "b", "sda"),
        row("disc-max", "compliant", "b"),
        row("backup-job", "noncompliant", None),
    ]
    totals = {total.slug: total for total in _view(records.record(rows)).totals}
    assert list(totals) == ["disk-bus", "disc-max"]
    assert (totals["disk-bus"].failed, totals["disk-bus"].unknown, totals["disk-bus"].every) == (2, 1, 3)
    assert totals["disc-max"].failed == 0


@pytest.mark.parametrize(
    ("verdicts", "state"),
    [
        ("compliant not-applicable", "good"),
        ("compliant fixed waived", "good"),
        ("compliant not-assessable", "unknown"),
        ("", "unknown"),
        ("not-assessable noncompliant", "bad"),
        ("compliant pending", "bad"),
        ("compliant error", "bad"),
    ],
)
def test_the_sentence_has_the_colour_of_the_worst_verdict(verdicts: str, state: str) -> None:
    rows = [row("disk-bus", verdict, f"g{number}") for number, verdict in enumerate(verdicts.split())]
    found = records.record(rows)
    assert _view(found).state == state
    assert _document(found).xpath(f"//*[@class='verdict {state}']")


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
    found = records.record(whole("a"), [storage("a", used=None, virtual=None)])
    text = _document(found).xpath("//svg[@class='bar']/@aria-label")
    assert "virtual size not known" in str(text[0])
    assert "used not known" in str(text[0])


def test_many_tasks_and_changes_are_cut_at_the_top() -> None:
    rows = [
        row("disk-bus", "noncompliant", f"g{number}", "sda", reason=f"r{number}", changes=[change(target=f"t{number}")])
        for number in range(page.LISTED + 5)
    ]
    document = _document(records.record(rows))
    assert len(document.xpath("//*[@id='changes']/ul/li")) == page.LISTED
    assert "And 5 more" in document.xpath("//*[@id='changes']")[0].text_content()


def _commands(document: Any, place: str) -> list[str]:
    return [code.text_content() for code in document.xpath(f"//*[@id='{place}']//div[@class='command']/pre/code")]


@pytest.mark.parametrize("name", ["web", "a b", "$(id)", TAG, "'; reboot; '"])
def test_a_command_on_the_page_is_the_command_itself(name: str) -> None:
    """The button copies the text of the element."""
    found = records.record([row("disk-bus", "noncompliant", name, "sda")])
    document = _document(found)
    [preview, fix] = _commands(document, "next")
    assert [preview, fix] == [task.command for _, task in _view(found).tasks]
    assert "fix" in shlex.split(fix)
    assert "plan" in shlex.split(preview)
    assert not document.xpath("//div[@class='command']//*[not(self::pre or self::code)]")


def test_a_run_that_changed_something_begins_with_the_way_back() -> None:
    rows = [
        row("disk-bus", "fixed", "a", "sda", changes=[change(applied=True)]),
        row("fstab-uuid", "noncompliant", "a", reason="x"),
        row("boot-names", "noncompliant", "b", reason="y"),
        row("fstrim-timer", "noncompliant", "c", reason="z"),
    ]
    document = _document(records.record(rows, mode="fix"))
    assert _commands(document, "undo") == _view(records.record(rows, mode="fix")).undo
    [list_of_changes] = document.xpath("//*[@id='undo']/ul")
    assert "<target> bus='virtio' → 'scsi'" in list_of_changes.text_content()
    assert "definition of one, applied" in list_of_changes.text_content()
    assert len(document.xpath("//*[@id='next']/ol/li")) == 1
    assert "2 more steps" in document.xpath("//*[@id='next']/details/summary")[0].text_content()


def test_a_planned_change_is_called_planned() -> None:
    rows = [row("disk-bus", "noncompliant", "a", "sda", changes=[change()])]
    text = _document(records.record(rows, mode="plan")).xpath("//*[@id='undo']")[0].text_content()
    assert "Nothing was changed" in text
    assert "definition of one, planned" in text
    assert "undo" not in text


def test_an_audit_says_that_it_only_looks() -> None:
    text = _document(records.record(whole("a"))).xpath("//*[@id='undo']")[0].text_content()
    assert "an audit only looks" in text


def test_the_contents_lead_to_the_parts_of_this_page() -> None:
    rows = [row("disk-bus", "noncompliant", "a", "sda", changes=[change()])]
    document = _document(records.record(rows, [storage("a")]), rows_page="rows.html")
    links = list(document.xpath("//nav//a/@href"))
    assert links == ["#findings", "#grid", "#bytes", "#changes", "#rows", "#requirements", "#run", "rows.html"]
    assert set(document.xpath("//a[@class='skip']/@href")) == {"#next", "#findings", "#grid", "#rows"}
    short = _document(records.record(whole("a")))
    assert list(short.xpath("//nav//a/@href")) == ["#grid", "#rows", "#requirements", "#run"]


def test_findings_are_told_in_words() -> None:
    rows = [row("disk-bus", "noncompliant", guest, "sda", reason=f"{guest} is on virtio") for guest in ("web", "mail")]
    rows += [row("disc-max", "not-assessable", "web", reason="it is off")]
    text = " ".join(_document(records.record(rows)).xpath("//*[@id='findings']")[0].text_content().split())
    assert "noncompliant disk-bus 2 guests " in text
    assert findings.why("disk-bus") in text
    assert "GUEST is on virtio (web sda, mail sda)" in text
    assert "not-assessable disc-max 1 guest " in text
    assert "it is off (web)" in text


# The host's filesystems -----------------------------------------------------------------------


def test_the_fullest_filesystem_of_the_host_is_on_the_first_screen() -> None:
    spaces = [records.filesystem("/srv", used_after=1, free_after=99), records.filesystem("/full")]
    document = _document(records.record(whole("a"), [storage("a")], filesystems=spaces))
    [card] = [each for each in document.xpath("//dl[@class='cards']/div") if "Host filesystem" in each.text_content()]
    assert "/full" in card.text_content()
    assert "84\u00a0%" in card.text_content()
    assert "was 95\u00a0%" in card.text_content()
    assert "and 1 more" in card.text_content()
    names = [head.text_content().strip() for head in document.xpath("//table[@class='levels']/tbody/tr/th")]
    assert names == ["/full", "/srv"]
    assert "84\u00a0% full, 95\u00a0% before" in document.xpath("//table[@class='levels']//svg/@aria-label")[0]


def test_a_filesystem_that_could_not_be_read_is_unknown() -> None:
    nothing = dict.fromkeys(("type", "source", "size", "used_before", "used_after", "free_before", "free_after"))
    found = records.record(whole("a"), [storage("a")], filesystems=[records.filesystem(None, **nothing)])
    [line] = _document(found).xpath("//table[@class='levels']/tbody/tr")
    assert "/images (it could not be read)" in " ".join(line.text_content().split())
    assert not line.xpath(".//svg")
    assert "not known" in line.text_content()


def test_a_record_of_an_older_version_has_no_filesystems() -> None:
    document = _document(records.record(whole("a"), [storage("a")]))
    assert not document.xpath("//*[@id='filesystems']")
    assert "Host filesystemnot known" in " ".join(document.xpath("//dl[@class='cards']")[0].text_content().split())


@pytest.mark.parametrize(("kind", "words"), [("btrfs", "snapshot"), ("zfs", "pool"), ("nfs4", "server"), ("ext4", "")])
def test_the_caveats_of_a_filesystem_are_named(kind: str, words: str) -> None:
    found = records.record(whole("a"), [storage("a")], filesystems=[records.filesystem(type=kind)])
    caveats = _view(found).caveats
    assert len(caveats) == bool(words)
    assert all(words in caveat for caveat in caveats)


# Bytes ----------------------------------------------------------------------------------------


def test_freed_and_can_be_freed_are_the_first_columns_of_bytes() -> None:
    document = _document(records.record(whole("a"), [storage("a")]))
    for table in ("glasses", "bytes"):
        heads = [head.text_content() for head in document.xpath(f"//table[@class='{table}']/thead//th")]
        assert heads[1:3] == ["Freed", "Can be freed"]
    [line] = document.xpath("//table[@class='bytes']/tbody/tr")
    assert line.xpath("td/@title")[0] == f"{4 * GIB:,} bytes"
    assert line.xpath("td/text()")[0] == "4.0 GiB"


def test_a_guest_that_counts_more_than_the_host_holds_is_explained() -> None:
    odd = storage("odd", allocated_before=2 * GIB, allocated_after=2 * GIB, used=3 * GIB)
    plain = _document(records.record(whole("a"), [storage("a")])).text_content()
    assert "nothing is missing" not in plain
    text = _document(records.record(whole("odd"), [odd, storage("a")])).text_content()
    assert "odd: the guest counts more than the host holds, and nothing is missing" in text


def test_the_page_comes_in_pieces() -> None:
    pieces = page.page([records.record(whole("a"))], [HOME])
    assert len(next(pieces)) < len("".join(pieces))
