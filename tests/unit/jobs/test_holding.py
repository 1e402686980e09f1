"""Images that hold still: from before the copy to its end, surely, perhaps or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reclaim.base.verdict import Verdict
from reclaim.jobs.calls import Branch, Call
from reclaim.jobs.holding import Held, Still, Timeline
from reclaim.jobs.images import DiskImage
from reclaim.jobs.steps import Copy, Hold, NotUnderstood, Release, Step, Wait, Way
from reclaim.jobs.words import UNKNOWN, Origin, Origins
from tests.jobs import IMAGES, declared_job, judged, rsync, running
from tests.support import uuid_of

__all__ = ["rsync"]


@pytest.mark.parametrize(
    "before",
    [
        "virsh snapshot-create-as one b --disk-only --atomic",
        "virsh -c qemu:///system shutdown one",
        "virsh suspend one && virsh domblklist one",
        "systemctl stop libvirt-guests",
    ],
)
def test_a_guest_that_holds_still_is_copied(tmp_path: Path, before: str) -> None:
    assert judged(running(tmp_path, f"#!/bin/sh\n{before}\nrsync -aS /srv/images/ /b\n")).verdict is Verdict.COMPLIANT


def test_a_guest_is_known_by_its_uuid(tmp_path: Path) -> None:
    text = f"virsh suspend {uuid_of('web')}\nrsync -aS {IMAGES}/web.qcow2 /backup/\n"
    found = judged(declared_job(tmp_path, "by-uuid.sh", text=text))
    assert found.verdict is Verdict.COMPLIANT, found.reason


# Steps one after the other --------------------------------------------------------------------

WEB = DiskImage("/images/web.qcow2", "web", "web", "vda", "uuid-of-web")
COPY = Copy(Call((), 9), "cp", (WEB.path,), "/b/")


def hold(*guests: str, way: Way = "run", doubt: str = "", path: str = "", **call: Any) -> Hold:
    return Hold(Call((), 1, **call), guests, way, doubt, path=path)


def release(*guests: str, ways: tuple[Way, ...] = ("run",), **call: Any) -> Release:
    return Release(Call((), 2, **call), guests, ways)


def held(
    *steps: Step,
    copy: Copy = COPY,
    image: DiskImage = WEB,
    source: str = WEB.path,
    asked: frozenset[int] = frozenset(),
    asked_after: int | None = None,
) -> Held:
    """Whether the image holds still for *copy*, which is one of *steps*, or else their last."""
    all_steps = [*steps] if copy in steps else [*steps, copy]
    timeline = Timeline(all_steps, Origins(), asked)
    return timeline.at(all_steps.index(copy), copy, image, source, asked_after)


def still(*steps: Step, **more: Any) -> Still:
    return held(*steps, **more).still


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([], Still.NO),
        ([hold("web")], Still.YES),
        ([hold("uuid-of-web")], Still.YES),
        ([hold()], Still.YES),
        ([hold("db", "web")], Still.YES),
        ([hold("db")], Still.NO),
        ([hold("7")], Still.MAYBE),
        ([hold(UNKNOWN)], Still.MAYBE),
        ([hold("web", way="overlay")], Still.YES),
        ([hold("web"), release("web")], Still.NO),
        ([hold("web"), release()], Still.NO),
        ([hold("web"), release("db")], Still.YES),
        ([hold("web"), release(UNKNOWN)], Still.MAYBE),
        ([hold("web"), release("7")], Still.MAYBE),
        ([hold("web"), release("web", ways=("overlay",))], Still.YES),
        ([hold("web", way="overlay"), release("web", ways=("overlay",))], Still.NO),
        ([hold("web"), hold("web", way="overlay"), release("web")], Still.YES),
        ([hold("web"), release("web", ways=("overlay", "run"))], Still.NO),
        ([release("web"), hold("web")], Still.YES),
        ([hold("web"), hold(UNKNOWN)], Still.YES),
        ([NotUnderstood("x")], Still.MAYBE),
        ([NotUnderstood("x", may_hold=False)], Still.NO),
        ([NotUnderstood("x"), release("web")], Still.MAYBE),
        ([hold("web"), NotUnderstood("x")], Still.YES),
        ([hold("web", doubt="why")], Still.MAYBE),
        ([hold("db", doubt="why")], Still.NO),
        ([hold("web", path="/")], Still.YES),
        ([hold(path="/images")], Still.YES),
        ([hold(path="/images/")], Still.YES),
        ([hold(path="/image")], Still.NO),
    ],
)
def test_an_image_holds_still_from_the_last_hold_on(steps: list[Step], expected: Still) -> None:
    assert still(*steps) is expected


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ([hold("web")], Still.NO),
        ([NotUnderstood("x")], Still.NO),
        ([hold("web"), release("web")], Still.NO),
    ],
)
def test_what_comes_after_the_copy_does_not_hold_it(after: list[Step], expected: Still) -> None:
    assert still(COPY, *after) is expected


def test_a_release_after_the_copy_is_too_late_to_matter() -> None:
    assert still(hold("web"), COPY, release("web")) is Still.YES


def test_a_disk_that_the_snapshot_spares_is_written_to() -> None:
    spared = Hold(Call((), 1), ("web",), "overlay", spared=("vda",))
    assert still(spared) is Still.NO
    assert still(Hold(Call((), 1), ("web",), "overlay", spared=("vdb",))) is Still.YES
    nameless = DiskImage(WEB.path, "web", "web")
    assert still(Hold(Call((), 1), ("web",), "overlay", spared=("",)), image=nameless) is Still.YES


# Guests whose names are not known -------------------------------------------------------------


def test_a_name_from_a_list_is_the_guest_if_it_goes_over_all() -> None:
    origins = Origins()
    each, some = origins.mark(Origin("guest", every=True)), origins.mark(Origin("guest"))
    for mark, expected in ((each, Still.YES), (some, Still.MAYBE)):
        timeline = Timeline([hold(mark), COPY], origins)
        assert timeline.at(1, COPY, WEB, WEB.path).still is expected


def test_a_path_that_is_named_after_the_guest_that_is_held_is_its_image() -> None:
    origins = Origins()
    mark = origins.mark(Origin("guest"))
    source = f"/images/{mark}.qcow2"
    timeline = Timeline([hold(mark), COPY], origins)
    assert timeline.at(1, COPY, WEB, source).still is Still.YES
    assert timeline.names((mark,), WEB, "/other") is Still.MAYBE
    assert timeline.names(("db", mark), WEB, "/other") is Still.MAYBE


def test_an_image_of_a_guest_that_is_not_known_may_be_of_any() -> None:
    unknown = DiskImage("", UNKNOWN, UNKNOWN)
    assert still(hold("web"), image=unknown, source="") is Still.MAYBE
    assert still(hold(UNKNOWN), image=unknown, source="") is Still.YES


# Branches -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "here", "asked", "expected"),
    [
        ((), (), (), Still.YES),
        ((), ((1, 0),), (), Still.YES),
        (((1, 0),), ((1, 0),), (), Still.YES),
        (((1, 0),), ((1, 1),), (), Still.NO),
        (((1, 0),), (), (), Still.MAYBE),
        (((1, 0),), (), (1,), Still.YES),
        (((1, 0),), ((1, 1),), (1,), Still.NO),
        (((1, 0), (2, 0)), ((1, 0),), (2,), Still.YES),
        (((1, 0), (2, 0)), ((1, 0),), (), Still.MAYBE),
        (((2, 0), (1, 0)), ((1, 1),), (), Still.NO),
    ],
)
def test_a_step_on_one_arm_runs_whenever_the_copy_does(
    before: Branch, here: Branch, asked: tuple[int, ...], expected: Still
) -> None:
    timeline = Timeline([], Origins(), frozenset(asked))
    assert timeline.meets(before, here) is expected


def test_a_hold_on_another_arm_is_none_and_one_that_may_not_run_is_a_doubt() -> None:
    copy = Copy(Call((), 9, branch=((1, 0),)), "cp", (WEB.path,), "/b/")
    assert still(hold("web", branch=((1, 0),)), copy=copy) is Still.YES
    assert still(hold("web", branch=((1, 1),)), copy=copy) is Still.NO
    assert still(hold("web", branch=((2, 0),)), copy=copy) is Still.MAYBE
    assert still(hold("web"), release("web", branch=((1, 1),)), copy=copy) is Still.YES
    assert still(hold("web"), release("web", branch=((2, 0),)), copy=copy) is Still.MAYBE
    assert still(NotUnderstood("x", ((1, 1),)), copy=copy) is Still.NO
    assert still(NotUnderstood("x", ((1, 0),)), copy=copy) is Still.MAYBE


def test_a_copy_that_is_made_only_for_some_answers_is_a_doubt() -> None:
    copy = Copy(Call((), 9, branch=((1, 0),)), "cp", (WEB.path,), "/b/")
    found = held(copy=copy, asked=frozenset({1}))
    assert found.still is Still.MAYBE
    assert "off" in found.doubt
    assert still(copy=copy, asked=frozenset({2})) is Still.NO
    assert still(hold("web"), copy=copy, asked=frozenset({1})) is Still.YES


# The background, other lines ------------------------------------------------------------------

WAIT = Wait(Call((), 3))


def test_a_hold_in_the_background_may_not_have_ended() -> None:
    found = held(hold("web", in_background=1))
    assert found.still is Still.MAYBE
    assert "line 1" in found.doubt
    assert still(hold("web", in_background=1), WAIT) is Still.YES
    assert still(WAIT, hold("web", in_background=1)) is Still.MAYBE


def test_steps_that_go_on_together_come_one_after_the_other() -> None:
    copy = Copy(Call((), 9, in_background=1), "cp", (WEB.path,), "/b/")
    assert still(hold("web", in_background=1), copy=copy) is Still.YES
    assert still(hold("web", in_background=2), copy=copy) is Still.MAYBE
    assert still(hold("web"), copy=copy) is Still.YES


def test_a_copy_in_the_background_is_not_over_until_it_is_waited_for() -> None:
    copy = Copy(Call((), 9, in_background=1), "cp", (WEB.path,), "/b/")
    assert still(hold("web"), copy, release("web"), copy=copy) is Still.NO
    assert still(hold("web"), copy, WAIT, release("web"), copy=copy) is Still.YES
    assert still(hold("web"), copy, NotUnderstood("x"), release("web"), copy=copy) is Still.NO
    assert still(hold("web"), copy, release("web", in_background=1), copy=copy) is Still.YES
    assert still(hold("web"), copy, release("web", in_background=2), copy=copy) is Still.NO


def test_lines_of_a_cron_table_have_times_of_their_own() -> None:
    copy = Copy(Call((), 9, run=9), "cp", (WEB.path,), "/b/")
    found = held(hold("web", run=1), copy=copy)
    assert found.still is Still.MAYBE
    assert "line 1" in found.doubt
    assert still(hold("web", run=9), copy=copy) is Still.YES
    assert still(hold("web", run=9), release("web", run=1), copy=copy) is Still.YES
    assert still(hold("db", run=1), copy=copy) is Still.NO
    assert still(NotUnderstood("x"), copy=copy) is Still.MAYBE


# Doubts ---------------------------------------------------------------------------------------


def test_the_reason_of_a_doubt_is_told() -> None:
    assert held(hold("web", doubt="why")).doubt == "why"
    assert "line 1" in held(hold(UNKNOWN)).doubt
    assert "line 2" in held(hold("web"), release(UNKNOWN)).doubt
    assert held(NotUnderstood("x")).doubt
    assert held(hold("web", doubt="why"), hold(UNKNOWN)).doubt == "why"


@pytest.mark.parametrize(
    ("way", "number", "asked_after", "expected"),
    [
        ("overlay", 1, 2, Still.MAYBE),
        ("overlay", 1, 1, Still.YES),
        ("overlay", 2, 1, Still.YES),
        ("overlay", 1, None, Still.YES),
        ("run", 1, 2, Still.YES),
    ],
)
def test_a_guest_that_is_asked_for_its_disks_after_a_snapshot_names_the_overlay(
    way: Way, number: int, asked_after: int | None, expected: Still
) -> None:
    found = held(hold("web", way=way, number=number), asked_after=asked_after)
    assert found.still is expected
    assert ("overlay" in found.doubt) is (expected is Still.MAYBE)
