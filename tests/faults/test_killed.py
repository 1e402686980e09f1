"""SIGKILL at every point of a run that mends, of an undo, and of the runs that carry on.

After each: definitions that libvirt takes, files that are whole or absent, a next audit that tells of it; carrying
on ends well, undo gives every byte back, and a second undo has nothing to do.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import libvirt
import pytest

from tests.faults import record, walk
from tests.faults.home import LOCKS, Home, changed, is_whole, leftovers
from tests.faults.nursery import Done, Nursery
from tests.faults.points import Cut
from tests.faults.walk import Scenario, Tally

#: `make kills` goes to both sides of every point
THOROUGH = os.environ.get("RECLAIM_GUESTS") == "all"
#: the status of a fix that mends all: two disks have no copy that could be judged
UNSEEN = 6
ALL_TAKEN_BACK = "nothing is left to take back: every change of this run was taken back"
_CHOSEN = ("-k", "discard or bus or scsi_controller or backup")


def _make(home: Home) -> None:
    home.make()
    home.add_backups()


def _fix(home: Home, cut: Cut | None = None) -> Done:
    return home.fix(*_CHOSEN, cut=cut)


def _rewrite(home: Home, cut: Cut | None = None) -> Done:
    """The copy is written anew, as on a filesystem that punches no holes."""
    return home.fix("-k", "sparse_backup", cut=cut, hook="tests.faults.hooks:no_holes_can_be_punched")


def _die(home: Home, label: str, number: int) -> None:
    """A `--fix` that dies at one point."""
    done = _fix(home, Cut(label, number, "after"))
    assert done.status == -signal.SIGKILL, done.said


def _undo_dies(home: Home) -> None:
    _fix(home)
    done = home.undo(home.mended()[0], Cut("libvirt defineXMLFlags", 2, "after"))
    assert done.status == -signal.SIGKILL, done.said


def _fixed(home: Home) -> None:
    assert _fix(home).status == UNSEEN


def _audited(home: Home) -> None:
    for _ in range(3):
        home.audit(*_CHOSEN)


def _undo(home: Home, cut: Cut | None) -> Done:
    return home.undo(home.mended()[0], cut)


SCENARIOS = {
    "fix": Scenario("fix", lambda _: None, _fix),
    "fix-again": Scenario("fix-again", lambda home: _die(home, "libvirt defineXMLFlags", 2), _fix, r"journal|libvirt"),
    "undo": Scenario("undo", _fixed, _undo),
    "undo-again": Scenario("undo-again", _undo_dies, _undo),
    "rewrite": Scenario("rewrite", lambda _: None, _rewrite, r"copies"),
    "keep": Scenario(
        "keep",
        _audited,
        lambda home, cut: home.audit(*_CHOSEN, "--keep", "1", cut=cut),
        r"reports",
    ),
}


class Judge:
    """What must hold after a run died; each thing that does not is a fault, with the cut that shows it."""

    def __init__(
        self, scenario: Scenario, original: str, mended: str, bystanders: dict[str, str], after: dict[str, str]
    ) -> None:
        self.scenario = scenario
        self.original = original
        self.mended = mended
        self.bystanders = bystanders
        self.after = after

    def __call__(self, home: Home, tally: Tally, cut: Cut, done: Done) -> None:
        def expect(holds: object, words: str) -> None:
            if not holds:
                with tally.lock:
                    tally.faults.append(f"{cut}: {words}")

        died = done.status == -signal.SIGKILL
        expect(died, f"it was not killed: status {done.status}: {done.said[-1500:]}")
        if not died:
            return
        self._files_are_whole(home, tally, expect)
        if not walk.is_new(home, tally, pages=THOROUGH):
            return
        self._is_told(home, tally, expect)
        self._undo_ends_well(home, tally, expect)
        home.put_back()  # and once more to there: a copy of the folder would have other inodes than the journal
        self.scenario.run(home, cut)
        self._carrying_on_ends_well(home, tally, expect)

    def _files_are_whole(self, home: Home, tally: Tally, expect: Callable[[object, str], None]) -> None:
        try:
            home.defined()
        except libvirt.libvirtError as exc:
            expect(False, f"libvirt does not take the definitions: {exc}")
        for path in home.files():
            if not path.name.endswith(".new") and not LOCKS.search(path.name):
                expect(is_whole(path), f"{path.name} is neither whole nor absent")
        found = home.bystanders()
        for name, digest in self.bystanders.items():
            whole = (digest, self.after[name]) if name.endswith(".sh") else (digest,)
            expect(found.get(name) in whole, f"{name} does not read as before")
        tally.seen["left beside"] += bool(leftovers(home))

    def _is_told(self, home: Home, tally: Tally, expect: Callable[[object, str], None]) -> None:
        dead = [run for run in home.mended() if _died_changing(run)]
        audit = home.audit(*_CHOSEN)
        tally.runs += 1
        expect(audit.status in (0, 1, 6), f"the next audit ends with {audit.status}: {audit.said[-1500:]}")
        expect("Traceback" not in audit.said, f"the next audit: {audit.said[-1500:]}")
        for run in dead:
            tally.seen["reported"] += 1
            expect(run.name in audit.said, f"the next audit does not tell of {run.name}: {changed(run)}")

    def _undo_ends_well(self, home: Home, tally: Tally, expect: Callable[[object, str], None]) -> None:
        for again in (False, True):
            for run in home.mended():
                done = home.undo(run)
                tally.runs += 1
                expect(done.status == 0, f"undo of {run.name} ends with {done.status}: {done.said}")
                said = done.said.rstrip()
                is_done = said == ALL_TAKEN_BACK or said.endswith("that run changed nothing")
                expect(not again or is_done, f"a second undo of {run.name} says {said}")
            expect(home.defined() == self.original, "undo does not give the definitions back")
            expect(home.bystanders() == self.bystanders, "undo does not give the files back")

    def _carrying_on_ends_well(self, home: Home, tally: Tally, expect: Callable[[object, str], None]) -> None:
        done = _fix(home)
        tally.runs += 1
        expect(done.status == UNSEEN, f"carrying on ends with {done.status}: {done.said[-1500:]}")
        expect(home.defined() == self.mended, "carrying on does not end where a run does that nothing cut")
        found = {name: digest for name, digest in home.bystanders().items() if name in self.bystanders}
        expect(found == self.after, "carrying on does not mend the files")
        open_ = [run.name for run in home.mended() if _died_changing(run)]
        expect(not open_, f"the journal of {open_} is not ended after carrying on")
        # what a dead edit or rewrite left is named, and undo removes it; half a report stays in the folder of its run
        named = (home.runs[-1] / "results.json").read_text(encoding="utf-8")
        strays = [name for name in leftovers(home) if not name.endswith(".new") and name not in named]
        expect(not strays, f"carrying on leaves {strays}")
        self._undo_ends_well(home, tally, expect)


def _died_changing(run: Path) -> bool:
    begun, ended = changed(run)
    return bool(begun) and not ended


@pytest.mark.parametrize("name", SCENARIOS)
def test_killed_at_every_point(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    scenario = SCENARIOS[name]
    judge = _judge(tmp_path, scenario)
    tally = walk.walk(tmp_path, scenario, lambda points: scenario.chosen(points, thorough=THOROUGH), _make, judge)
    assert not tally.faults, "\n".join([f"{len(tally.faults)} faults, {tally.counts}", *tally.faults])
    assert tally.cuts >= (20 if THOROUGH else 5)
    record.note(request.node.nodeid, tally.counts)
    assert tally.states


def _judge(folder: Path, scenario: Scenario) -> Judge:
    """What is expected, as a run has it that nothing cuts."""
    with Nursery(folder / "nursery") as nursery:
        home = Home(folder / "home", nursery)
        _make(home)
        original, bystanders = home.defined(), home.bystanders()
        done = _fix(home)
        assert done.status == UNSEEN, done.said
        return Judge(scenario, original, home.defined(), bystanders, home.bystanders())
