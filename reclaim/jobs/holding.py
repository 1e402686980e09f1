"""Whether an image holds still: its guest is stopped, or writes elsewhere, from before the copy to its end."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from reclaim.jobs.calls import Branch
from reclaim.jobs.images import DiskImage
from reclaim.jobs.steps import Copy, Hold, NotUnderstood, Release, Step, Wait
from reclaim.jobs.words import Origins, is_sure


class Still(IntEnum):
    NO = 0
    MAYBE = 1
    YES = 2


@dataclass(frozen=True)
class Held:
    """Whether it holds still, and why that is in doubt."""

    still: Still
    doubt: str = ""


@dataclass(frozen=True)
class Timeline:
    """All steps of a job, in their order."""

    steps: list[Step]
    origins: Origins
    #: choices that ask whether a guest runs
    asked: frozenset[int] = frozenset()

    def at(
        self,
        number: int,
        copy: Copy,
        image: DiskImage,
        source: str,
        asked_after: int | None = None,
    ) -> Held:
        """Return whether *image* holds still for the copy that is step *number*, and for as long as it goes on.

        *asked_after*: the commands before that which asked the guest for its disks, if the job names them so.
        """
        watch = _Watch(self, number, copy, image, source, asked_after)
        watch.begin()
        for position, step in enumerate(self.steps):
            if _is_of_another_line(step, copy):
                continue
            if position > number and _is_over(copy, step):
                break
            watch.take(position, step)
        return watch.result()

    def held_by_another_line(self, copy: Copy, image: DiskImage, source: str) -> str:
        """Return which other line of the cron table holds the image still, or ""."""
        for step in self.steps:
            if not isinstance(step, Hold):
                continue
            if step.call.run == copy.call.run:
                continue
            if self.applies(step, image, source):
                return step.call.where
        return ""

    def goes_on(self, position: int, number: int, copy: Copy) -> bool:
        """True if step *position* goes on in the background, beside the copy."""
        background = self.steps[position].call.in_background  # type: ignore[union-attr]
        if not background or background == copy.call.in_background:
            return False
        between = self.steps[position:number]
        return not any(isinstance(step, Wait) for step in between)

    def meets(self, before: Branch, copy: Branch) -> Still:
        """Return whether a step on *before* runs whenever *copy* does: surely, perhaps, or never.

        "If it runs, shut it down": whatever the answer, it is off afterwards.
        """
        arms = dict(copy)
        open_choices = set()
        for choice, arm in before:
            if choice not in arms:
                open_choices.add(choice)
            elif arms[choice] != arm:
                return Still.NO
        if open_choices <= self.asked:
            return Still.YES
        return Still.MAYBE

    def names(self, guests: tuple[str, ...], image: DiskImage, source: str) -> Still:
        """Return whether the image's guest is among *guests*; no guests are all of them."""
        if not guests or any(map(image.is_of, guests)):
            return Still.YES
        best = Still.NO
        for guest in guests:
            best = max(best, self._may_name(guest, image, source))
        return best

    def _may_name(self, guest: str, image: DiskImage, source: str) -> Still:
        """Return whether *guest*, by another name than the image's, may be its guest."""
        if is_sure(guest):
            # a guest that is not known may be that one, and an ID is given when a guest starts
            if guest.isdecimal() or not is_sure(image.guest):
                return Still.MAYBE
            return Still.NO
        if guest in source:
            return Still.YES
        origin = self.origins.of(guest)
        if origin is not None and origin.every:
            return Still.YES
        return Still.MAYBE

    def applies(self, step: Hold, image: DiskImage, source: str) -> Still:
        """Return whether *step* holds the image still."""
        if image.target and image.target in step.spared:
            return Still.NO
        if step.path in ("", "/"):
            return self.names(step.guests, image, source)
        folder = step.path.rstrip("/") + "/"
        if image.path.startswith(folder):
            return Still.YES
        return Still.NO


@dataclass
class _Watch:
    """One image, step by step up to the end of its copy, with all that holds it still by now."""

    timeline: Timeline
    number: int
    copy: Copy
    image: DiskImage
    source: str
    asked_after: int | None
    ways: dict[str, Still] = field(default_factory=dict)
    doubt: str = ""

    def begin(self) -> None:
        """Note all that may hold the image still besides the steps before the copy."""
        choices = {choice for choice, _ in self.copy.call.branch}
        if not choices.isdisjoint(self.timeline.asked):
            self.ways["asked"] = Still.MAYBE
            self.doubt = (
                "only a run shows whether it copies only while the guest is off"
            )
        other = self.timeline.held_by_another_line(self.copy, self.image, self.source)
        if other:
            self.ways["another line"] = Still.MAYBE
            self.doubt = f"only a run shows whether {other} holds it still: each has a time of its own"

    def result(self) -> Held:
        """Return whether the image holds still by all that was noted."""
        still = max(self.ways.values(), default=Still.NO)
        doubt = (
            "a command there that reclaim does not understand may hold the guest still"
        )
        return Held(still, self.doubt or doubt)

    def take(self, position: int, step: Step) -> None:
        """Note that *step* holds the image, or lets its guest go on."""
        sure = self.timeline.meets(_branch(step), self.copy.call.branch)
        if sure is Still.NO:
            return
        if isinstance(step, Release):
            self._release(step, sure)
            return
        if position >= self.number:
            return
        if isinstance(step, Hold):
            self._hold(step, position, sure)
        elif isinstance(step, NotUnderstood) and step.may_hold:
            self.ways["not understood"] = Still.MAYBE

    def _hold(self, step: Hold, position: int, sure: Still) -> None:
        where = step.call.where
        before = self.ways.setdefault(step.way, Still.NO)
        applies = min(sure, self.timeline.applies(step, self.image, self.source))
        if applies is Still.NO:
            return
        if self.timeline.goes_on(position, self.number, self.copy):
            applies = Still.MAYBE
            self.doubt = f"only a run shows whether {where} has ended by then"
        why = step.doubt or _why_not_held(step, self.asked_after)
        if why:
            applies = Still.MAYBE
            self.doubt = why
        elif applies is Still.MAYBE and not self.doubt:
            self.doubt = f"only a run shows whether {where} holds it still"
        self.ways[step.way] = max(applies, before)

    def _release(self, step: Release, sure: Still) -> None:
        named = self.timeline.names(step.guests, self.image, self.source)
        applies = min(sure, named)
        for way in step.ways:
            if applies is Still.YES:
                self.ways.pop(way, None)
            elif applies is Still.MAYBE and self.ways.get(way) is Still.YES:
                self.ways[way] = Still.MAYBE
                self.doubt = f"only a run shows whether {step.call.where} lets it go on before the copy"
                return


def _why_not_held(step: Hold, asked_after: int | None) -> str:
    """Return why *step* may not hold the disks that the guest names, or "".

    After its snapshot the guest names the overlay.
    """
    if step.way != "overlay" or asked_after is None:
        return ""
    if asked_after <= step.call.number:
        return ""
    return f"after the snapshot of {step.call.where} the guest names the overlay as its disk, and writes to that"


def _is_of_another_line(step: Step, copy: Copy) -> bool:
    """True if another line of the cron table runs *step*. A part that was not understood may belong to any line."""
    if isinstance(step, NotUnderstood):
        return False
    return step.call.run != copy.call.run


def _is_over(copy: Copy, step: Step) -> bool:
    """True if *copy* has ended before the later *step*: one in the background ends when it is waited for."""
    background = copy.call.in_background
    if not background or isinstance(step, Wait):
        return True
    if isinstance(step, NotUnderstood):
        return False
    return step.call.in_background == background


def _branch(step: Step) -> Branch:
    if isinstance(step, NotUnderstood):
        return step.branch
    return step.call.branch
