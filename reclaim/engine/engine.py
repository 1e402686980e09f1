"""The engine: check, fixer, journal, apply, forget, the same check again. The only hand that changes anything."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import libvirt

from reclaim.base.errors import (
    ChangeFailed,
    JournalLost,
    NotApplicable,
    NotAssessable,
    Pending,
    PowerCycleFailed,
    ProbeError,
    ReclaimError,
    Refused,
    StillRunning,
    Withheld,
)
from reclaim.base.text import libvirt_words, printable
from reclaim.base.verdict import (
    ChangeRecord,
    Judgement,
    Result,
    Verdict,
    WaiverRecord,
)
from reclaim.changes import boot_stopped, kinds, maintenance, power, preconditions
from reclaim.changes.boot_stopped import Boot
from reclaim.changes.change import Change, MendsAPart
from reclaim.changes.definition_change import DefinitionChange, refused_by_schema
from reclaim.changes.power import PowerCycle
from reclaim.definition import qemuargs
from reclaim.definition.domain import Definition
from reclaim.engine.journal import Journal
from reclaim.handles.guest import OFF, UNKNOWN_DISKS, Disk, Guest
from reclaim.handles.node import Node
from reclaim.inventory import Waiver
from reclaim.inventory.windows import Closed
from reclaim.processes import worker
from reclaim.requirement import Requirement, catalogue

if TYPE_CHECKING:
    from reclaim.backups.backup import Backup
    from reclaim.backups.job import Job

Mode = Literal["audit", "plan", "fix"]
#: the requirement whose rows report disks that only QEMU's own arguments bring
TELLS_OF_UNKNOWN = "disk-discard"
#: the requirement that a start of the guest fulfils
_LIVE = "live-definition"
#: a row: the requirement's slug, and the names of guest, disk, and copy or job
_Key = tuple[str, str | None, str | None, str | None]
_WAS_OFF = "it was off: it was started (--boot-stopped)"


class Subject(NamedTuple):
    """The subject of one row: a guest, a disk, a copy, a job or the hypervisor."""

    hypervisor: Node
    guest: Guest | None = None
    disk: Disk | None = None
    backup: Backup | None = None
    job: Job | None = None

    @property
    def place(self) -> Guest | Node:
        """The place of changes. Copies and their jobs belong to the hypervisor, even those of a guest's disk."""
        if self.guest is None or self.backup is not None or self.job is not None:
            return self.hypervisor
        return self.guest

    @property
    def key(self) -> tuple[str | None, str | None, str | None]:
        """The names of guest, disk, and copy or job. They distinguish the rows of one requirement."""
        copy = self.backup or self.job
        path = copy.path if copy is not None else None
        return (
            _name(self.guest),
            _name(self.disk),
            printable(path) if path else None,
        )

    def arguments(self, requirement: Requirement) -> list[Any]:
        """The handles that the requirement's check and fixer take."""
        return [getattr(self, name) for name in requirement.parameters]


def judge(requirement: Requirement, subject: Subject) -> Judgement:
    """Return the check's judgement. Nothing is changed.

    Only an AssertionError that the check itself raised is a finding. A probe that failed is an
    `error`. Any other exception is a fault in reclaim and is raised.
    """
    waiver = _waiver(requirement, subject)
    if waiver is None:
        return _judged(requirement, subject)
    end, reason = waiver.until, printable(waiver.reason)
    if end is None or not waiver.has_ended(subject.hypervisor.now().date()):
        return Judgement(Verdict.WAIVED, f"{reason} (until {end})" if end else reason)
    judgement = _judged(requirement, subject)
    note = f"its waiver ended on {end}: {reason}"
    if judgement.verdict is Verdict.NONCOMPLIANT:
        return judgement._replace(reason=_joined(judgement.reason, note))
    return judgement._replace(evidence=_joined(judgement.evidence, note))


def _waiver(requirement: Requirement, subject: Subject) -> Waiver | None:
    """Return the inventory's waiver of *requirement* for the guest of *subject*, in force or not."""
    guest = subject.guest
    return guest.notes.waive.get(requirement.slug) if guest is not None else None


def _judged(requirement: Requirement, subject: Subject) -> Judgement:
    """Return the check's own judgement, whatever the inventory waives."""
    try:
        evidence = requirement.check(*subject.arguments(requirement))
    except NotApplicable as exc:
        return Judgement(Verdict.NOT_APPLICABLE, printable(str(exc)))
    except NotAssessable as exc:
        return Judgement(Verdict.NOT_ASSESSABLE, printable(str(exc)))
    except AssertionError as exc:
        if not _is_finding(exc, requirement):
            raise
        return Judgement(Verdict.NONCOMPLIANT, printable(finding(exc)))
    except ProbeError as exc:
        return Judgement(Verdict.ERROR, printable(f"could not look: {exc}"))
    except libvirt.libvirtError as exc:
        return Judgement(
            Verdict.ERROR, printable(f"could not look: libvirt: {libvirt_words(exc)}")
        )
    return Judgement(Verdict.COMPLIANT, "", printable(evidence))


def _is_finding(exc: AssertionError, requirement: Requirement) -> bool:
    """True if the check's own assert raised it, not code that the check called."""
    traceback = exc.__traceback__
    if traceback is None:
        return False
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback.tb_frame.f_code is requirement.check.__code__


def finding(exc: AssertionError) -> str:
    """Return the check's own message without the lines that pytest's assertion rewriting adds."""
    text = str(exc)
    head = text.partition("\nassert ")[0]
    return head if not head.startswith("assert ") else text


@dataclass(frozen=True)
class _Asked:
    """A guest that was asked to shut down and still runs: it may go off yet."""

    requirement: Requirement
    subject: Subject
    guest: Guest
    cycle: PowerCycle
    seq: int
    record: ChangeRecord


@dataclass(frozen=True)
class _Mending:
    """One row that is being mended."""

    requirement: Requirement
    subject: Subject
    result: Result
    #: the requirements that --force overruled, as the row reports them; "" without --force
    forced: str
    #: the notes of its changes
    notes: list[str] = field(default_factory=list)


@dataclass
class _Step:
    """One change of a mending, with its number in the journal and its record in the row."""

    mending: _Mending
    change: Change
    seq: int
    record: ChangeRecord
    #: a sentence that the row adds once the change is applied
    remark: str
    #: the answer of the change, empty if that was lost; None unless the change may be in force
    outcome: dict[str, str] | None = None
    #: the journal has its outcome
    is_written: bool = True


class _End(Enum):
    """How an attempt to mend a row ended."""

    APPLIED = "all changes were applied"
    NOT_APPLIED = "not all were, and the row gives the reason"
    REFUSED = "libvirt refused one and changed nothing: the fixer may know another way"


@dataclass
class Engine:
    """Judges, and mends as the mode allows. One for each hypervisor and run."""

    hypervisor: Node
    mode: Mode
    journal: Journal
    restart: bool = False
    force: bool = False
    boot_stopped: bool = False
    #: several guests are mended side by side (`reclaim.engine.overlap`)
    overlaps: bool = False
    results: dict[_Key, Result] = field(default_factory=dict)
    #: judgements that were made before their turn, each with the seconds that it took
    _ahead: dict[_Key, tuple[Callable[[], Judgement], float]] = field(
        default_factory=dict
    )
    #: bytes that came back from copies; `reclaim.space.measured` counts those of guests' disks
    freed: int = 0
    _planned: dict[str, Definition] = field(default_factory=dict)
    _planned_renames: dict[str, dict[str, str]] = field(default_factory=dict)
    #: rows that need no change of their own, since another row's planned change mends them
    _mended_by_plan: set[_Key] = field(default_factory=set)
    #: rows of which the plan leaves a part to the user
    _mended_in_part: set[_Key] = field(default_factory=set)
    #: the changes of this run by their number in the journal, each with its row
    _records: dict[int, tuple[Result, ChangeRecord]] = field(default_factory=dict)
    _asked: list[_Asked] = field(default_factory=list)
    #: seconds that are waited for a libvirt that hung up
    _patience: float = 60
    #: why nothing more is changed: the journal cannot be written
    stopped: str = ""
    _is_told: bool = False
    #: guests that cannot start as they are defined: a fix may change that
    _unstartable: set[Guest] = field(default_factory=set)
    #: guests that were started to be looked into, and the number of that change
    _booted: dict[Guest, int] = field(default_factory=dict)
    #: why such a guest could not be looked into, if it did not answer in time; else ""
    _slow: dict[Guest, str] = field(default_factory=dict)

    #: who judges, journals or changes holds it. A power cycle lets go of it: then other guests have their turn
    _hand: threading.Lock = field(default_factory=threading.Lock)

    def visit(self, guest: Guest) -> None:
        """Start *guest* if it is off and --boot-stopped was given. `leave` shuts it down again."""
        if not self.boot_stopped or guest in self._booted:
            return
        try:
            if self._is_left_off(guest) or not _is_off(guest):
                return
            # a run over a fleet takes hours: it is started on what is defined now
            guest.forget(inside=False)
            if reason := self._why_not_started(guest):
                guest.unstarted = reason
                if guest.cannot_start:
                    self._unstartable.add(guest)
                return
            change = Boot(guest.name, self.journal.path.parent.name)
            self._booted[guest] = self.journal.intend(
                guest.name, guest.uuid, boot_stopped.SLUG, change
            )
            self._slow[guest] = change.apply(guest).get("note", "")
        except JournalLost as exc:
            self.stopped = str(exc)
            guest.unstarted = self._why_stopped()
        except libvirt.libvirtError as exc:
            guest.unstarted = f"libvirt: {libvirt_words(exc)}"
        except ChangeFailed as exc:
            guest.unstarted = str(exc)
            guest.booted_by = None
            if guest in self._booted:  # the journal itself can refuse the change
                self._write_down(self.journal.failed, self._booted.pop(guest), str(exc))

    def _is_left_off(self, guest: Guest) -> bool:
        """True if an earlier visit left it off. A guest whose machine type was mended since is visited once more."""
        if guest in self._unstartable and not guest.cannot_start:
            self._unstartable.discard(guest)
            guest.unstarted = ""
        return bool(guest.unstarted)

    def _why_not_started(self, guest: Guest) -> str | None:
        # a guest that an earlier run left off is to be brought back, not to be looked into and shut down
        if reason := guest.left_off or preconditions.why_not_started(guest):
            return reason
        if self.stopped:
            return self._why_stopped()
        closed = maintenance.why_closed(guest)
        return closed.reason if closed is not None else None

    def leave(self, guest: Guest) -> None:
        """Shut *guest* down if `visit` started it, and report that in its rows."""
        if guest not in self._booted:
            return
        seq = self._booted[guest]
        change = next(
            change
            for number, change in self.journal.standing(guest.uuid)
            if number == seq
        )
        note = failed = ""
        try:
            note = change.undo(guest, {})
            self._write_down(self.journal.undone, seq, note)
        except (ChangeFailed, ProbeError, libvirt.libvirtError) as exc:
            failed = printable(str(exc))
            self._write_down(self.journal.failed, seq, failed)
        del self._booted[guest]
        self._drop_power_cycles(guest)
        guest.booted_by = None
        guest.forget(inside=False)
        slow = self._slow.pop(guest, "")
        for result in self.results.values():
            if result.guest == guest.name:
                _report_start(result, note, failed, slow)

    def _drop_power_cycles(self, guest: Guest) -> None:
        """Drop every power cycle of *guest* that waits for its end: neither this run nor a later one is to start it."""
        self._asked = [asked for asked in self._asked if asked.guest is not guest]
        for cycle in self.journal.at_stake(guest.uuid):
            self._write_down(
                self.journal.failed, cycle, f"{_WAS_OFF}, and is to be shut down again"
            )

    def leave_all(self) -> None:
        """Shut down the started guests that are still up: the run was interrupted."""
        for guest in list(self._booted):
            self.leave(guest)

    def run(self, requirement: Requirement, subject: Subject) -> Result:
        """Judge one requirement for one subject, and mend it if the mode allows that."""
        with self._hand:
            return self._run(requirement, subject)

    def _run(self, requirement: Requirement, subject: Subject) -> Result:
        started = time.monotonic()
        if self._asked:
            self._look_after()
        # if this is interrupted there is no row
        judgement, seconds = self._judged(requirement, subject)
        result = self.result(requirement, subject)
        result.seconds += seconds
        result.take(judgement)
        if result.verdict is Verdict.ERROR and self._is_reconnected():
            result.take(judge(requirement, subject))
        if result.verdict is Verdict.NONCOMPLIANT and self.mode != "audit":
            self._remedy(requirement, subject, result)
        if requirement.slug == _LIVE and subject.guest is not None:
            result.left_off |= subject.guest.left_off is not None
        result.seconds += time.monotonic() - started
        return result

    def judge_ahead(self, requirement: Requirement, subject: Subject) -> None:
        """Judge a row before its turn, which takes the judgement, or the error. Nothing may change meanwhile."""
        started = time.monotonic()
        answer = worker.answered(partial(judge, requirement, subject))
        seconds = time.monotonic() - started
        self._ahead[(requirement.slug, *subject.key)] = answer, seconds

    def _judged(
        self, requirement: Requirement, subject: Subject
    ) -> tuple[Judgement, float]:
        """Judge a row. Return the judgement, and the seconds if it was made before."""
        before = self._ahead.pop((requirement.slug, *subject.key), None)
        if before is None:
            return judge(requirement, subject), 0
        answer, seconds = before
        return answer(), seconds

    def result(self, requirement: Requirement, subject: Subject) -> Result:
        """Return the row of *requirement* for *subject*, a new one if there is none."""
        slug = requirement.slug
        guest, disk, copy = subject.key
        key = (slug, guest, disk, copy)
        row = self.results.get(key)
        if row is None:
            name = self.hypervisor.name
            row = Result(
                slug, requirement.title, name, guest, disk, copy, Verdict.NOT_ASSESSABLE
            )
            if waiver := _waiver(requirement, subject):
                row.waiver = WaiverRecord(printable(waiver.reason), waiver.until)
            self.results[key] = row
        return row

    def _is_reconnected(self) -> bool:
        """True if libvirt had hung up and answers again: its daemon may have been restarted."""
        if not self.hypervisor.is_cut_off:
            return False
        try:
            self.hypervisor.reconnect(self._patience)
        except ProbeError:
            self._patience = 0  # it was waited for once
            return False
        return True

    def look_after(self) -> None:
        """Start the guests again that were asked to shut down, did not in time, and are off by now."""
        with self._hand:
            self._look_after()

    def _look_after(self) -> None:
        for asked in list(self._asked):
            try:
                if power.is_active(asked.guest):
                    continue
                self._asked.remove(asked)
                outcome = asked.cycle.apply(asked.guest)
            except (ChangeFailed, ProbeError, libvirt.libvirtError) as exc:
                result = self.result(asked.requirement, asked.subject)
                result.verdict = Verdict.NONCOMPLIANT
                result.reason = f"it shut down late; {printable(str(exc), lines=True)}"
                self._not_back(
                    asked.requirement, asked.subject, asked.cycle, asked.seq, exc
                )
            else:
                self._back_late(asked, outcome)

    def _back_late(self, asked: _Asked, outcome: dict[str, str]) -> None:
        """Judge a guest that went off late and was started again."""
        self._write_down(self.journal.done, asked.seq, outcome)
        asked.record.applied = True
        asked.guest.forget()
        result = self.result(asked.requirement, asked.subject)
        result.take(judge(asked.requirement, asked.subject))
        if result.verdict is Verdict.COMPLIANT:
            reason = f"it shut down late; {outcome.get('note', '')}"
            result.take(Judgement(Verdict.FIXED, reason, result.evidence))
        self._look_again(asked.requirement, asked.subject)

    @contextmanager
    def _let_go(self) -> Iterator[None]:
        """Let others judge and change meanwhile: only what belongs to one guest alone may be done in here."""
        self._hand.release()
        try:
            yield
        finally:
            self._hand.acquire()

    def _look_anew(self, guest: Guest) -> None:
        """Look into *guest* while others have their turn. An error is kept, and its rows report it."""
        if not self.overlaps:
            return
        with self._let_go(), suppress(libvirt.libvirtError, ProbeError):
            if guest.can_be_looked_into:
                guest.look_inside()

    def put_in_order(self, guests: Sequence[Guest]) -> None:
        """Put the rows into the order of *guests*, in which they would have been mended one after the other."""
        order = {guest.name: number for number, guest in enumerate(guests)}
        rows = sorted(
            self.results.items(),
            key=lambda row: order.get(row[1].guest or "", len(order)),
        )
        self.results = dict(rows)

    # The journal

    def _write_down(
        self, write: Callable[..., None], seq: int, *details: object
    ) -> bool:
        """Write down the outcome of change *seq*. If the journal cannot be written, the run changes nothing more.

        Return True if it was written.
        """
        try:
            write(seq, *details)
        except JournalLost as exc:
            self.stopped = self.stopped or str(exc)
            return False
        return True

    def _why_stopped(self) -> str:
        """Return why the run changes nothing more: the whole reason for the first row, a short one for the others."""
        short = "nothing more is changed in this run"
        if self._is_told:
            return short
        self._is_told = True
        return f"{short}: {printable(self.stopped)}"

    # Mending

    def _remedy(
        self, requirement: Requirement, subject: Subject, result: Result
    ) -> None:
        """Mend one row as far as the mode, the guest's state and its other rows allow."""
        end = self._attempt(requirement, subject, result)
        while end is _End.REFUSED:  # the fixer knows of the refusal by now
            end = self._attempt(requirement, subject, result)

    def _attempt(
        self, requirement: Requirement, subject: Subject, result: Result
    ) -> _End:
        if self.stopped:
            result.reason += f"; not fixed: {self._why_stopped()}"
            result.failed = True
            return _End.NOT_APPLIED
        if self._is_in_plan(requirement, subject):
            result.reason += "; an earlier change of this plan mends it too"
            return _End.NOT_APPLIED
        unmet = self._waits_for(requirement, subject)
        if self._depends(subject, result, unmet):
            return _End.NOT_APPLIED
        mending = _Mending(requirement, subject, result, _overruled(unmet))
        if self.restart and requirement.stage == "power" and subject.guest is not None:
            # the fleet was looked into hours ago, and the guest has to come back as it is now
            subject.guest.forget()
            self._look_anew(subject.guest)
        changes = self._propose(requirement, subject, result)
        if not changes or self._withheld(subject, changes, result):
            return _End.NOT_APPLIED
        if self.mode == "plan":
            self._plan(mending, changes)
            return _End.NOT_APPLIED
        before = result.reason
        end = self._apply(mending, changes)
        if end is _End.APPLIED:
            self._judge_mended(mending, changes, before)
        return end

    def _is_in_plan(self, requirement: Requirement, subject: Subject) -> bool:
        """True if the check passes with the changes that were planned for the guest before."""
        guest = subject.guest
        if guest is None or not requirement.reads_definitions_only:
            return False
        planned = self._planned.get(guest.name)
        if planned is None:
            return False
        with guest.planning(planned, self._planned_renames.get(guest.name, {})):
            is_mended = judge(requirement, subject).verdict is Verdict.COMPLIANT
        if is_mended:
            self._mended_by_plan.add((requirement.slug, *subject.key))
        return is_mended

    def _judge_mended(
        self, mending: _Mending, changes: list[Change], before: str
    ) -> None:
        """Judge a row again once its changes are applied; *before* is the reason that it had."""
        requirement, subject = mending.requirement, mending.subject
        result = mending.result
        judgement = judge(requirement, subject)
        if judgement.verdict is Verdict.COMPLIANT:
            notes = (f"was: {before}", mending.forced, *mending.notes)
            evidence = _evidence(judgement.evidence, changes)
            result.take(Judgement(Verdict.FIXED, _joined(*notes), evidence))
        else:
            result.take(judgement)
            is_finding = judgement.verdict is Verdict.NONCOMPLIANT
            if is_finding and not self._counts_later(requirement, subject, result):
                is_part = isinstance(changes, MendsAPart)
                self._report_no_help(mending, before, is_part=is_part)
        if any(isinstance(change, PowerCycle) for change in changes):
            self._look_again(requirement, subject)

    def _report_no_help(self, mending: _Mending, before: str, *, is_part: bool) -> None:
        """Report that the changes were applied and the check still refuses, as is expected if they mend a part."""
        result = mending.result
        notes = ["the change was applied and did not help"]
        if is_part or before.partition(";")[0] != result.reason.partition(";")[0]:
            notes = [f"was: {before}", *mending.notes]
        if mending.forced:
            notes.insert(0, mending.forced)
        result.reason = "; ".join((result.reason, *notes))

    def _propose(
        self, requirement: Requirement, subject: Subject, result: Result
    ) -> list[Change]:
        """Return the changes that the fixer proposes. If it withholds them, the result gets the reason."""
        try:
            if self.mode != "plan" or subject.guest is None:
                return requirement.fixer(*subject.arguments(requirement))
            name = subject.guest.name
            planned = self._planned.get(name)
            renames = self._planned_renames.get(name, {})
            with subject.guest.planning(planned, renames):
                return requirement.fixer(*subject.arguments(requirement))
        except Withheld as exc:
            result.reason += f"; withheld: {printable(str(exc))}"
        except Pending as exc:
            result.verdict = Verdict.PENDING
            result.reason += f"; {printable(str(exc))}"
        except NotAssessable as exc:
            result.reason += f"; withheld: {printable(str(exc))}"
        except ProbeError as exc:
            result.reason += f"; withheld: could not look: {printable(str(exc))}"
        except libvirt.libvirtError as exc:
            result.reason += f"; withheld: libvirt: {printable(libvirt_words(exc))}"
        return []

    def _counts_later(
        self, requirement: Requirement, subject: Subject, result: Result
    ) -> bool:
        """True if the applied changes take effect later: the fixer, asked again, only proposes to wait.

        If it leaves the rest to the user, the row gets the steps.
        """
        try:
            requirement.fixer(*subject.arguments(requirement))
        except Pending as exc:
            result.verdict = Verdict.PENDING
            result.reason += f"; {printable(str(exc))}"
            return True
        except Withheld as exc:
            result.reason += f"; withheld: {printable(str(exc))}"
        except (NotAssessable, ProbeError, libvirt.libvirtError):
            return False
        return False

    def _withheld(
        self, subject: Subject, changes: list[Change], result: Result
    ) -> bool:
        """True if the guest's state forbids one of *changes*. Then the result gets the reason."""
        guest = subject.guest
        if guest is None:
            return False
        for change in changes:
            try:
                reason = preconditions.why_not_applied(guest, change)
            except libvirt.libvirtError as exc:
                reason = (
                    f"libvirt does not report the guest's state: {libvirt_words(exc)}"
                )
            if reason is None:
                continue
            if isinstance(change, PowerCycle) and not self.restart:
                result.verdict = Verdict.PENDING
                result.reason += (
                    f"; needs a power cycle, which is withheld: {printable(reason)}"
                )
            else:
                result.reason += f"; withheld: {printable(reason)}"
            return True
        return False

    def _plan(self, mending: _Mending, changes: list[Change]) -> None:
        """Show *changes* in the row, and let later fixers of the guest propose on top of them."""
        result, guest = mending.result, mending.subject.guest
        for change in changes:
            result.changes.append(ChangeRecord(change.kind, change.target, change.diff))
        result.evidence = _evidence(result.evidence, changes)
        if mending.forced:
            result.reason += f"; {mending.forced}"
        if isinstance(changes, MendsAPart):
            result.reason += f"; withheld: {printable(changes.left)}"
            key = (mending.requirement.slug, *mending.subject.key)
            self._mended_in_part.add(key)
        if guest is None:
            return
        result.evidence = _joined(result.evidence, *_planned_notes(changes))
        if any(isinstance(change, PowerCycle) for change in changes):
            _name_window(result, maintenance.why_closed(guest))
        for change in changes:
            if isinstance(change, DefinitionChange):
                earlier = self._planned_renames.get(guest.name, {})
                self._planned[guest.name] = Definition(change.after)
                self._planned_renames[guest.name] = {**earlier, **change.renames}

    def _apply(self, mending: _Mending, changes: list[Change]) -> _End:
        """Journal and apply *changes* in their order. If one is not applied, take back those before it."""
        steps: list[_Step] = []
        for change in changes:
            if isinstance(change, PowerCycle) and self._has_to_wait(mending, change):
                return _End.NOT_APPLIED
            step = self._begin(mending, change)
            if step is None:
                self._take_back(steps)
                return _End.NOT_APPLIED
            steps.append(step)
            end = self._apply_step(step)
            if end is _End.NOT_APPLIED and not isinstance(change, PowerCycle):
                self._take_back(steps)
            if end is not _End.APPLIED:
                return end
            if self.stopped:
                return self._end_stopped(step, is_last=change is changes[-1])
        return _End.APPLIED

    def _has_to_wait(self, mending: _Mending, cycle: PowerCycle) -> bool:
        """True if the power cycle must not begin now: without --restart, or outside the guest's maintenance window."""
        guest = mending.subject.guest
        closed = maintenance.why_closed(guest) if guest is not None else None
        if self.restart and closed is None:
            return False
        _wait_for_power(mending.result, cycle, closed, asked=self.restart)
        return True

    def _take_back(self, steps: list[_Step]) -> None:
        """Take back the changes of a fix that failed midway, the last first: it is made whole or not at all.

        A change that cannot be taken back stays, and so do those before it. The journal keeps them for undo.
        """
        made = [step for step in steps if step.record.applied]
        if self.stopped or not any(kinds.can_be_undone(step.change) for step in made):
            return
        result = steps[0].mending.result
        for step in reversed(steps):
            if step.outcome is None or not kinds.can_be_undone(step.change):
                continue
            if reason := self._why_not_taken_back(step):
                stays = printable(step.change.target)
                result.reason += (
                    f"; NOT taken back: {stays}: {reason}; "
                    "undo takes back the changes of this fix"
                )
                return
            if self.stopped:
                result.reason += (
                    "; taken back in part, and not recorded in the journal: "
                    f"{self._why_stopped()}"
                )
                return
        result.reason += f"; the changes before it were taken back{_but_for(made)}"

    def _why_not_taken_back(self, step: _Step) -> str | None:
        """Take *step* back and note that in journal and row, or return why that was not possible."""
        try:
            note = step.change.undo(step.mending.subject.place, step.outcome or {})
        except (ChangeFailed, ProbeError) as exc:
            return printable(str(exc))
        except libvirt.libvirtError as exc:
            return f"libvirt: {printable(libvirt_words(exc))}"
        self._write_down(self.journal.undone, step.seq, note)
        step.record.undone = step.mending.result.rolled_back = True
        _forget_changed(step)
        return None

    def _begin(self, mending: _Mending, change: Change) -> _Step | None:
        """Write *change* into the journal and the row; None if it is not to be made, and the row gives the reason."""
        guest, result = mending.subject.guest, mending.result
        remark = _remark(guest, change)
        seq = self._intended(mending.requirement, mending.subject.place, change, result)
        if seq is None:
            return None
        if isinstance(change, DefinitionChange) and guest is not None:
            guest.history.append(change.before)
        record = ChangeRecord(change.kind, change.target, change.diff)
        self._records[seq] = result, record
        result.changes.append(record)
        return _Step(mending, change, seq, record, remark)

    def _apply_step(self, step: _Step) -> _End:
        """Apply the change, and note its outcome in journal and row."""
        try:
            outcome = self._made(step)
        except Refused as exc:
            self._note_refused(step, exc)
            return _End.REFUSED
        except (ChangeFailed, ProbeError, libvirt.libvirtError) as exc:
            self._note_failed(step, exc)
            return _End.NOT_APPLIED
        except BaseException as exc:  # Ctrl-C, SIGTERM, a fault of ours: it is noted in journal and row, and goes on
            self._note_interrupted(step, exc)
            raise
        self._note_applied(step, outcome)
        guest = step.mending.subject.guest
        if guest is not None and isinstance(step.change, PowerCycle):
            self._look_anew(guest)
        return _End.APPLIED

    def _made(self, step: _Step) -> dict[str, str]:
        """Apply the change. Other guests have their turn while this one goes down and comes back."""
        subject = step.mending.subject
        if subject.guest is None or not isinstance(step.change, PowerCycle):
            return step.change.apply(subject.place)
        with self._let_go():
            return step.change.apply(subject.guest)

    def _note_interrupted(self, step: _Step, exc: BaseException) -> None:
        step.mending.result.failed = True
        guest = step.mending.subject.guest
        if guest is not None and isinstance(step.change, PowerCycle):
            self._interrupted(guest, step.change, step.seq, step.mending.result)
        else:
            reason = f"interrupted: {type(exc).__name__}: {printable(str(exc))}"
            self._write_down(self.journal.unknown, step.seq, reason)

    def _note_applied(self, step: _Step, outcome: dict[str, str]) -> None:
        step.is_written = self._write_down(self.journal.done, step.seq, outcome)
        step.record.applied = True
        step.outcome = outcome
        self.freed += int(outcome.get("freed", "0"))
        for note in (outcome.get("note"), step.remark):
            if note:
                step.mending.notes.append(printable(note))
        _forget_changed(step)

    def _note_refused(self, step: _Step, exc: Refused) -> None:
        """Take the change out of the row again: libvirt refused it, and nothing was changed."""
        self._write_down(self.journal.failed, step.seq, str(exc))
        step.mending.result.changes.remove(step.record)
        step.mending.subject.place.forget()

    def _note_failed(
        self, step: _Step, exc: ReclaimError | libvirt.libvirtError
    ) -> None:
        """Report in journal and row why the change was not applied."""
        mending, result = step.mending, step.mending.result
        if isinstance(exc, PowerCycleFailed):
            reason = printable(str(exc), lines=True)
            result.reason = _joined(reason, mending.forced)
            self._not_back(
                mending.requirement, mending.subject, step.change, step.seq, exc
            )
        elif isinstance(exc, StillRunning):
            self._write_down(self.journal.unknown, step.seq, str(exc))
            result.verdict = Verdict.PENDING
            reason = printable(str(exc))
            result.reason += f"; waits for its next power cycle: {reason}"
            self._look_later(step)
        else:
            result.failed = True
            # before a change raises ChangeFailed it takes its first half back; no other error promises that
            is_undone = isinstance(exc, ChangeFailed)
            write = self.journal.failed if is_undone else self.journal.unknown
            self._write_down(write, step.seq, str(exc))
            if not is_undone:
                step.outcome = {}
            _forget_changed(step)
            if mending.forced:
                result.reason += f"; {mending.forced}"
            result.reason += f"; not fixed: {printable(str(exc), lines=True)}"

    def _look_later(self, step: _Step) -> None:
        """Let `look_after` see to a guest that was asked to shut down and still runs."""
        mending, change = step.mending, step.change
        guest = mending.subject.guest
        if guest is not None and isinstance(change, PowerCycle):
            self._asked.append(
                _Asked(
                    mending.requirement,
                    mending.subject,
                    guest,
                    change,
                    step.seq,
                    step.record,
                )
            )

    def _intended(
        self,
        requirement: Requirement,
        place: Guest | Node,
        change: Change,
        result: Result,
    ) -> int | None:
        """Return the number of *change* in the journal, or None if it must not be made: the row gets the reason."""
        try:
            return self.journal.intend(place.name, place.uuid, requirement.slug, change)
        except JournalLost as exc:
            self.stopped = str(exc)
            is_begun = any(
                change.applied and not change.undone for change in result.changes
            )
            fixed = "fixed in part" if is_begun else "not fixed"
            result.reason += f"; {fixed}: {self._why_stopped()}"
        except ChangeFailed as exc:
            result.reason += f"; not fixed: {printable(str(exc))}"
        result.failed = True
        return None

    def _end_stopped(self, step: _Step, *, is_last: bool) -> _End:
        """Report that *step* was applied, and that nothing more is. It may be the one that cannot be written down."""
        result = step.mending.result
        result.failed = result.failed or not (is_last and step.is_written)
        if is_last:
            if not step.is_written:
                step.mending.notes.append(
                    f"applied, but not recorded in the journal: {self._why_stopped()}"
                )
            return _End.APPLIED
        result.reason += f"; fixed in part: {self._why_stopped()}"
        return _End.NOT_APPLIED

    def _not_back(
        self,
        requirement: Requirement,
        subject: Subject,
        change: Change,
        seq: int,
        exc: Exception,
    ) -> None:
        """Write down that a guest did not come back, and judge again the rows that were judged before."""
        result = self.result(requirement, subject)
        result.failed = True
        guest = subject.guest
        if guest is None or not isinstance(exc, ChangeFailed):
            self._write_down(self.journal.unknown, seq, str(exc))
            return
        guest.forget()
        result.left_off = not guest.is_running
        # of a guest that is off the end is not known: the next run tries again
        write = self.journal.failed if guest.is_running else self.journal.unknown
        self._write_down(write, seq, str(exc))
        if isinstance(exc, PowerCycleFailed) and isinstance(change, PowerCycle):
            if power.is_rolled_back(guest, change):
                self._rolled_back(guest, result)
            self._look_again(requirement, subject, undone=True)

    def _interrupted(
        self, guest: Guest, cycle: PowerCycle, seq: int, result: Result
    ) -> None:
        """Report the guest's state after a power cycle that was cut short."""
        if self.hypervisor.is_cut_off:
            return  # libvirt hung up, so the state is not known: the next run sees it
        guest.forget()
        is_up = guest.is_running and power.runs_on(guest, cycle.booted)
        if not is_up or guest.is_leaving:
            state = "interrupted before it came back; the next --fix finishes its power cycle"
            self._write_down(self.journal.unknown, seq, state)
            result.left_off = not guest.is_running
        elif power.is_rolled_back(guest, cycle):
            state = "interrupted; it was started again on the definition that booted"
            self._rolled_back(guest, result)
            self._write_down(self.journal.failed, seq, state)
        else:
            state = "interrupted; it was not shut down"
            self._write_down(self.journal.failed, seq, state)
        result.reason += f"; {state}"

    def _rolled_back(self, guest: Guest, cycled: Result) -> None:
        """Note as undone the definitions of this run that the roll-back replaced by the one that booted.

        *cycled* is the row of the power cycle.
        """
        cycled.rolled_back = True
        for seq in self.journal.defined_since_start(guest.uuid):
            self._write_down(self.journal.undone, seq, "rolled back")
            result, record = self._records[seq]
            result.rolled_back = record.undone = True

    def _look_again(
        self, cycled: Requirement, subject: Subject, *, undone: bool = False
    ) -> None:
        """Judge again, after a power cycle, the rows that were judged before it, and mend those that broke."""
        guest = subject.guest
        if guest is None:
            return
        for requirement in catalogue().values():
            if requirement.slug == cycled.slug:
                return
            for again in subjects(requirement, guest):
                self._judge_once_more(requirement, again, undone=undone)

    def _judge_once_more(
        self, requirement: Requirement, subject: Subject, *, undone: bool
    ) -> None:
        result = self.results.get((requirement.slug, *subject.key))
        if result is None:
            return
        before = result.verdict
        if before in (Verdict.WAIVED, Verdict.NOT_APPLICABLE):
            return
        judgement = judge(requirement, subject)
        if judgement.verdict is Verdict.COMPLIANT:
            if not before.holds:
                result.take(judgement)
            return
        result.take(judgement)
        is_finding = judgement.verdict is Verdict.NONCOMPLIANT
        if undone and before is Verdict.FIXED:
            result.reason = f"rolled back: {result.reason}"
        elif is_finding and before is Verdict.NONCOMPLIANT:
            self._name_the_way(requirement, subject, result)
        elif is_finding and before.holds and not undone:
            self._remedy(requirement, subject, result)

    def _name_the_way(
        self, requirement: Requirement, subject: Subject, result: Result
    ) -> None:
        """Report in the row again why its finding was not mended, and the steps by hand. Nothing is applied."""
        unmet = self._waits_for(requirement, subject)
        if self._depends(subject, result, unmet):
            return
        changes = self._propose(requirement, subject, result)
        self._withheld(subject, changes, result)

    # The requirements that a fix waits for

    def _waits_for(
        self, requirement: Requirement, subject: Subject
    ) -> list[tuple[str, Judgement]]:
        """Return the requirements in `after` that do not hold for the same guest, each with its first such judgement.

        Without --force the first one is enough.
        """
        unmet: list[tuple[str, Judgement]] = []
        guest = subject.guest
        if guest is None:
            return unmet
        if requirement.revives and guest.cannot_start:
            return unmet  # nobody can look into a guest that cannot start
        for slug in requirement.after:
            earlier = catalogue()[slug]
            if earlier.stage == "inside" and not guest.is_running:
                continue  # a guest that is off is changed from outside
            for judgement in self._standing(earlier, guest):
                if not judgement.verdict.holds:
                    unmet.append((slug, judgement))
                    break
            if unmet and not self.force:
                break
        return unmet

    def _depends(
        self, subject: Subject, result: Result, unmet: list[tuple[str, Judgement]]
    ) -> bool:
        """True if a fix is withheld since it depends on an *unmet* requirement. Then the row gets that."""
        if not unmet or self.force:
            return False
        slug, judgement = unmet[0]
        is_listed = self._is_listed(slug, subject)
        _withhold(result, slug, judgement, is_listed=is_listed)
        return True

    def _is_listed(self, slug: str, subject: Subject) -> bool:
        """True if this run has a row of the requirement *slug* for the guest of *subject*."""
        guest = subject.guest
        return guest is None or any(
            (slug, *asked.key) in self.results
            for asked in subjects(catalogue()[slug], guest)
        )

    def _standing(self, requirement: Requirement, guest: Guest) -> Iterable[Judgement]:
        """Yield the judgements of *requirement* for *guest*: those of this run, else new ones."""
        for subject in subjects(requirement, guest):
            if subject.disk is not None and subject.disk.is_unknown:
                continue  # reclaim changes nothing of it
            result = self.results.get((requirement.slug, *subject.key))
            if result is None:
                yield judge(requirement, subject)
            elif self._is_planned((requirement.slug, *subject.key), result):
                yield Judgement(Verdict.FIXED, "planned")
            else:
                yield Judgement(result.verdict, result.reason, result.evidence)

    def _is_planned(self, key: _Key, result: Result) -> bool:
        """True if the row *key* is mended by the plan, by a change of its own or of another row."""
        if self.mode != "plan":
            return False
        if key in self._mended_in_part:
            return False
        return bool(result.changes) or key in self._mended_by_plan


def _remark(guest: Guest | None, change: Change) -> str:
    """Return the report's note about *change*, or "" if libvirt does not answer: the change reports that itself."""
    try:
        return preconditions.remark(guest, change) if guest is not None else ""
    except libvirt.libvirtError:
        return ""


def _but_for(made: list[_Step]) -> str:
    """Name those of *made* that nothing undoes, as a trim: they stand after the others were taken back."""
    standing = [step.change.target for step in made if not step.record.undone]
    return f", but for {', '.join(map(printable, standing))}" if standing else ""


def _evidence(seen: str, changes: list[Change]) -> str:
    """Return the evidence *seen* and the settings that the definition lost or moved."""
    notes: list[str] = []
    for change in changes:
        if isinstance(change, DefinitionChange):
            notes += map(printable, change.notes)
    return _joined(seen, *notes)


def _planned_notes(changes: list[Change]) -> list[str]:
    """Return the notes about definitions that libvirt's schema refuses as they are."""
    return [
        printable(refused_by_schema(Definition(change.before)))
        for change in changes
        if isinstance(change, DefinitionChange)
    ]


def _joined(*texts: str) -> str:
    return "; ".join(filter(None, texts))


def _withhold(
    result: Result, slug: str, judgement: Judgement, *, is_listed: bool
) -> None:
    """Report in the row that its fix depends on the requirement *slug*, which has a row in this run if *is_listed*."""
    is_pending = judgement.verdict is Verdict.PENDING
    result.verdict = Verdict.PENDING if is_pending else Verdict.NONCOMPLIANT
    aside = "" if is_listed else ", which has no row in this run"
    result.reason += f"; withheld: depends on {slug} ({_shortly(judgement)}){aside}"


def _wait_for_power(
    result: Result, change: PowerCycle, closed: Closed | None, *, asked: bool
) -> None:
    """Report in the row that it needs a power cycle, which only --restart makes; *asked* if that was given.

    *closed* has the maintenance window that it waits for.
    """
    result.verdict = Verdict.PENDING
    why = f" ({printable(change.why)})" if change.why else ""
    ways = [] if asked else ["shut the guest down and start it, or run with --restart"]
    result.reason += f"; waits for a power cycle{why}: {'; '.join(ways)}"
    _name_window(result, closed, after=" " if asked else "; ")


def _name_window(result: Result, closed: Closed | None, after: str = "; ") -> None:
    """Report in the row the maintenance window that its power cycle waits for, if there is one."""
    if closed is not None:
        result.reason = f"{result.reason.rstrip()}{after}{printable(closed.reason)}"
        result.next_window = closed.begins


def _forget_changed(step: _Step) -> None:
    """Drop the answers that the change may have made stale. A new definition changes nothing inside the guest."""
    is_definition = isinstance(step.change, DefinitionChange)
    step.mending.subject.place.forget(inside=not is_definition)


def _is_off(guest: Guest) -> bool:
    """True if *guest* is off, and closed only by that or by its system, which `_why_not_started` reports."""
    if guest.is_running:
        return False
    return guest.why_not_inside() == OFF or bool(guest.persistent.other_system)


def _report_start(result: Result, note: str, failed: str, slow: str = "") -> None:
    """Report in a row of a guest that it was started and shut down again (*note*), or could not be (*failed*).

    *slow*: it did not answer in time, or "".
    """
    if result.requirement == boot_stopped.WITNESS:
        if failed:
            reason = f"{_WAS_OFF}, and could NOT be shut down again: {failed}"
            result.take(Judgement(Verdict.ERROR, reason))
        elif result.verdict.holds:
            result.evidence = f"{result.evidence}; {_WAS_OFF} and {note}"
        else:
            result.reason = _joined(result.reason, slow, f"{_WAS_OFF} and {note}")
    elif result.requirement == _LIVE and result.verdict is Verdict.PENDING:
        if not failed:
            next_start = f"{note}: its next start uses the definition"
            result.reason = f"{result.reason}; {next_start}"


def _name(handle: Guest | Disk | None) -> str | None:
    return handle.name if handle is not None else None


def _shortly(judgement: Judgement) -> str:
    """Return a verdict and the first part of its reason. Its own row has all of it."""
    if judgement.verdict is Verdict.PENDING:
        return "pending"
    reason = judgement.reason.partition(";")[0]
    return f"{judgement.verdict}: {'the guest is off' if reason == OFF else reason}"


def _overruled(unmet: Sequence[tuple[str, Judgement]]) -> str:
    """Name the requirements that --force overrules: those that do not hold, and those that could not be assessed."""
    if not unmet:
        return ""
    alike: dict[str, list[str]] = {}
    for slug, judgement in unmet:
        alike.setdefault(_shortly(judgement), []).append(slug)
    parts = []
    for state, (first, *others) in alike.items():
        so_are = f" (so are {', '.join(others)})" if others else ""
        parts.append(f"{first} is {state}{so_are}")
    overruled = f"forced although {' and '.join(parts)}"
    unseen = [
        slug
        for slug, judgement in unmet
        if judgement.verdict in (Verdict.NOT_ASSESSABLE, Verdict.ERROR)
    ]
    if not unseen:
        return overruled
    states = "; ".join(catalogue()[slug].title for slug in unseen)
    return f"{overruled}; reclaim did not check this: {states}"


def subjects(requirement: Requirement, guest: Guest) -> list[Subject]:
    """Return the subjects of *requirement* in *guest*. The run finds the guest's copies (`backups.backup`)."""
    return [
        subject
        for subject in everything(requirement, guest)
        if is_asked(requirement, subject)
    ]


def everything(requirement: Requirement, guest: Guest) -> list[Subject]:
    """Return all subjects in *guest* of requirements with these parameters."""
    if requirement.stage == "backup":
        return []
    if "disk" not in requirement.parameters:
        return [Subject(guest.hypervisor, guest)]
    names = {now: before for before, now in guest.renamed.items()}
    definition = guest.persistent
    targets = [names.get(disk.target, disk.target) for disk in definition.disks]
    if definition.has_arguments and qemuargs.disks(definition.root):
        targets.append(UNKNOWN_DISKS)
    return [Subject(guest.hypervisor, guest, Disk(guest, target)) for target in targets]


def is_asked(requirement: Requirement, subject: Subject) -> bool:
    """True unless the disk is unknown to libvirt: only one requirement reports such disks."""
    return (
        subject.disk is None
        or not subject.disk.is_unknown
        or requirement.slug == TELLS_OF_UNKNOWN
    )
