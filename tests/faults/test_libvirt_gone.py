"""libvirt goes away, is started anew, or another of its users changes a guest: at every call that a run makes.

The run ends in words, no verdict is wrong, and nobody's edit is lost.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import libvirt
import pytest

from tests.faults import record, walk
from tests.faults.home import Home
from tests.faults.nursery import Done, Nursery
from tests.faults.points import Cut
from tests.faults.walk import Scenario, Tally

THOROUGH = os.environ.get("RECLAIM_GUESTS") == "all"
_CHOSEN = ("-k", "discard or bus or scsi_controller or machine")
_HOOK = "tests.faults.hooks:libvirt_calls"
_TRACES = ("Traceback", "INTERNALERROR", "a fault in reclaim")
_GOOD = ("compliant", "fixed")
#: where time is short every so many-th call is walked
_STEP = 5


def _fix(home: Home, cut: Cut | None = None) -> Done:
    return home.fix(*_CHOSEN, cut=cut, hook=_HOOK)


class Judge:
    """What must hold after a run in which libvirt failed, or somebody else was at work."""

    def __init__(self, home: Home) -> None:
        home.make()
        self.original = home.defined()

    def __call__(self, home: Home, tally: Tally, cut: Cut, done: Done) -> None:
        def expect(holds: object, words: str) -> None:
            if not holds:
                with tally.lock:
                    tally.faults.append(f"{cut}: {words}")

        tally.seen[f"ended with {done.status}"] += 1
        said = done.said
        expect(done.status in (0, 1, 2, 4, 6), f"status {done.status}: {said[-1500:]}")
        for words in _TRACES:
            expect(words not in said, f"{words}: {said[max(0, said.find(words) - 200) :][:1500]}")
        good = _rows(home, _GOOD)
        after = home.audit(*_CHOSEN)
        tally.runs += 1
        expect(after.status in (0, 1, 6), f"the audit after it: {after.said[-800:]}")
        wrong = {row for row in good - _rows(home, _GOOD) if _is_there(home, row[0])}
        expect(not wrong, f"called good, and the next audit does not: {sorted(map(str, wrong))}")
        if cut.act == "edited":
            expect("<title>by hand</title>" in home.defined(), "an edit by hand is lost")
        for run in home.mended():
            undone = home.undo(run)
            tally.runs += 1
            expect("Traceback" not in undone.said, undone.said[-800:])
            expect(cut.act not in ("away", "restarted") or undone.status == 0, f"undo: {undone.said}")
        if cut.act in ("away", "restarted"):
            expect(home.defined() == self.original, "undo does not give the definitions back")
        if cut.act == "edited":
            expect("<title>by hand</title>" in home.defined(), "an edit by hand is lost in undo")
        if cut.act == "undefined":
            expect(not _is_there(home, "web"), "a guest that was removed is there again")


def _rows(home: Home, verdicts: tuple[str, ...]) -> set[tuple[str, str | None, str]]:
    path = home.runs[-1] / "results.json" if home.runs else None
    if path is None or not path.exists():
        return set()
    rows = json.loads(path.read_text(encoding="utf-8"))["results"]
    # a disk that moved to another bus is called otherwise by the next run
    return {(row["guest"], None, row["requirement"]) for row in rows if row["verdict"] in verdicts}


def _is_there(home: Home, name: str) -> bool:
    connection = libvirt.open(f"test://{home.node}")
    try:
        return name in [domain.name() for domain in connection.listAllDomains(0)]
    finally:
        connection.close()


def _cuts(act: str, points: list[tuple[str, int]]) -> list[Cut]:
    """Every call, or some of them; the moment between our last look and our define is libvirt's: it has no compare."""
    calls = [one for one in points if one[0].startswith("call ")]
    chosen = calls if THOROUGH else [*calls[:12], *calls[12::_STEP]]
    if act in ("edited", "undefined", "renamed"):
        chosen = [one for one in chosen if not one[0].startswith(("call define", "call XMLDesc"))]
    return [Cut(label, number, "before", act) for label, number in chosen]


@pytest.mark.parametrize("act", ["away", "restarted", "edited", "undefined", "renamed"])
def test_at_every_call(act: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    with Nursery(tmp_path / "nursery") as nursery:
        judge = Judge(Home(tmp_path / "home", nursery))
    scenario = Scenario(act, lambda _: None, _fix)
    tally = walk.walk(tmp_path, scenario, lambda points: _cuts(act, points), Home.make, judge)
    assert not tally.faults, "\n".join([f"{len(tally.faults)} faults, {tally.counts}", *tally.faults])
    assert tally.cuts >= 5
    record.note(request.node.nodeid, tally.counts)
