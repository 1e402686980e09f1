"""From the steps of a job to its verdict: what is wrong with each copy, what mends it, and what nobody can tell."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from reclaim.base.text import printable
from reclaim.jobs import rsync
from reclaim.jobs.calls import Call
from reclaim.jobs.holding import Still, Timeline
from reclaim.jobs.images import Copied, DiskImage, FoundImage, Map
from reclaim.jobs.steps import (
    Copy,
    Hold,
    NotUnderstood,
    Release,
    Snapshot,
    Steps,
    TrimStep,
)
from reclaim.jobs.words import Word, is_sure

#: things that cannot be told and are named
_MOST_DOUBTS = 50
#: with these a second rsync, or cp, may leave there what the first one wrote
_KEEPS_THE_FIRST = ("size-only", "ignore-existing", "append", "append-verify", "update")
_CP_KEEPS_THE_FIRST = re.compile(r"-[a-zA-Z]*[nu]|--update|--no-clobber")


@dataclass(frozen=True)
class LineEdit:
    """Bytes start..end of the job's file become *text*; with no text the blank before them goes too."""

    start: int
    end: int
    text: str


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, and the edits that mend it; none where `by_hand` says what to do."""

    line: int
    text: str
    edits: tuple[LineEdit, ...] = ()
    by_hand: str = ""
    where: str = ""

    @property
    def advice(self) -> str:
        """What to do by hand, and where."""
        return printable(f"{self.where or f'line {self.line}'}: {self.by_hand}")

    def __str__(self) -> str:
        return printable(f"{self.where or f'line {self.line}'}: {self.text}")


@dataclass
class Assessment:
    """What a job's commands come to: findings, what is in order, and what cannot be told."""

    findings: list[Finding] = field(default_factory=list)
    good: list[str] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)

    def doubt(self, text: str) -> None:
        """Note what cannot be told, once."""
        text = printable(text)
        if text not in self.unclear and len(self.unclear) < _MOST_DOUBTS:
            self.unclear.append(text)


@dataclass
class Untrimmed:
    """The running guests whose images a job copies before it trims them, with the first copy that does.

    `trimmed` are those that it trims before; `doubts` are what was not understood.
    """

    copies: list[tuple[str, Call]] = field(default_factory=list)
    trimmed: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)


class Machine(Protocol):
    """What the hypervisor is asked."""

    def rsync_version(self, command: str) -> rsync.Version | None: ...

    def snapshots(self, target: str) -> str | None:
        """Why the target shares blocks with snapshots; None where it does not, or nobody can tell."""
        ...

    def same_filesystem(self, one: str, other: str) -> bool: ...

    def real(self, path: str) -> str:
        """Where symbolic links lead to."""
        ...

    def size(self, path: str) -> int | None: ...

    def is_block_device(self, path: str) -> bool: ...


def _note_held(step: Hold | Release, names: Mapping[str, str], held: set[str]) -> None:
    """Which guests are surely stopped, paused or frozen after *step*: in those nothing trims."""
    guests = (
        {names[one] for one in step.guests if one in names}
        if step.guests
        else set(names.values())
    )
    if isinstance(step, Release) and "run" in step.ways:
        held -= guests
    elif (
        isinstance(step, Hold)
        and step.way == "run"
        and not step.call.branch
        and step.guests
    ):
        held |= guests


@dataclass
class Judge:
    """Judges the steps of one job."""

    steps: Steps
    images: Map
    machine: Machine
    is_rsnapshot: bool = False
    #: may the file be edited? Not where a part of it was not parsed
    whole: bool = True
    asked: frozenset[int] = frozenset()
    found: Assessment = field(default_factory=Assessment)
    _told: set[Finding] = field(default_factory=set)

    def judged(self) -> Assessment:
        timeline = Timeline(self.steps.all, self.images.origins, self.asked)
        plans: list[_Plan] = []
        for number, step in enumerate(self.steps.all):
            if isinstance(step, NotUnderstood):
                self.found.doubt(step.text)
            elif isinstance(step, Snapshot):
                self.images.take(step)
            elif isinstance(step, Copy):
                copied = self._copied(step)
                if step.tool == "mv" and all(one.still for one in copied.sure):
                    continue
                self.images.copied_to(step.target, copied)
                if step.at_once and step.target and step.tool == "cp":
                    self._cloned(step)
                before = len(self.found.findings) + len(self.found.unclear) + len(plans)
                plans += self._copy(step, copied)
                if copied.sure or copied.of_guests:
                    self._torn(step, copied, number, timeline)
                    if (
                        len(self.found.findings) + len(self.found.unclear) + len(plans)
                        == before
                        and not step.rsync
                    ):
                        self.found.good.append(
                            printable(f"{step.call.where}: {step.good or step.tool}")
                        )
        self._settle(plans)
        return self.found

    def untrimmed(self, names: Mapping[str, str]) -> Untrimmed:
        """The guests that are copied and not trimmed before; *names* are those of the guests by name and UUID."""
        found = Untrimmed()
        trimmed, maybe = set[tuple[str, int]](), set[tuple[str, int]]()
        held: set[str] = set()
        for step in self.steps.all:
            if isinstance(step, NotUnderstood):
                found.doubts.append(printable(step.text))
            elif isinstance(step, Snapshot):
                self.images.take(step)
            elif isinstance(step, TrimStep):
                run = step.call.run
                meant = {(names[one], run) for one in step.guests if one in names}
                effective = {one for one in meant if one[0] not in held}
                (maybe if step.call.branch else trimmed).update(effective)
                found.doubts += (
                    []
                    if meant
                    else [f"{step.call.where}: which guest it trims is not known"]
                )
            elif isinstance(step, Hold | Release):
                _note_held(step, names, held)
            elif isinstance(step, Copy):
                run = step.call.run
                for guest in self._copied_running(step, found):
                    self._add_untrimmed(
                        guest,
                        step.call,
                        found,
                        is_trimmed=(guest, run) in trimmed,
                        maybe=(guest, run) in maybe,
                    )
        return found

    def _copied_running(self, copy: Copy, found: Untrimmed) -> list[str]:
        """The running guests whose images the step copies, in their order."""
        copied = self._copied(copy)
        self.images.copied_to(copy.target, copied)
        if copied.doubt or copied.of_guests:
            found.doubts.append(
                printable(
                    f"{copy.call.where}: {copy.tool}: which images it copies is not known"
                )
            )
        return list(
            dict.fromkeys(one.image.running for one in copied.sure if one.image.running)
        )

    def _add_untrimmed(
        self, guest: str, call: Call, found: Untrimmed, *, is_trimmed: bool, maybe: bool
    ) -> None:
        if is_trimmed:
            found.trimmed += [] if guest in found.trimmed else [guest]
        elif maybe:
            found.doubts.append(
                f"{call.where}: whether {printable(guest)} is trimmed before shows only when it runs"
            )
        elif not any(
            guest == name and (call.file, call.line) == (one.file, one.line)
            for name, one in found.copies
        ):
            found.copies.append((guest, call))

    def _cloned(self, copy: Copy) -> None:
        for source in copy.sources:
            self.images.take(Snapshot(copy.call, source, copy.target))

    def _copied(self, copy: Copy) -> Copied:
        copied = self.images.below(copy, self._reads_nodes(copy))
        if not copied.sure and not copied.of_guests and not copied.doubt:
            followed = replace(
                copy, sources=tuple(self._followed(copy, one) for one in copy.sources)
            )
            if followed.sources != copy.sources:
                copied = self.images.below(followed, self._reads_nodes(copy))
        kept = []
        for one in copied.sure:
            path = one.image.path
            if (
                copy.one_filesystem
                and one.source != path
                and not self.machine.same_filesystem(one.source, path)
            ):
                continue
            if copy.largest is not None:
                size = self.machine.size(path)
                if not copy.largest or size is None:
                    copied.maybe_left_out = True
                    continue
                if size > copy.largest:
                    continue
            kept.append(one)
        copied.sure = kept
        return copied

    def _reads_nodes(self, copy: Copy) -> Callable[[str], bool]:
        return lambda tool: tool == "rsync" and copy.reads_devices

    def _followed(self, copy: Copy, source: str) -> str:
        """*source* without symbolic links on the way to it; the last name too if what it leads to is read."""
        if (
            not source.startswith("/")
            or not is_sure(source)
            or re.search(r"[*?\[]", source)
        ):
            return source
        if source.endswith(("/", "/.")) or copy.reads_devices or copy.tool == "scp":
            return self.machine.real(source) + ("/" if source.endswith("/") else "")
        folder, _, name = source.rpartition("/")
        return f"{self.machine.real(folder or '/').rstrip('/')}/{name}"

    # One copy ---------------------------------------------------------------------------------

    def _copy(self, copy: Copy, copied: Copied) -> list[_Plan]:
        where = copy.call.where
        surely = bool(copied.sure or copied.of_guests)
        if not surely:
            plan = self._rsync(copy, copied) if copy.rsync else None
            if copied.maybe_left_out:
                what = (
                    "its list of exclusions leaves"
                    if copy.tool == "tar"
                    else "its filter rules leave"
                )
                self.found.doubt(
                    f"{where}: {copy.tool}: whether {what} out the images is not judged"
                )
            elif copied.doubt or copy.tool == "btrfs send":
                self.found.doubt(f"{where}: {copy.tool}: {copied.doubt or copy.store}")
            # it may run with other words elsewhere, and must not be mended there for what is wrong here
            return (
                [replace(plan, problems=(), unclear=(), told=(), good="")]
                if plan
                else []
            )
        if copied.maybe_left_out or copied.doubt:
            self.found.doubt(
                f"{where}: {copy.tool}: {copied.doubt or 'whether it leaves out images is not judged'}"
            )
        if copy.rsync is not None:
            return [self._rsync(copy, copied)]
        for one in copy.wrong:
            self.found.findings.append(
                self._finding(copy.call, one.text, by_hand=one.by_hand)
            )
        if (
            copy.store
            and not copy.wrong
            and not (copy.is_whole and self._is_copied_on(copy))
        ):
            self.found.doubt(f"{where}: {copy.tool}: {copy.store}")
        return []

    def _is_copied_on(self, copy: Copy) -> bool:
        """Does the job copy what *copy* wrote, wherever that runs?"""
        later = self.steps.all[self.steps.all.index(copy) + 1 :]
        return any(isinstance(one, Copy) and copy.target in one.sources and one.call.branch == copy.call.branch
                   for one in later)  # fmt: skip

    def _finding(
        self,
        call: Call,
        text: str,
        *,
        by_hand: str = "",
        edits: tuple[LineEdit, ...] = (),
    ) -> Finding:
        return Finding(call.line, text, edits, by_hand, call.where)

    def _torn(
        self, copy: Copy, copied: Copied, number: int, timeline: Timeline
    ) -> None:
        if copy.at_once or copy.locks:
            return
        torn, doubts = [], []
        for one in copied.sure:
            if one.still or not one.image.running or one.image.running in torn:
                continue
            held = timeline.at(number, copy, one.image, one.source, copied.asked_after)
            if held.still is Still.NO and self._is_copied_again(
                copy, one, number, timeline
            ):
                continue
            if held.still is Still.NO:
                torn.append(one.image.running)
            elif held.still is Still.MAYBE:
                doubts.append(held.doubt)
        for guest in copied.of_guests:
            held = timeline.at(
                number, copy, DiskImage("", guest, guest), guest, copied.asked_after
            )
            if held.still is not Still.YES:
                unknown = (
                    "whether the guests whose images it copies hold still is not known"
                )
                doubts.append(
                    held.doubt
                    if held.still is Still.MAYBE and copied.asked_after is not None
                    else unknown
                )
        if torn:
            text = f"{copy.tool} copies the images of running guests while they are written to ({', '.join(torn[:3])})"
            hand = (
                "take a snapshot first (virsh backup-begin, or a disk-only snapshot), "
                "or shut the guest down for the copy"
            )
            self.found.findings.append(
                self._finding(copy.call, f"{text}: the copy is torn", by_hand=hand)
            )
        for doubt in dict.fromkeys(doubts):
            self.found.doubt(f"{copy.call.where}: {copy.tool}: {doubt}")

    def _is_copied_again(
        self, copy: Copy, one: FoundImage, number: int, timeline: Timeline
    ) -> bool:
        """Does the job make the same copy again, while the image holds still? The first pass makes the second short."""
        if not copy.target or copy.tool not in ("rsync", "cp"):
            return False
        if copy.rsync is not None and (
            copy.rsync.doubtful or any(map(copy.rsync.has, _KEEPS_THE_FIRST))
        ):
            return False
        if copy.tool == "cp" and any(map(_CP_KEEPS_THE_FIRST.match, copy.call.texts)):
            return False
        return any(
            isinstance(later, Copy)
            and (
                later.tool,
                later.sources,
                later.target,
                later.call.run,
                later.call.branch,
            )
            == (copy.tool, copy.sources, copy.target, copy.call.run, copy.call.branch)
            and timeline.at(position, later, one.image, one.source).still is Still.YES
            for position, later in enumerate(
                self.steps.all[number + 1 :], start=number + 1
            )
        )

    # rsync ------------------------------------------------------------------------------------

    def _rsync(self, copy: Copy, copied: Copied) -> _Plan:
        """What is wrong with one call of rsync, and what would mend all of it."""
        line = copy.rsync
        assert line is not None
        plan = _Plan(copy, line)
        surely = bool(copied.sure or copied.of_guests)
        if line.doubtful:
            if surely:
                self.found.doubt(
                    f"{copy.call.where}: rsync: its options are put together when it runs"
                )
            return replace(plan, forbids=True)
        if (
            line.writes_devices
            or rsync.is_device(copy.target)
            or self._is_block_device(copy)
        ):
            return self._onto_a_device(plan, surely=surely)
        is_systems = line.writes_here and not copy.call.other_programs
        version = (
            self.machine.rsync_version(copy.call.words[0].text) if is_systems else None
        )
        snapshots = self.machine.snapshots(copy.target) if line.writes_here else None
        return self._options(plan, version, snapshots)

    def _is_block_device(self, copy: Copy) -> bool:
        return copy.target.startswith("/") and self.machine.is_block_device(copy.target)

    def _onto_a_device(self, plan: _Plan, *, surely: bool) -> _Plan:
        """A device has no holes, and --sparse would leave there what was there before."""
        if plan.line.has("sparse"):
            text = "rsync --sparse onto a device fails, or leaves there what was there before: a device has no holes"
            return replace(
                plan, problems=(text,), by_hand="take --sparse (-S) out", forbids=True
            )
        good = f"{plan.copy.call.where}: rsync onto a device, which has no holes"
        return replace(plan, forbids=True, good=good if surely else "")

    def _options(
        self, plan: _Plan, version: rsync.Version | None, snapshots: str | None
    ) -> _Plan:
        line = plan.line
        plan = _without_preallocation(plan, version)
        if not line.has("sparse"):
            plan = plan.wrong(
                "rsync without --sparse writes every zero: the copy is as large as the disk"
            )
            plan = plan.adding("--sparse").dropping(line.options.get("no-sparse"))
        shown = (
            "rsync " + ".".join(map(str, version))
            if version
            else "an rsync whose version cannot be told"
        )
        links = self.is_rsnapshot or self.steps.links_generations
        if line.has("inplace"):
            return _with_inplace(plan, version, shown, snapshots, links=links)
        if snapshots and not (links or line.has("link-dest")):
            return _on_snapshots(plan, version, shown, snapshots)
        return _good(plan)

    # All of them ------------------------------------------------------------------------------

    def _settle(self, plans: list[_Plan]) -> None:
        """Make findings of the plans. A place in the file is edited only if that is right for all that run it."""
        at: dict[int | None, list[_Plan]] = {}
        for plan in plans:
            at.setdefault(plan.copy.call.insert, []).append(plan)
        for plan in plans:
            others = at[plan.copy.call.insert]
            reason = ""
            if not self.whole:
                reason = f"{plan.in_words()}; a part of the file cannot be parsed, so it is not edited"
            elif plan.copy.call.insert is not None and not all(
                one.allows(plan) for one in others
            ):
                reason = (
                    "this line runs with other words too, for which that would be wrong: "
                    "give each a line of its own"
                )
            self._tell(plan, reason)

    def _tell(self, plan: _Plan, reason: str) -> None:
        call = plan.copy.call
        hand = plan.by_hand
        edits = () if hand or reason else plan.edits()
        if plan.problems and not hand and not edits:
            hand = reason or plan.in_words()
        for text in plan.problems:
            finding = self._finding(
                call, text, by_hand="" if edits else hand, edits=edits
            )
            if finding not in self._told:
                self._told.add(finding)
                self.found.findings.append(finding)
        for text in plan.unclear:
            self.found.doubt(text)
        for text in plan.told:
            self.found.good.append(printable(text))
        if plan.good and not plan.problems and not plan.unclear:
            self.found.good.append(printable(plan.good))


@dataclass(frozen=True)
class _Plan:
    """What is wrong with one call of rsync, and the options that together mend it: all of them, or none.

    `forbids`: --sparse must not be added where this call runs.
    """

    copy: Copy
    line: rsync.Line
    problems: tuple[str, ...] = ()
    add: tuple[str, ...] = ()
    drop: tuple[Word, ...] = ()
    by_hand: str = ""
    forbids: bool = False
    unclear: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    good: str = ""

    def wrong(self, text: str) -> _Plan:
        return replace(self, problems=(*self.problems, text))

    def adding(self, *options: str) -> _Plan:
        return replace(self, add=(*self.add, *options))

    def dropping(self, *words: Word | None) -> _Plan:
        return replace(
            self, drop=(*self.drop, *(one for one in words if one is not None))
        )

    def allows(self, other: _Plan) -> bool:
        """Would the edits of *other* be right for this call too?"""
        if self is other or not other.problems:
            return True
        if self.forbids or (self.by_hand and other.add):
            return False
        if {"--inplace", "--no-whole-file"} & set(other.add):
            return self.add == other.add
        return True

    def in_words(self) -> str:
        """The whole mend, for people."""
        parts = [f"add {' '.join(self.add)}"] if self.add else []
        parts += [f"take {word.text} out where it is set" for word in self.drop]
        return ", ".join(parts) + (
            ": all of it, or nothing" if len(self.add) + len(self.drop) > 1 else ""
        )

    def edits(self) -> tuple[LineEdit, ...]:
        """The whole mend in the file; nothing where a part of it has no place there."""
        call = self.copy.call
        if call.insert is None and self.add:
            return ()
        edits = [
            LineEdit(call.insert or 0, call.insert or 0, call.form.format(option))
            for option in self.add
        ]
        for word in self.drop:
            if word.start is None or word.end is None or not _has_place(word):
                return ()
            edits.append(LineEdit(word.start, word.end, ""))
        return tuple(edits)


def _without_preallocation(plan: _Plan, version: rsync.Version | None) -> _Plan:
    """Measured with 3.2.7, 3.4.1 and 3.5.0: only 3.5.0 with --sparse --inplace punches what it preallocated."""
    line = plan.line
    if not line.has("preallocate"):
        return plan
    if (
        version
        and version >= rsync.REWRITES_LESS
        and line.has("inplace")
        and line.has("sparse")
    ):
        return plan
    plan = plan.wrong(
        "rsync --preallocate allocates all of the copy, also with --sparse"
    )
    return plan.dropping(line.options["preallocate"])


def _with_inplace(
    plan: _Plan,
    version: rsync.Version | None,
    shown: str,
    snapshots: str | None,
    *,
    links: bool,
) -> _Plan:
    """--inplace is unsafe with --sparse before 3.3.0, and ruins hard-linked generations."""
    where, line = plan.copy.call.where, plan.line
    word = line.options["inplace"]
    if word.text.startswith("--append"):
        plan = plan.wrong(
            f"rsync {word.text} never writes again what changed within an image"
        )
        return replace(
            plan, by_hand=f"take {word.text} out, and add --sparse", forbids=True
        )
    if links:
        plan = plan.wrong(
            "rsync --inplace writes through the hard links into every earlier copy"
        ).dropping(word)
        return replace(plan, forbids="--sparse" in plan.add)
    if version is None:
        if "--sparse" in plan.add:
            hand = "add --sparse where the rsync that writes is 3.3.0 or newer, else put it in the place of --inplace"
            return replace(plan, by_hand=hand, forbids=True)
        end = (
            "needs rsync 3.3.0 at the other end"
            if not line.writes_here
            else f"needs rsync 3.3.0, and this is {shown}"
        )
        return replace(plan, unclear=(f"{where}: rsync --inplace with --sparse {end}",))
    if version < rsync.SAFE:
        return _unsafe_inplace(plan, version, shown, snapshots, word)
    if plan.line.keeps_unchanged_blocks:
        return (
            _priced(plan, version, shown, snapshots)
            if "--sparse" in plan.add
            else _good(plan)
        )
    return _on_snapshots(plan, version, shown, snapshots) if snapshots else _good(plan)


def _unsafe_inplace(
    plan: _Plan, version: rsync.Version, shown: str, snapshots: str | None, word: Word
) -> _Plan:
    why = "refuses --sparse with --inplace" if version < rsync.TOGETHER else (
        "can leave other data in the copy with --sparse --inplace (mended in 3.3.0)"
    )  # fmt: skip
    price = (
        "until rsync is 3.3.0 or newer each snapshot takes the whole copy"
        if snapshots
        else ""
    )
    plan = plan.wrong(
        f"{shown} {why}; {price or 'without --inplace it is safe'}"
    ).dropping(word)
    if snapshots and plan.line.keeps_unchanged_blocks:
        hand = (
            "with rsync before 3.3.0 either take --sparse out, which fills the copy, or --inplace: "
            + price
        )
        return replace(plan, by_hand=hand, forbids=True)
    return replace(plan, forbids="--sparse" in plan.add and not _has_place(word))


def _has_place(word: Word) -> bool:
    return (
        word.start is not None
        and word.is_literal
        and word.text.startswith("--")
        and not word.text.startswith("--append")
    )


def _priced(
    plan: _Plan, version: rsync.Version, shown: str, snapshots: str | None
) -> _Plan:
    """--sparse beside --inplace --no-whole-file: a snapshot may come to take more than it does."""
    if version >= rsync.REWRITES_LESS and not snapshots:
        return plan
    dear = "14.5 MiB" if version >= rsync.REWRITES_LESS else "106 MiB"
    hand = (
        f"choose: without --sparse the copy is as large as the disk, and a snapshot takes what changed; with it "
        f"{shown} writes blocks that end in zeros again, and a snapshot takes more (measured: {dear} in the place of "
        "1 MiB, for an image of 327 MiB full of small files)"
    )
    return replace(plan, by_hand=hand, forbids=True)


def _on_snapshots(
    plan: _Plan, version: rsync.Version | None, shown: str, snapshots: str
) -> _Plan:
    """A copy that is written whole shares nothing with snapshots."""
    line = plan.line
    if version is None or version < rsync.SAFE:
        text = f"{snapshots}, which share nothing with a replaced copy: rsync 3.3.0 could (here {shown})"
        return _good(replace(plan, told=() if plan.problems else (text,)), quiet=True)
    plan = plan.wrong(
        f"{snapshots}: a copy that is written whole shares nothing with them"
    )
    if refused := [
        f"--{name}" for name in ("partial-dir", "delay-updates") if line.has(name)
    ]:
        hand = f"put --inplace --no-whole-file in the place of {' and '.join(refused)}: rsync refuses them together"
        if "--sparse" in plan.add:
            hand = f"add --sparse; {hand}"
        return replace(plan, by_hand=hand)
    add = [
        option
        for option in ("--inplace", "--no-whole-file")
        if not line.has(option[2:])
    ]
    return plan.adding(*add).dropping(line.options.get("whole-file"))


def _good(plan: _Plan, *, quiet: bool = False) -> _Plan:
    if plan.problems or quiet:
        return plan
    words = " ".join(
        f"--{name}"
        for name in ("sparse", "inplace", "no-whole-file")
        if plan.line.has(name)
    )
    return replace(plan, good=f"{plan.copy.call.where}: rsync {words}")


def edited(source: bytes, findings: Iterable[Finding]) -> bytes:
    """*source* with the edits of *findings*, each place once; from the end, so that offsets hold."""
    places: dict[tuple[int, int], list[str]] = {}
    for finding in findings:
        for edit in finding.edits:
            texts = places.setdefault((edit.start, edit.end), [])
            if edit.text not in texts:
                texts.append(edit.text)
    for (start, end), texts in sorted(places.items(), reverse=True):
        text = "".join(texts)
        # the blank before goes too; a line's end stays, since a backslash may stand before it
        first = (
            start - 1
            if not text and source[start - 1 : start] in (b" ", b"\t")
            else start
        )
        source = source[:first] + text.encode() + source[end:]
    return source
