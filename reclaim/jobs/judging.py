"""From the steps of a job to its verdict: faults of each copy, edits that mend them, and doubts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from reclaim.base.text import printable
from reclaim.jobs import rsync
from reclaim.jobs.calls import Call
from reclaim.jobs.holding import Still, Timeline
from reclaim.jobs.images import Copied, DiskImage, FoundImage, Map, is_plain
from reclaim.jobs.steps import (
    Copy,
    Hold,
    NotUnderstood,
    Release,
    Snapshot,
    Steps,
    TrimStep,
)
from reclaim.jobs.words import Word

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
    """One fault, and the edits that mend it; none if `by_hand` holds the advice."""

    line: int
    text: str
    edits: tuple[LineEdit, ...] = ()
    by_hand: str = ""
    where: str = ""

    @property
    def advice(self) -> str:
        """Return the advice for mending it by hand, with its line."""
        return self._with_its_line(self.by_hand)

    def __str__(self) -> str:
        return self._with_its_line(self.text)

    def _with_its_line(self, text: str) -> str:
        where = self.where or f"line {self.line}"
        return printable(f"{where}: {text}")


@dataclass
class Assessment:
    """The result for a job's commands: findings, copies in order, and doubts."""

    findings: list[Finding] = field(default_factory=list)
    good: list[str] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)

    def doubt(self, text: str) -> None:
        """Note a doubt, once."""
        if len(self.unclear) >= _MOST_DOUBTS:
            return
        text = printable(text)
        if text not in self.unclear:
            self.unclear.append(text)

    def praise(self, text: str) -> None:
        """Note a copy that keeps holes."""
        self.good.append(printable(text))


@dataclass
class Untrimmed:
    """The running guests whose images a job copies before it trims them, with the first copy that does.

    `trimmed` are those that it trims before; `doubts` are the parts not understood.
    """

    copies: list[tuple[str, Call]] = field(default_factory=list)
    trimmed: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)


class Machine(Protocol):
    """The questions that the hypervisor answers."""

    def rsync_version(self, command: str) -> rsync.Version | None: ...

    def snapshots(self, target: str) -> str | None:
        """Return why the target shares blocks with snapshots; None if it does not, or that cannot be told."""
        ...

    def same_filesystem(self, one: str, other: str) -> bool: ...

    def real(self, path: str) -> str:
        """Return the path that symbolic links lead to."""
        ...

    def size(self, path: str) -> int | None: ...

    def is_block_device(self, path: str) -> bool: ...


def _known_guests(guests: Iterable[str], names: Mapping[str, str]) -> set[str]:
    """The names of those of *guests* that are known."""
    known = set()
    for guest in guests:
        if guest in names:
            known.add(names[guest])
    return known


@dataclass
class _Trims:
    """The guests that were trimmed by now, each with the line of the cron table, and those that are held."""

    surely: set[tuple[str, int]] = field(default_factory=set)
    maybe: set[tuple[str, int]] = field(default_factory=set)
    held: set[str] = field(default_factory=set)

    def take(self, step: TrimStep, names: Mapping[str, str]) -> bool:
        """Note which guests *step* trims. False if it names none that is known."""
        meant = _known_guests(step.guests, names)
        run = step.call.run
        trimmed = self.surely
        if step.call.branch:
            trimmed = self.maybe
        for guest in meant - self.held:
            trimmed.add((guest, run))
        return bool(meant)

    def hold(self, step: Hold, names: Mapping[str, str]) -> None:
        """Note the guests that *step* surely stops, pauses or freezes: in those nothing trims."""
        if step.way == "run" and not step.call.branch:
            self.held |= _known_guests(step.guests, names)

    def release(self, step: Release, names: Mapping[str, str]) -> None:
        """Note the guests that run again after *step*; a step that names none is for all."""
        if "run" not in step.ways:
            return
        if step.guests:
            self.held -= _known_guests(step.guests, names)
        else:
            self.held.clear()


def _add_untrimmed(guest: str, call: Call, result: Untrimmed, trims: _Trims) -> None:
    if (guest, call.run) in trims.surely:
        if guest not in result.trimmed:
            result.trimmed.append(guest)
        return
    if (guest, call.run) in trims.maybe:
        result.doubts.append(
            f"{call.where}: only a run shows whether {printable(guest)} is trimmed before"
        )
        return
    lines = [(name, copy.file, copy.line) for name, copy in result.copies]
    if (guest, call.file, call.line) not in lines:
        result.copies.append((guest, call))


def _same_copy(copy: Copy) -> tuple[object, ...]:
    """All that two copies have in common if the second makes the first anew."""
    call = copy.call
    return copy.tool, copy.sources, copy.target, call.run, call.branch


def _keeps_the_first(copy: Copy) -> bool:
    """True if the copy may leave in place the bytes that an earlier one wrote.

    So does any program but cp and rsync, as far as reclaim knows.
    """
    if copy.tool == "cp":
        return any(map(_CP_KEEPS_THE_FIRST.match, copy.call.texts))
    if copy.rsync is None or copy.rsync.doubtful:
        return True
    return any(map(copy.rsync.has, _KEEPS_THE_FIRST))


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
                plans += self._judge_copy(step, number, timeline)
        self._settle(plans)
        return self.found

    def _judge_copy(self, copy: Copy, number: int, timeline: Timeline) -> list[_Plan]:
        copied = self._copied(copy)
        if copy.tool == "mv" and copied.are_still:
            return []
        self.images.copied_to(copy.target, copied)
        if copy.tool == "cp" and copy.at_once:
            self._cloned(copy)
        noted = self._noted()
        plans = self._copy(copy, copied)
        if not copied.surely:
            return plans
        self._torn(copy, copied, number, timeline)
        if copy.rsync is None and self._noted() == noted:
            reason = copy.good or copy.tool
            self.found.praise(f"{copy.call.where}: {reason}")
        return plans

    def _noted(self) -> int:
        """The number of findings and doubts until now."""
        return len(self.found.findings) + len(self.found.unclear)

    def untrimmed(self, names: Mapping[str, str]) -> Untrimmed:
        """Return the guests that are copied and not trimmed before.

        *names* are those of the guests by name and UUID.
        """
        result = Untrimmed()
        trims = _Trims()
        for step in self.steps.all:
            match step:
                case NotUnderstood():
                    result.doubts.append(printable(step.text))
                case Snapshot():
                    self.images.take(step)
                case TrimStep():
                    if not trims.take(step, names):
                        result.doubts.append(
                            f"{step.call.where}: reclaim does not know which guest it trims"
                        )
                case Hold():
                    trims.hold(step, names)
                case Release():
                    trims.release(step, names)
                case Copy():
                    for guest in self._copied_running(step, result):
                        _add_untrimmed(guest, step.call, result, trims)
        return result

    def _copied_running(self, copy: Copy, result: Untrimmed) -> list[str]:
        """The running guests whose images the step copies, in their order."""
        copied = self._copied(copy)
        self.images.copied_to(copy.target, copied)
        if copied.doubt or copied.of_guests:
            text = "reclaim does not know which images it copies"
            result.doubts.append(printable(f"{copy.call.where}: {copy.tool}: {text}"))
        running = []
        for copied_image in copied.sure:
            guest = copied_image.image.running
            if guest and guest not in running:
                running.append(guest)
        return running

    def _cloned(self, copy: Copy) -> None:
        for source in copy.sources:
            self.images.take(Snapshot(copy.call, source, copy.target))

    def _copied(self, copy: Copy) -> Copied:
        reads_nodes = self._reads_nodes(copy)
        copied = self.images.below(copy, reads_nodes)
        if not copied.surely and not copied.doubt:
            sources = tuple(self._followed(copy, source) for source in copy.sources)
            if sources != copy.sources:
                followed = replace(copy, sources=sources)
                copied = self.images.below(followed, reads_nodes)
        self._leave_out(copy, copied)
        return copied

    def _leave_out(self, copy: Copy, copied: Copied) -> None:
        """Take the images out of *copied* that --one-file-system or --max-size keeps from the copy."""
        kept = []
        for image in copied.sure:
            if self._is_on_another_filesystem(copy, image):
                continue
            is_left_out = self._is_too_large(copy, image)
            if is_left_out is None:
                copied.maybe_left_out = True
            elif not is_left_out:
                kept.append(image)
        copied.sure = kept

    def _is_on_another_filesystem(self, copy: Copy, image: FoundImage) -> bool:
        """True if *copy* stays on one filesystem and the image lies on another."""
        path = image.image.path
        if not copy.one_filesystem or image.source == path:
            return False
        return not self.machine.same_filesystem(image.source, path)

    def _is_too_large(self, copy: Copy, image: FoundImage) -> bool | None:
        """True if --max-size leaves the image out; None if that cannot be told."""
        if copy.largest is None:
            return False
        size = self.machine.size(image.image.path)
        if size is None or not copy.largest:
            return None
        return size > copy.largest

    def _reads_nodes(self, copy: Copy) -> Callable[[str], bool]:
        return lambda tool: tool == "rsync" and copy.reads_devices

    def _followed(self, copy: Copy, source: str) -> str:
        """Return *source* without symbolic links on the way to it, and in its last name if the copy follows that."""
        if not is_plain(source):
            return source
        if source.endswith("/"):
            return self.machine.real(source) + "/"
        follows = copy.reads_devices or copy.tool == "scp"
        if follows or source.endswith("/."):
            return self.machine.real(source)
        folder, _, name = source.rpartition("/")
        above = self.machine.real(folder or "/")
        return f"{above.rstrip('/')}/{name}"

    # One copy ---------------------------------------------------------------------------------

    def _copy(self, copy: Copy, copied: Copied) -> list[_Plan]:
        """Judge how the images are copied. Only a copy by rsync has a plan for its mending."""
        if not copied.surely:
            return self._copy_of_perhaps(copy, copied)
        doubt = copied.doubt
        if not doubt and copied.maybe_left_out:
            doubt = "reclaim does not judge whether it skips images"
        if doubt:
            self._doubt(copy, doubt)
        if copy.rsync is not None:
            return [self._rsync(copy, copied)]
        self._other_program(copy)
        return []

    def _other_program(self, copy: Copy) -> None:
        """Judge a copy by another program than rsync, whose words alone decide."""
        for wrong in copy.wrong:
            finding = self._finding(copy.call, wrong.text, by_hand=wrong.by_hand)
            self.found.findings.append(finding)
        if copy.wrong or not copy.store:
            return
        if copy.is_whole and self._is_copied_on(copy):
            return
        self._doubt(copy, copy.store)

    def _copy_of_perhaps(self, copy: Copy, copied: Copied) -> list[_Plan]:
        """Judge a copy of which no image is sure."""
        doubt = _doubt_of_perhaps(copy, copied)
        if doubt:
            self._doubt(copy, doubt)
        if copy.rsync is None:
            return []
        plan = self._rsync(copy, copied)
        # it may run with other words elsewhere, and must not be mended there for what is wrong here
        return [replace(plan, problems=(), unclear=(), told=(), good="")]

    def _doubt(self, copy: Copy, text: str) -> None:
        self.found.doubt(f"{copy.call.where}: {copy.tool}: {text}")

    def _is_copied_on(self, copy: Copy) -> bool:
        """True if the job copies the file that *copy* wrote, whenever that runs."""
        position = self.steps.all.index(copy)
        for later in self.steps.all[position + 1 :]:
            if not isinstance(later, Copy) or copy.target not in later.sources:
                continue
            if later.call.branch == copy.call.branch:
                return True
        return False

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
        """Note which images their guests write to while they are copied."""
        if copy.at_once or copy.locks:
            return
        torn: list[str] = []
        doubts = []
        for written in copied.sure:
            guest = written.writer
            if not guest or guest in torn:
                continue
            held = timeline.at(
                number, copy, written.image, written.source, copied.asked_after
            )
            if held.still is Still.MAYBE:
                doubts.append(held.doubt)
            if held.still is not Still.NO:
                continue
            if not self._is_copied_again(copy, written, number, timeline):
                torn.append(guest)
        for guest in copied.of_guests:
            doubts += self._doubt_of_guest(copy, copied, guest, number, timeline)
        if torn:
            self._add_torn(copy, torn)
        for doubt in dict.fromkeys(doubts):
            self._doubt(copy, doubt)

    def _doubt_of_guest(
        self, copy: Copy, copied: Copied, guest: str, number: int, timeline: Timeline
    ) -> list[str]:
        """Why the images of a guest that is not known yet may not hold still; nothing if they do."""
        image = DiskImage("", guest, guest)
        held = timeline.at(number, copy, image, guest, copied.asked_after)
        if held.still is Still.YES:
            return []
        if held.still is Still.MAYBE and copied.asked_after is not None:
            return [held.doubt]
        return [
            "reclaim does not know whether the guests whose images it copies hold still"
        ]

    def _add_torn(self, copy: Copy, torn: list[str]) -> None:
        guests = ", ".join(torn[:3])
        text = f"{copy.tool} copies the images of running guests while they are written to ({guests})"
        hand = (
            "take a snapshot first (virsh backup-begin, or a disk-only snapshot), "
            "or shut the guest down for the copy"
        )
        finding = self._finding(
            copy.call, f"{text}: the copy is inconsistent", by_hand=hand
        )
        self.found.findings.append(finding)

    def _is_copied_again(
        self, copy: Copy, copied: FoundImage, number: int, timeline: Timeline
    ) -> bool:
        """True if the job makes the same copy again, while the image holds still.

        The first pass makes the second short.
        """
        if not copy.target or _keeps_the_first(copy):
            return False
        key = _same_copy(copy)
        for position in range(number + 1, len(self.steps.all)):
            later = self.steps.all[position]
            if not isinstance(later, Copy):
                continue
            if _same_copy(later) != key:
                continue
            held = timeline.at(position, later, copied.image, copied.source)
            if held.still is Still.YES:
                return True
        return False

    # rsync ------------------------------------------------------------------------------------

    def _rsync(self, copy: Copy, copied: Copied) -> _Plan:
        """Return the faults of one call of rsync, and the options that mend all of them."""
        line = copy.rsync
        assert line is not None
        plan = _Plan(copy, line)
        surely = copied.surely
        if line.doubtful:
            if surely:
                self._doubt(copy, "its options are put together when it runs")
            return replace(plan, forbids=True)
        if line.writes_devices or self._is_onto_a_device(copy):
            return self._onto_a_device(plan, surely=surely)
        version = snapshots = None
        if line.writes_here:
            if not copy.call.other_programs:
                program = copy.call.words[0].text
                version = self.machine.rsync_version(program)
            snapshots = self.machine.snapshots(copy.target)
        return self._options(plan, version, snapshots)

    def _is_onto_a_device(self, copy: Copy) -> bool:
        """True if the target is a device, by its name or as the machine has it."""
        if rsync.is_device(copy.target):
            return True
        if not copy.target.startswith("/"):
            return False
        return self.machine.is_block_device(copy.target)

    def _onto_a_device(self, plan: _Plan, *, surely: bool) -> _Plan:
        """A device has no holes, and --sparse would leave the earlier bytes there."""
        if plan.line.has("sparse"):
            text = "rsync --sparse onto a device fails, or leaves older data there: a device has no holes"
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
        shown = _version_shown(version)
        links = self.is_rsnapshot or self.steps.links_generations
        if line.has("inplace"):
            return _with_inplace(plan, version, shown, snapshots, links=links)
        if links or line.has("link-dest"):
            return _good(plan)
        if snapshots:
            return _on_snapshots(plan, version, shown, snapshots)
        return _good(plan)

    # All of them ------------------------------------------------------------------------------

    def _settle(self, plans: list[_Plan]) -> None:
        """Make findings of the plans. A place in the file is edited only if that is right for all that run it."""
        by_place: dict[int | None, list[_Plan]] = {}
        for plan in plans:
            by_place.setdefault(plan.copy.call.insert, []).append(plan)
        for plan in plans:
            others = by_place[plan.copy.call.insert]
            reason = self._why_not_in_the_file(plan, others)
            self._add_findings(plan, reason)

    def _why_not_in_the_file(self, plan: _Plan, others: list[_Plan]) -> str:
        if not self.whole:
            return f"{plan.in_words()}; a part of the file cannot be parsed, so it is not edited"
        if plan.copy.call.insert is None:
            return ""
        if all(other.allows(plan) for other in others):
            return ""
        return (
            "this line also runs with other words, and the change would be wrong for those: "
            "give each a line of its own"
        )

    def _add_findings(self, plan: _Plan, reason: str) -> None:
        edits: tuple[LineEdit, ...] = ()
        hand = plan.by_hand or reason
        if not hand:
            edits = plan.edits()
        if not hand and not edits:
            hand = plan.in_words()
        for text in plan.problems:
            finding = self._finding(plan.copy.call, text, by_hand=hand, edits=edits)
            if finding not in self._told:
                self._told.add(finding)
                self.found.findings.append(finding)
        for text in plan.unclear:
            self.found.doubt(text)
        for text in plan.praise():
            self.found.praise(text)


def _doubt_of_perhaps(copy: Copy, copied: Copied) -> str:
    """Why *copy* may copy images, though none is sure; "" if that is no doubt."""
    if copied.maybe_left_out:
        rules = "filter rules leave"
        if copy.tool == "tar":
            rules = "list of exclusions leaves"
        return f"whether its {rules} out the images is not judged"
    if copy.tool == "btrfs send":
        return copied.doubt or copy.store
    return copied.doubt


def _version_shown(version: rsync.Version | None) -> str:
    if version is None:
        return "an rsync of unknown version"
    return "rsync " + ".".join(map(str, version))


#: options that make rsync write into the old copy
_REWRITING = frozenset(("--inplace", "--no-whole-file"))


@dataclass(frozen=True)
class _Plan:
    """The faults of one call of rsync, and the options that together mend them: all of them, or none.

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
        given = filter(None, words)
        return replace(self, drop=(*self.drop, *given))

    def praise(self) -> tuple[str, ...]:
        """Return the praise for the call; the faultless alone get all of it."""
        if self.problems or self.unclear:
            return self.told
        if not self.good:
            return self.told
        return (*self.told, self.good)

    def allows(self, other: _Plan) -> bool:
        """True if the edits of *other* are right for this call too."""
        if self is other or not other.problems:
            return True
        if self.forbids:
            return False
        if self.by_hand and other.add:
            return False
        if _REWRITING.isdisjoint(other.add):
            return True
        return self.add == other.add

    def in_words(self) -> str:
        """Return the whole mend, for people."""
        parts = []
        if self.add:
            parts.append(f"add {' '.join(self.add)}")
        for word in self.drop:
            parts.append(f"take {word.text} out of the line that sets it")
        words = ", ".join(parts)
        if len(self.add) + len(self.drop) > 1:
            words += ": all of it, or nothing"
        return words

    def edits(self) -> tuple[LineEdit, ...]:
        """Return the whole mend in the file; nothing if a part of it has no place there."""
        call = self.copy.call
        if call.insert is None and self.add:
            return ()
        insert = call.insert or 0
        edits = []
        for option in self.add:
            text = call.form.format(option)
            edits.append(LineEdit(insert, insert, text))
        for word in self.drop:
            place = _place(word)
            if place is None:
                return ()
            start, end = place
            edits.append(LineEdit(start, end, ""))
        return tuple(edits)


def _without_preallocation(plan: _Plan, version: rsync.Version | None) -> _Plan:
    """Measured with 3.2.7, 3.4.1 and 3.5.0: only 3.5.0 with --sparse --inplace punches preallocated blocks."""
    line = plan.line
    if not line.has("preallocate"):
        return plan
    is_sparse_in_place = line.has("inplace") and line.has("sparse")
    if is_sparse_in_place and version and version >= rsync.REWRITES_LESS:
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
    word = plan.line.options["inplace"]
    if word.text.startswith("--append"):
        return _appending(plan, word)
    if links:
        plan = plan.wrong(
            "rsync --inplace writes through the hard links into every earlier copy"
        ).dropping(word)
        return replace(plan, forbids="--sparse" in plan.add)
    if version is None:
        return _with_unknown_version(plan, shown)
    if version < rsync.SAFE:
        return _unsafe_inplace(plan, version, shown, snapshots, word)
    if plan.line.keeps_unchanged_blocks:
        if "--sparse" in plan.add:
            return _priced(plan, version, shown, snapshots)
        return _good(plan)
    if snapshots:
        return _on_snapshots(plan, version, shown, snapshots)
    return _good(plan)


def _appending(plan: _Plan, word: Word) -> _Plan:
    plan = plan.wrong(f"rsync {word.text} never copies changes within an image again")
    hand = f"take {word.text} out, and add --sparse"
    return replace(plan, by_hand=hand, forbids=True)


def _with_unknown_version(plan: _Plan, shown: str) -> _Plan:
    if "--sparse" in plan.add:
        hand = "add --sparse if the rsync that writes is 3.3.0 or newer, else replace --inplace by it"
        return replace(plan, by_hand=hand, forbids=True)
    end = "needs rsync 3.3.0 at the other end"
    if plan.line.writes_here:
        end = f"needs rsync 3.3.0, and this is {shown}"
    doubt = f"{plan.copy.call.where}: rsync --inplace with --sparse {end}"
    return replace(plan, unclear=(doubt,))


def _unsafe_inplace(
    plan: _Plan, version: rsync.Version, shown: str, snapshots: str | None, word: Word
) -> _Plan:
    why = "can leave other data in the copy with --sparse --inplace (fixed in 3.3.0)"
    if version < rsync.TOGETHER:
        why = "refuses --sparse with --inplace"
    price = "until rsync is 3.3.0 or newer each snapshot takes the whole copy"
    outcome = price if snapshots else "without --inplace it is safe"
    plan = plan.wrong(f"{shown} {why}; {outcome}")
    plan = plan.dropping(word)
    if snapshots and plan.line.keeps_unchanged_blocks:
        hand = (
            "with rsync before 3.3.0 either take --sparse out, which fills the copy, or --inplace: "
            + price
        )
        return replace(plan, by_hand=hand, forbids=True)
    stays = not _has_place(word)
    return replace(plan, forbids=stays and "--sparse" in plan.add)


def _has_place(word: Word) -> bool:
    """True if the word is an option of its own in the job's file."""
    return _place(word) is not None


def _place(word: Word) -> tuple[int, int] | None:
    """The bytes of the file that hold the word, if it is an option of its own there."""
    if not word.is_literal or not _DROPPABLE.match(word.text):
        return None
    if word.start is None or word.end is None:
        return None
    return word.start, word.end


#: a long option that may go; --append is none, since it is more than --inplace
_DROPPABLE = re.compile("--(?!append)")


def _priced(
    plan: _Plan, version: rsync.Version, shown: str, snapshots: str | None
) -> _Plan:
    """--sparse beside --inplace --no-whole-file: a snapshot may come to take more than it does."""
    dear = "106 MiB"
    if version >= rsync.REWRITES_LESS:
        if not snapshots:
            return plan
        dear = "14.5 MiB"
    hand = (
        f"choose: without --sparse the copy is as large as the disk, and a snapshot takes only the changes; with it "
        f"{shown} writes blocks that end in zeros again, and a snapshot takes more (measured: {dear} instead of "
        "1 MiB, for an image of 327 MiB full of small files)"
    )
    return replace(plan, by_hand=hand, forbids=True)


def _on_snapshots(
    plan: _Plan, version: rsync.Version | None, shown: str, snapshots: str
) -> _Plan:
    """A copy that is written whole shares nothing with snapshots."""
    if version is None or version < rsync.SAFE:
        if plan.problems:
            return replace(plan, told=())
        text = f"{snapshots}, which share nothing with a replaced copy: rsync 3.3.0 could (here {shown})"
        return replace(plan, told=(text,))
    line = plan.line
    plan = plan.wrong(
        f"{snapshots}: a copy that is written whole shares nothing with them"
    )
    refused = _given(line, "partial-dir", "delay-updates")
    if refused:
        hand = f"give --inplace --no-whole-file instead of {' and '.join(refused)}: rsync refuses them together"
        if "--sparse" in plan.add:
            hand = f"add --sparse; {hand}"
        return replace(plan, by_hand=hand)
    given = _given(line, "inplace", "no-whole-file")
    for option in ("--inplace", "--no-whole-file"):
        if option not in given:
            plan = plan.adding(option)
    return plan.dropping(line.options.get("whole-file"))


def _given(line: rsync.Line, *names: str) -> list[str]:
    """Those of the options that hold in *line*."""
    return [f"--{name}" for name in filter(line.has, names)]


def _good(plan: _Plan) -> _Plan:
    """*plan* with its praise, unless it has a problem."""
    if plan.problems:
        return plan
    options = _given(plan.line, "sparse", "inplace", "no-whole-file")
    return replace(plan, good=f"{plan.copy.call.where}: rsync {' '.join(options)}")


def edited(source: bytes, findings: Iterable[Finding]) -> bytes:
    """Return *source* with the edits of *findings*, each place once; from the end, so that offsets hold."""
    places: dict[tuple[int, int], list[str]] = {}
    for finding in findings:
        for edit in finding.edits:
            texts = places.setdefault((edit.start, edit.end), [])
            if edit.text not in texts:
                texts.append(edit.text)
    for (start, end), texts in sorted(places.items(), reverse=True):
        text = "".join(texts)
        first = start
        # the blank before goes too; a line's end stays, since a backslash may stand before it
        if not text and source[start - 1 : start] in (b" ", b"\t"):
            first = start - 1
        source = source[:first] + text.encode() + source[end:]
    return source
