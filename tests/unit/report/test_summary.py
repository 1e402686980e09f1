"""The one sentence of a run, and how each guest stands."""

from __future__ import annotations

from typing import Any

import pytest

from reclaim.base.verdict import Verdict
from reclaim.handles.scsi import BY_RULE, OF_DISK_BUS
from reclaim.record.record import Record
from reclaim.report.summary import ROAD, Standing, came_back, figures, reclaimable, standing
from reclaim.requirement import catalogue
from tests import records
from tests.records import GIB, row, storage, whole


def sentence(rows: list[dict[str, Any]], disks: list[dict[str, Any]] | None = None, **more: Any) -> str:
    return figures([records.record(rows, disks or [], **more)]).sentence


def instead(guest: str, **verdicts: str) -> list[dict[str, Any]]:
    """The rows of *guest*, all compliant but those named."""
    return [
        {**one, **row(one["requirement"], verdicts[name], guest, one["disk"])} if name in verdicts else one
        for one in whole(guest)
        for name in [one["requirement"].replace("-", "_")]
    ]


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        pytest.param("compliant fixed not-applicable", Standing.RETURNS, id="all hold"),
        pytest.param("compliant waived", Standing.WAIVED, id="waived"),
        pytest.param("compliant not-assessable waived", Standing.UNKNOWN, id="could not look"),
        pytest.param("compliant error", Standing.UNKNOWN, id="looking failed is no finding"),
        pytest.param("pending not-assessable", Standing.PENDING, id="waits"),
        pytest.param("noncompliant pending error", Standing.OPEN, id="a finding is the worst"),
    ],
)
def test_the_worst_verdict_says_how_a_guest_stands(verdicts: str, expected: Standing) -> None:
    assert standing(map(Verdict, verdicts.split())) is expected


def test_the_road_is_in_the_catalogue() -> None:
    assert set(ROAD) <= set(catalogue())


def test_the_sentence_has_all_that_counts() -> None:
    rows = [
        *whole("a"),
        *whole("b"),
        *instead("c", disk_bus="noncompliant", live_definition="pending"),
        *instead("d", live_definition="noncompliant"),
        *instead("e", guest_access="not-assessable"),
        *instead("f", disk_bus="waived"),
    ]
    held = storage("c", allocated_before=9 * GIB, allocated_after=8 * GIB, used=GIB)
    assert sentence(rows, [held]) == (
        "2 of 6 guests do not return freed space (2 need a power cycle); 2 return it; 1 was only partly checked; "
        "1 is waived in part; this run freed 1.0 GiB on the host; 7.0 GiB can be freed now."
    )


def test_a_disk_on_another_bus_that_passes_discards_on_returns_freed_space() -> None:
    by_rule = row("disk-bus", "noncompliant", "a", "sda", reason=f"it is on the bus virtio; {BY_RULE}; withheld: …")
    controller = row(
        "scsi-controller", "noncompliant", "a", reason=f"there is no virtio-scsi controller for vda; {OF_DISK_BUS}"
    )
    rows = [*instead("a"), by_rule, controller, *instead("b")]
    assert sentence(rows).startswith("2 of 2 guests return freed space, 1 of them on another bus than scsi;")
    other = row("disk-discard", "noncompliant", "a", "sda", reason="driver discard is absent")
    assert sentence([*rows, other]).startswith("1 of 2 guests does not return freed space; 1 returns it;")


def test_where_not_everything_was_judged_the_rule_counts() -> None:
    by_rule = row("disk-bus", "noncompliant", "a", "sda", reason=f"it is on the bus sata; {BY_RULE}")
    assert sentence([by_rule]).startswith("1 of 1 guest does not pass the checks that ran (not all checks ran)")


def test_copies_do_not_say_how_their_guest_stands() -> None:
    rows = instead("a", sparse_backup="noncompliant") + instead("b", sparse_backup="not-assessable")
    job = row("backup-job", "noncompliant", None)
    assert sentence([*rows, job], []).startswith("2 of 2 guests return freed space; ")
    assert sentence([*rows, job], []).endswith("; 2 findings on backups.")
    # unless nothing else was asked
    copies = [one for one in rows if one["requirement"] == "sparse-backup"]
    said = sentence(copies, [])
    assert said.startswith("1 of 2 guests does not pass the checks that ran (not all checks ran); 1 was only partly")
    assert sentence([job], []) == "No guest was judged; 1 finding on backups."


def test_an_image_with_snapshots_waits_for_no_power_cycle() -> None:
    assert "power cycle" not in sentence(instead("a", image_format="noncompliant"))
    assert "1 of 1 guest waits for a power cycle" in sentence(instead("a", image_format="pending"))


def test_all_is_well() -> None:
    well = storage("a", allocated_before=GIB, allocated_after=GIB, used=GIB)
    assert sentence(whole("a"), [well]) == "1 of 1 guest returns freed space."


def test_who_asked_for_a_part_is_told_no_more() -> None:
    assert "return freed space" not in sentence([row("disk-bus", "compliant", "a", "sda")])


def test_bytes_that_nobody_counted_are_not_called_none() -> None:
    assert "the space that can be freed is unknown" in sentence(whole("a"), [storage("a", used=None)])


def test_without_guests() -> None:
    assert sentence([]) == "No guest was judged."


def test_a_little_over_is_not_called_space_to_be_had() -> None:
    little = storage(used=4 * GIB, allocated_after=4 * GIB + 1000)
    (disk,) = records.record([], [little]).storage
    assert reclaimable(disk) == 0


@pytest.mark.parametrize(
    ("counted", "told"),
    [
        pytest.param({"reclaimable_after": 3 * GIB}, 3 * GIB, id="counted-exactly"),
        pytest.param({"reclaimable_after": 0}, 0, id="held-for-swap-and-the-like"),
        pytest.param({"reclaimable_after": GIB // 100}, 0, id="a-little"),
        pytest.param({}, 5 * GIB, id="a-record-from-before"),
    ],
)
def test_what_was_counted_through_all_layers_is_believed(counted: dict[str, Any], told: int) -> None:
    (disk,) = records.record([], [storage(used=4 * GIB, allocated_after=9 * GIB, **counted)]).storage
    assert reclaimable(disk) == told


def test_what_came_back_is_told_beside_what_was_counted() -> None:
    (disk,) = records.record([], [storage(reclaimable_before=4 * GIB, reclaimable_after=0)]).storage
    assert (disk.reclaimable_before, came_back(disk)) == (4 * GIB, 4 * GIB)
    (gone,) = records.record([], [storage(allocated_after=None)]).storage
    assert came_back(gone) is None


def test_hypervisors_are_added_up() -> None:
    both = [records.record(whole("a")), records.record(whole("a", broken=True), hypervisor="kvm2")]
    assert figures(both).guests == 2
    assert figures(both).standings[Standing.RETURNS] == 1


# Good, bad and unknown are counted apart


def fleet(**counts: int) -> list[dict[str, Any]]:
    """The rows of so many guests that are good, bad, not looked at, waiting, waived, or could not be reached."""
    verdicts = {
        "good": {},
        "bad": {"disk_bus": "noncompliant"},
        "unseen": {"guest_access": "not-assessable"},
        "waiting": {"live_definition": "pending"},
        "waived": {"disk_bus": "waived"},
        "failed": {"guest_access": "error"},
    }
    rows = []
    for kind, count in counts.items():
        for number in range(count):
            rows += instead(f"{kind}-{number}", **verdicts[kind])
    return rows


@pytest.mark.parametrize(
    ("counts", "begins"),
    [
        ({"good": 1}, "1 of 1 guest returns freed space"),
        ({"good": 3}, "3 of 3 guests return freed space"),
        ({"bad": 1}, "1 of 1 guest does not return freed space"),
        ({"bad": 250, "unseen": 750}, "250 of 1000 guests do not return freed space; 750 were only partly checked"),
        (
            {"bad": 1, "good": 1, "unseen": 1},
            "1 of 3 guests does not return freed space; 1 returns it; 1 was only partly",
        ),
        ({"bad": 2, "good": 2}, "2 of 4 guests do not return freed space; 2 return it"),
        ({"unseen": 1}, "1 of 1 guest was only partly checked"),
        ({"unseen": 8}, "8 of 8 guests were only partly checked"),
        ({"good": 3, "unseen": 5}, "3 of 8 guests return freed space; 5 were only partly checked"),
        ({"unseen": 1, "failed": 1}, "2 of 2 guests were only partly checked (looking failed in 1)"),
        ({"waiting": 1, "unseen": 2}, "1 of 3 guests waits for a power cycle; 2 were only partly checked"),
        ({"waived": 2}, "2 of 2 guests are waived in part"),
    ],
)
def test_good_bad_and_unknown_are_counted_apart(counts: dict[str, int], begins: str) -> None:
    said = sentence(fleet(**counts))
    assert said.startswith(f"{begins}"), said
    assert not said.startswith("0 of ")


def test_a_run_that_was_stopped_says_so() -> None:
    document = records.document(whole("a"))
    document["run"]["cut_short"] = True
    found = figures([Record.model_validate(document)])
    assert found.sentence.startswith("Stopped early: 1 of 1 guest returns freed space")
    assert not found.is_whole


def test_a_selection_is_not_the_whole() -> None:
    document = records.document(whole("a"))
    document["run"]["chosen"] = True
    found = figures([Record.model_validate(document)])
    assert found.sentence.startswith("1 of 1 guest returns freed space (only the selection was judged)")
    assert not found.is_whole


def test_samples_are_called_so() -> None:
    document = records.document(whole("a"))
    document["hypervisor"]["uri"] = "test:///fleet.xml"
    found = [Record.model_validate(document), records.record(whole("b"))]
    assert figures(found[:1]).sentence.startswith("SAMPLES: 1 of 1 guest returns")
    assert figures(found).sentence.startswith("2 of 2 guests return")
    document["run"]["cut_short"] = True
    assert figures([Record.model_validate(document)]).sentence.startswith("SAMPLES, stopped early: 1 of 1")


@pytest.mark.parametrize(
    ("standing", "in_part", "in_whole"),
    [
        (Standing.OPEN, "does not pass the checks that ran", "does not return freed space"),
        (Standing.RETURNS, "passes the checks that ran", "returns freed space"),
        (Standing.UNKNOWN, "only partly checked", "only partly checked"),
    ],
)
def test_a_guest_alone_has_the_words_of_the_sentence(standing: Standing, in_part: str, in_whole: str) -> None:
    assert figures([records.record([row("disk-bus", "compliant")])]).words(standing) == in_part
    assert figures([records.record(whole("a"))]).words(standing) == in_whole
