"""Does what is copied hold still: is the guest stopped, or does it write elsewhere, from before the copy to its end?"""

from __future__ import annotations

from dataclasses import dataclass
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
    """Whether it holds still, and why nobody can tell."""

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
        """Does *image* hold still for the copy that is step *number*, and for as long as it goes on?

        *asked_after*: the commands before that which asked the guest for its disks, if the job names them so.
        """
        ways: dict[str, Still] = {}
        doubt = ""
        if any(choice in self.asked for choice, _ in copy.call.branch):
            ways["asked"] = Still.MAYBE
            doubt = (
                "whether it copies only while the guest is off shows only when it runs"
            )
        if other := self._held_by_another_line(copy, image, source):
            ways["another line"] = Still.MAYBE
            doubt = f"whether {other} holds it still shows only when both run: each has a time of its own"
        for position, step in enumerate(self.steps):
            if not isinstance(step, NotUnderstood) and step.call.run != copy.call.run:
                continue
            if position > number and _is_over(copy, step):
                break
            sure = self._meets(_branch(step), copy.call.branch)
            if sure is Still.NO:
                continue
            if isinstance(step, Hold) and position < number:
                applies = min(sure, self._applies(step, image, source))
                if applies and self._goes_on(position, number, copy):
                    applies, doubt = (
                        Still.MAYBE,
                        f"whether {step.call.where} has ended by then shows only when it runs",
                    )
                if why := step.doubt or _why_not(step, asked_after):
                    applies = min(applies, Still.MAYBE)
                    doubt = why if applies else doubt
                elif applies is Still.MAYBE:
                    doubt = (
                        doubt
                        or f"whether {step.call.where} holds it still shows only when it runs"
                    )
                ways[step.way] = max(applies, ways.get(step.way, Still.NO))
            elif isinstance(step, Release):
                doubt = self._release(step, ways, sure, image, source) or doubt
            elif (
                isinstance(step, NotUnderstood) and step.may_hold and position < number
            ):
                ways["not understood"] = Still.MAYBE
        still = max(ways.values(), default=Still.NO)
        return Held(
            still, doubt or "what is not understood there may hold the guest still"
        )

    def _held_by_another_line(self, copy: Copy, image: DiskImage, source: str) -> str:
        """Which other line of the cron table holds the image still, if one does."""
        others = (
            one
            for one in self.steps
            if isinstance(one, Hold) and one.call.run != copy.call.run
        )
        return next(
            (one.call.where for one in others if self._applies(one, image, source)), ""
        )

    def _goes_on(self, position: int, number: int, copy: Copy) -> bool:
        """Does step *position* go on in the background, beside the copy?"""
        background = self.steps[position].call.in_background  # type: ignore[union-attr]
        if not background or background == copy.call.in_background:
            return False
        return not any(isinstance(one, Wait) for one in self.steps[position:number])

    def _meets(self, before: Branch, copy: Branch) -> Still:
        """Does what lies on *before* run wherever *copy* does, perhaps, or never?

        "If it runs, shut it down": whatever the answer, it is off afterwards.
        """
        arms = dict(copy)
        if any(arms.get(choice, arm) != arm for choice, arm in before):
            return Still.NO
        here = set(copy)
        return (
            Still.YES
            if all(one in here or one[0] in self.asked for one in before)
            else Still.MAYBE
        )

    def _release(
        self,
        step: Release,
        ways: dict[str, Still],
        sure: Still,
        image: DiskImage,
        source: str,
    ) -> str:
        applies = min(sure, self._names(step.guests, image, source))
        for way in step.ways:
            if applies is Still.YES:
                ways.pop(way, None)
            elif applies is Still.MAYBE and ways.get(way) is Still.YES:
                ways[way] = Still.MAYBE
                return f"whether {step.call.where} lets it go on before the copy shows only when it runs"
        return ""

    def _applies(self, step: Hold, image: DiskImage, source: str) -> Still:
        if image.target and image.target in step.spared:
            return Still.NO
        if step.path and step.path != "/":
            return (
                Still.YES
                if image.path.startswith(step.path.rstrip("/") + "/")
                else Still.NO
            )
        return self._names(step.guests, image, source)

    def _names(self, guests: tuple[str, ...], image: DiskImage, source: str) -> Still:
        """Is the image's guest among *guests*?"""
        if not guests or any(map(image.is_of, guests)):
            return Still.YES
        found = Still.NO
        for one in guests:
            if is_sure(one):
                # a guest that is not known may be that one, and an ID is given when a guest starts
                found = max(
                    found,
                    Still.NO
                    if is_sure(image.guest) and not one.isdecimal()
                    else Still.MAYBE,
                )
                continue
            origin = self.origins.of(one)
            if (origin is not None and origin.every) or one in source:
                return Still.YES
            found = Still.MAYBE
        return found


def _why_not(step: Hold, asked_after: int | None) -> str:
    """Why it may not hold the disks still that the guest names: after its snapshot it names the overlay."""
    if step.way != "overlay" or asked_after is None or asked_after <= step.call.number:
        return ""
    return f"after the snapshot of {step.call.where} the guest names the overlay as its disk, and writes to that"


def _is_over(copy: Copy, step: Step) -> bool:
    """Has *copy* ended before the later *step*? One in the background ends when it is waited for."""
    background = copy.call.in_background
    if not background or isinstance(step, Wait):
        return True
    return not isinstance(step, NotUnderstood) and step.call.in_background == background


def _branch(step: Step) -> Branch:
    if isinstance(step, NotUnderstood):
        return step.branch
    return step.call.branch
