"""The engine: check, fixer, journal, apply, forget, the same check again. The only hand that changes anything."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import libvirt

from reclaim.backups.backup import Backup
from reclaim.backups.job import Job
from reclaim.base.errors import (
    ChangeFailed,
    JournalLost,
    NotApplicable,
    NotAssessable,
    Pending,
    PowerCycleFailed,
    ProbeError,
    Refused,
    StillRunning,
    Withheld,
)
from reclaim.base.text import libvirt_words, printable
from reclaim.base.verdict import ChangeRecord, Judgement, Result, Verdict
from reclaim.changes import boot_stopped, power, preconditions
from reclaim.changes.boot_stopped import Boot
from reclaim.changes.change import Change
from reclaim.changes.definition_change import DefinitionChange
from reclaim.changes.power import PowerCycle
from reclaim.definition import qemuargs
from reclaim.definition.domain import Definition
from reclaim.engine.journal import Journal
from reclaim.handles.guest import OFF, UNKNOWN_DISKS, Disk, Guest
from reclaim.handles.node import Node
from reclaim.requirement import Requirement, catalogue

Mode = Literal["audit", "plan", "fix"]
#: the requirement whose rows tell of disks that only QEMU's own arguments bring
TELLS_OF_UNKNOWN = "disk-discard"


class Subject(NamedTuple):
    """What one requirement is judged for."""

    hypervisor: Node
    guest: Guest | None = None
    disk: Disk | None = None
    backup: Backup | None = None
    job: Job | None = None

    @property
    def place(self) -> Guest | Node:
        """Where changes are made: copies and their jobs are the hypervisor's, whosever disk they are of."""
        if self.guest is None or self.backup is not None or self.job is not None:
            return self.hypervisor
        return self.guest

    @property
    def key(self) -> tuple[str | None, str | None, str | None]:
        """Guest, disk, and copy or job, by name: what tells the rows of one requirement apart."""
        copy = self.backup or self.job
        path = None if copy is None else copy.path
        return (
            None if self.guest is None else self.guest.name,
            None if self.disk is None else self.disk.name,
            printable(path) if path else None,
        )

    def arguments(self, requirement: Requirement) -> list[Any]:
        """The handles that the requirement's check and fixer take."""
        return [getattr(self, name) for name in requirement.parameters]


def judge(requirement: Requirement, subject: Subject) -> Judgement:
    """Ask the check. Nothing is changed.

    Only an AssertionError that the check itself raised is a finding; a probe that failed is an
    `error`. Anything else is a fault of ours and is raised.
    """
    guest = subject.guest
    if guest is not None and (reason := guest.notes.waive.get(requirement.slug)):
        return Judgement(Verdict.WAIVED, printable(reason))
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
    """Was it raised by the check's own assert, not somewhere below it?"""
    traceback = exc.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return (
        traceback is not None
        and traceback.tb_frame.f_code is requirement.check.__code__
    )


def finding(exc: AssertionError) -> str:
    """The check's own words, without what pytest's assertion rewriting adds."""
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


@dataclass
class Engine:
    """Judges, and mends as the mode allows. One for each hypervisor and run."""

    hypervisor: Node
    mode: Mode
    journal: Journal
    restart: bool = False
    force: bool = False
    boot_stopped: bool = False
    results: dict[tuple[str, str | None, str | None, str | None], Result] = field(
        default_factory=dict
    )
    #: bytes that came back from copies; what came back from guests' disks is counted on the disks
    freed: int = 0
    _planned: dict[str, Definition] = field(default_factory=dict)
    _planned_renames: dict[str, dict[str, str]] = field(default_factory=dict)
    #: what the changes of the fix under way had to say
    _notes: list[str] = field(default_factory=list)
    #: the changes of this run by their number in the journal
    _records: dict[int, ChangeRecord] = field(default_factory=dict)
    _asked: list[_Asked] = field(default_factory=list)
    #: seconds that are waited for a libvirt that hung up
    _patience: float = 60
    #: why nothing more is changed: the journal cannot be written
    stopped: str = ""
    _is_told: bool = False
    #: guests that were started to be looked into, and the number of that change
    _booted: dict[Guest, int] = field(default_factory=dict)

    def visit(self, guest: Guest) -> None:
        """Start *guest* where it is off and --boot-stopped was given; `leave` shuts it down again."""
        if not self.boot_stopped or guest in self._booted or guest.unstarted:
            return
        try:
            if guest.is_running or not (
                guest.closed() == OFF or guest.persistent.other_system
            ):
                return
            guest.forget(
                inside=False
            )  # a run over a fleet takes hours: it is started on what is defined now
            # what was left off is to be brought back, not to be looked into and shut down
            if reason := guest.left_off or preconditions.why_not_started(guest):
                guest.unstarted = reason
                return
            if self.stopped:
                guest.unstarted = self._why_stopped()
                return
            change = Boot(guest.name, self.journal.path.parent.name)
            seq = self._booted[guest] = self.journal.intend(
                guest.name, guest.uuid, boot_stopped.SLUG, change
            )
            change.apply(guest)
        except JournalLost as exc:
            self.stopped = str(exc)
            guest.unstarted = self._why_stopped()
        except libvirt.libvirtError as exc:
            guest.unstarted = f"libvirt: {libvirt_words(exc)}"
        except ChangeFailed as exc:
            guest.unstarted = str(exc)
            self._write_down(self.journal.failed, seq, str(exc))
            guest.booted_by = None
            del self._booted[guest]

    def leave(self, guest: Guest) -> None:
        """Shut *guest* down where `visit` started it; its rows say so."""
        if guest not in self._booted:
            return
        seq = self._booted[guest]
        change = next(
            change
            for number, change in self.journal.standing(guest.uuid)
            if number == seq
        )
        told = "it was off: it was started (--boot-stopped)"
        failed = ""
        try:
            note = change.undo(guest, {})
            self._write_down(self.journal.undone, seq, note)
        except (ChangeFailed, ProbeError, libvirt.libvirtError) as exc:
            failed = printable(str(exc))
            self._write_down(self.journal.failed, seq, failed)
        del self._booted[guest]
        self._asked = [
            one for one in self._asked if one.guest is not guest
        ]  # it is not to be started again
        for cycle in self.journal.at_stake(guest.uuid):  # nor by a later run
            self._write_down(self.journal.failed, cycle, f"{told}, and is to be off")
        guest.booted_by = None
        guest.forget(inside=False)
        for result in self.results.values():
            if result.guest != guest.name:
                continue
            if result.requirement == boot_stopped.WITNESS and failed:
                result.take(
                    Judgement(
                        Verdict.ERROR,
                        f"{told}, and could NOT be shut down again: {failed}",
                    )
                )
            elif result.requirement == boot_stopped.WITNESS and result.verdict.holds:
                result.evidence = f"{result.evidence}; {told} and {note}"
            elif result.requirement == boot_stopped.WITNESS:
                result.reason = f"{result.reason}; {told} and {note}"
            elif (
                result.requirement == "live-definition"
                and result.verdict is Verdict.PENDING
                and not failed
            ):
                result.reason = (
                    f"{result.reason}; {note}: its next start uses the definition"
                )

    def leave_all(self) -> None:
        """Shut down what is still up of what was started: the run was interrupted."""
        for guest in list(self._booted):
            self.leave(guest)

    def run(self, requirement: Requirement, subject: Subject) -> Result:
        """Judge one requirement for one subject, and mend it where the mode says so."""
        started = time.monotonic()
        if self._asked:
            self.look_after()
        judgement = judge(requirement, subject)  # what is interrupted has no row
        result = self.result(requirement, subject)
        result.take(judgement)
        if result.verdict is Verdict.ERROR and self._is_reconnected():
            result.take(judge(requirement, subject))
        if result.verdict is Verdict.NONCOMPLIANT and self.mode != "audit":
            self._remedy(requirement, subject, result)
        result.seconds += time.monotonic() - started
        return result

    def result(self, requirement: Requirement, subject: Subject) -> Result:
        slug = requirement.slug
        guest, disk, copy = subject.key
        key = (slug, guest, disk, copy)
        found = self.results.get(key)
        if found is None:
            name = self.hypervisor.name
            found = Result(
                slug, requirement.title, name, guest, disk, copy, Verdict.NOT_ASSESSABLE
            )
            self.results[key] = found
        return found

    def _is_reconnected(self) -> bool:
        """Had libvirt hung up, and does it answer again? Its daemon may have been restarted."""
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
        for one in list(self._asked):
            try:
                if power.is_active(one.guest):
                    continue
                self._asked.remove(one)
                outcome = one.cycle.apply(one.guest)
            except (ChangeFailed, ProbeError, libvirt.libvirtError) as exc:
                result = self.result(one.requirement, one.subject)
                result.verdict = Verdict.NONCOMPLIANT
                result.reason = f"it went off late; {printable(str(exc), lines=True)}"
                self._not_back(one.requirement, one.subject, one.cycle, one.seq, exc)
                continue
            self._write_down(self.journal.done, one.seq, outcome)
            one.record.applied = True
            one.guest.forget()
            result = self.result(one.requirement, one.subject)
            result.take(judge(one.requirement, one.subject))
            if result.verdict is Verdict.COMPLIANT:
                result.take(
                    Judgement(
                        Verdict.FIXED,
                        f"it went off late; {outcome.get('note', '')}",
                        result.evidence,
                    )
                )
            self._look_again(one.requirement, one.subject)

    # The journal

    def _write_down(self, write: Callable[..., None], seq: int, *what: object) -> None:
        """Write down what came of change *seq*; where that cannot be, nothing more is changed."""
        try:
            write(seq, *what)
        except JournalLost as exc:
            self.stopped = self.stopped or str(exc)

    def _why_stopped(self) -> str:
        """Why nothing more is changed: in full for the first row that it is of, in short for the others."""
        told, self._is_told = self._is_told, True
        return "nothing more is changed in this run" + (
            "" if told else f": {printable(self.stopped)}"
        )

    # Mending

    def _remedy(
        self, requirement: Requirement, subject: Subject, result: Result
    ) -> None:
        if self.stopped:
            result.reason += f"; not mended: {self._why_stopped()}"
            return
        waits = self._waits_for(requirement, subject)
        if waits and not self.force:
            slug, judgement = waits[0]
            result.verdict = (
                Verdict.PENDING
                if judgement.verdict is Verdict.PENDING
                else Verdict.NONCOMPLIANT
            )
            result.reason += f"; withheld: waits for {slug} ({_shortly(judgement)})"
            return
        forced = _overruled(waits)
        if self.restart and requirement.stage == "power" and subject.guest is not None:
            subject.guest.forget()  # the fleet was looked into hours ago, and it has to come back as it is now
        changes = self._propose(requirement, subject, result)
        if not changes or self._withheld(subject, changes, result):
            return
        if self.mode == "plan":
            self._plan(subject, changes, result, forced)
            return
        found = result.reason
        try:
            applied = self._apply(requirement, subject, changes, result, forced)
        except Refused:
            # nothing was changed by what was refused, and the fixer knows of it now
            self._remedy(requirement, subject, result)
            return
        if not applied:
            return
        verdict = judge(requirement, subject)
        if verdict.verdict is Verdict.COMPLIANT:
            notes = [text for text in (f"was: {found}", forced, *self._notes) if text]
            result.take(
                Judgement(
                    Verdict.FIXED,
                    "; ".join(notes),
                    _evidence(verdict.evidence, changes),
                )
            )
        else:
            result.take(verdict)
            if verdict.verdict is Verdict.NONCOMPLIANT and not self._waits(
                requirement, subject, result
            ):
                helped = found.partition(";")[0] != result.reason.partition(";")[0]
                notes = (
                    [f"was: {found}", *self._notes]
                    if helped
                    else ["the change was applied and did not help"]
                )
                result.reason = "; ".join(
                    (result.reason, *filter(None, (forced,)), *notes)
                )
        if any(isinstance(change, PowerCycle) for change in changes):
            self._look_again(requirement, subject)

    def _propose(
        self, requirement: Requirement, subject: Subject, result: Result
    ) -> list[Change]:
        """What the fixer proposes; where it withholds, the result says so."""
        try:
            if self.mode == "plan" and subject.guest is not None:
                name = subject.guest.name
                planned, renames = (
                    self._planned.get(name),
                    self._planned_renames.get(name, {}),
                )
                with subject.guest.planning(planned, renames):
                    return requirement.fixer(*subject.arguments(requirement))
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

    def _waits(
        self, requirement: Requirement, subject: Subject, result: Result
    ) -> bool:
        """Does what was applied count later? The fixer knows: asked again, it has nothing to propose but to wait."""
        try:
            requirement.fixer(*subject.arguments(requirement))
        except Pending as exc:
            result.verdict = Verdict.PENDING
            result.reason += f"; {printable(str(exc))}"
            return True
        except (Withheld, NotAssessable, ProbeError, libvirt.libvirtError):
            return False
        return False

    def _withheld(
        self, subject: Subject, changes: list[Change], result: Result
    ) -> bool:
        """Does the guest's state forbid one of *changes*? Then the result says why."""
        guest = subject.guest
        if guest is None:
            return False
        for change in changes:
            try:
                reason = preconditions.why_not_applied(guest, change)
            except libvirt.libvirtError as exc:
                reason = f"libvirt cannot tell the guest's state: {libvirt_words(exc)}"
            if reason is None:
                continue
            if isinstance(change, PowerCycle) and not self.restart:
                result.verdict = Verdict.PENDING
                result.reason += (
                    f"; waits for a power cycle, which is withheld: {printable(reason)}"
                )
            else:
                result.reason += f"; withheld: {printable(reason)}"
            return True
        return False

    def _plan(
        self, subject: Subject, changes: list[Change], result: Result, forced: str
    ) -> None:
        result.changes += [
            ChangeRecord(change.kind, change.target, change.diff) for change in changes
        ]
        result.evidence = _evidence(result.evidence, changes)
        result.reason += f"; {forced}" if forced else ""
        for change in changes:
            if isinstance(change, DefinitionChange) and subject.guest is not None:
                name = subject.guest.name
                self._planned[name] = Definition(change.after)
                self._planned_renames[name] = {
                    **self._planned_renames.get(name, {}),
                    **change.renames,
                }

    def _apply(
        self,
        requirement: Requirement,
        subject: Subject,
        changes: list[Change],
        result: Result,
        forced: str,
    ) -> bool:
        """Journal and apply; True where all were applied. The result tells of what was not."""
        guest, place = subject.guest, subject.place
        self._notes = []
        for change in changes:
            if isinstance(change, PowerCycle) and not self.restart:
                result.verdict = Verdict.PENDING
                why = f" ({printable(change.why)})" if change.why else ""
                way = "shut the guest down and start it, or run with --restart"
                result.reason += f"; waits for a power cycle{why}: {way}"
                return False
            remark = _remark(guest, change)
            seq = self._intended(requirement, place, change, result)
            if seq is None:
                return False
            if isinstance(change, DefinitionChange) and guest is not None:
                guest.history.append(change.before)
            record = self._records[seq] = ChangeRecord(
                change.kind, change.target, change.diff
            )
            result.changes.append(record)
            try:
                outcome = change.apply(place)
            except Refused as exc:
                self._write_down(self.journal.failed, seq, str(exc))
                result.changes.remove(record)
                place.forget()
                raise
            except PowerCycleFailed as exc:
                result.reason = "; ".join(
                    text for text in (printable(str(exc), lines=True), forced) if text
                )
                self._not_back(requirement, subject, change, seq, exc)
                return False
            except StillRunning as exc:
                self._write_down(self.journal.unknown, seq, str(exc))
                result.verdict = Verdict.PENDING
                result.reason += (
                    f"; waits for its next power cycle: {printable(str(exc))}"
                )
                if guest is not None and isinstance(change, PowerCycle):
                    self._asked.append(
                        _Asked(requirement, subject, guest, change, seq, record)
                    )
                return False
            except (ChangeFailed, ProbeError, libvirt.libvirtError) as exc:
                is_undone = isinstance(exc, ChangeFailed)
                self._write_down(
                    self.journal.failed if is_undone else self.journal.unknown,
                    seq,
                    str(exc),
                )
                place.forget(inside=not isinstance(change, DefinitionChange))
                result.reason += f"; {forced}" if forced else ""
                result.reason += f"; not mended: {printable(str(exc), lines=True)}"
                return False
            except BaseException as exc:  # Ctrl-C, SIGTERM, a fault of ours: only the journal and the row are told
                if guest is not None and isinstance(change, PowerCycle):
                    self._interrupted(guest, change, seq, result)
                else:
                    self._write_down(
                        self.journal.unknown,
                        seq,
                        f"interrupted: {type(exc).__name__}: {printable(str(exc))}",
                    )
                raise
            self._write_down(self.journal.done, seq, outcome)
            record.applied = True
            self.freed += int(outcome.get("freed", "0"))
            self._notes += [
                printable(note) for note in (outcome.get("note"), remark) if note
            ]
            place.forget(inside=not isinstance(change, DefinitionChange))
            if self.stopped:
                return self._is_all(changes, change, result)
        return True

    def _intended(
        self,
        requirement: Requirement,
        place: Guest | Node,
        change: Change,
        result: Result,
    ) -> int | None:
        """The number of *change* in the journal; None where it is not to be made, and the row says why."""
        try:
            return self.journal.intend(place.name, place.uuid, requirement.slug, change)
        except JournalLost as exc:
            self.stopped = str(exc)
            result.reason += f"; not mended: {self._why_stopped()}"
        except ChangeFailed as exc:
            result.reason += f"; not mended: {printable(str(exc))}"
        return None

    def _is_all(self, changes: list[Change], made: Change, result: Result) -> bool:
        """*made* was applied and could not be written down: was it the last? The row says so."""
        if made is changes[-1]:
            self._notes.append(f"applied, and not written down: {self._why_stopped()}")
            return True
        result.reason += f"; mended in part: {self._why_stopped()}"
        return False

    def _not_back(
        self,
        power_cycle: Requirement,
        subject: Subject,
        change: Change,
        seq: int,
        exc: Exception,
    ) -> None:
        """A guest did not come back: the journal is told, and what was judged before is judged again."""
        guest = subject.guest
        if guest is None or not isinstance(exc, ChangeFailed):
            self._write_down(self.journal.unknown, seq, str(exc))
            return
        guest.forget()
        if guest.is_running:
            self._write_down(self.journal.failed, seq, str(exc))
        else:
            self._write_down(
                self.journal.unknown, seq, str(exc)
            )  # the next run tries again
        if isinstance(exc, PowerCycleFailed) and isinstance(change, PowerCycle):
            if power.is_rolled_back(guest, change):
                self._rolled_back(guest)
            self._look_again(power_cycle, subject, undone=True)

    def _interrupted(
        self, guest: Guest, cycle: PowerCycle, seq: int, result: Result
    ) -> None:
        """The power cycle was cut short: tell what is known of the guest."""
        if self.hypervisor.is_cut_off:
            return  # nothing is: the next run sees
        guest.forget()
        if (
            guest.is_running
            and power.runs_on(guest, cycle.booted)
            and not guest.is_leaving
        ):
            if power.is_rolled_back(guest, cycle):
                words = (
                    "interrupted; it was started again on the definition that booted"
                )
                self._rolled_back(guest)
            else:
                words = "interrupted; it was not shut down"
            self._write_down(self.journal.failed, seq, words)
        else:
            words = "interrupted before it was seen to come back; the next --fix finishes it"
            self._write_down(self.journal.unknown, seq, words)
        result.reason += f"; {words}"

    def _rolled_back(self, guest: Guest) -> None:
        """The definition that booted is in force again: what this run had defined since is undone."""
        for seq in self.journal.defined_since_start(guest.uuid):
            self._write_down(self.journal.undone, seq, "rolled back")
            self._records[seq].undone = True

    def _look_again(
        self, power: Requirement, subject: Subject, *, undone: bool = False
    ) -> None:
        """After a power cycle what was judged before it is judged again, and mended where it broke."""
        guest = subject.guest
        for requirement in catalogue().values():
            if requirement.slug == power.slug:
                return
            for again in subjects(requirement, guest) if guest else ():
                result = self.results.get((requirement.slug, *again.key))
                if result is None or result.verdict in (
                    Verdict.WAIVED,
                    Verdict.NOT_APPLICABLE,
                ):
                    continue
                verdict = judge(requirement, again)
                if verdict.verdict is Verdict.COMPLIANT:
                    if not result.verdict.holds:
                        result.take(verdict)
                    continue
                before = result.verdict
                result.take(verdict)
                if undone and before is Verdict.FIXED:
                    result.reason = f"rolled back: {result.reason}"
                elif (
                    not undone
                    and verdict.verdict is Verdict.NONCOMPLIANT
                    and before.holds
                ):
                    self._remedy(requirement, again, result)

    # What a fix waits for

    def _waits_for(
        self, requirement: Requirement, subject: Subject
    ) -> list[tuple[str, Judgement]]:
        """The requirements named by `after` that do not hold for the same guest, each with the first row that says so.

        Without --force the first one is enough.
        """
        found: list[tuple[str, Judgement]] = []
        guest = subject.guest
        if guest is None:
            return found
        for slug in requirement.after:
            if catalogue()[slug].stage == "inside" and not guest.is_running:
                continue  # what is done to a guest that is off is done from outside
            standing = self._standing(catalogue()[slug], guest)
            if broken := next((one for one in standing if not one.verdict.holds), None):
                found.append((slug, broken))
                if not self.force:
                    break
        return found

    def _standing(self, requirement: Requirement, guest: Guest) -> Iterable[Judgement]:
        """How *requirement* stands for *guest*: as this run judged it, else judged now."""
        for subject in subjects(requirement, guest):
            if subject.disk is not None and subject.disk.is_unknown:
                continue  # nothing is done to it
            result = self.results.get((requirement.slug, *subject.key))
            if result is None:
                yield judge(requirement, subject)
            elif self.mode == "plan" and result.changes:
                yield Judgement(Verdict.FIXED, "planned")
            else:
                yield Judgement(result.verdict, result.reason, result.evidence)


def _remark(guest: Guest | None, change: Change) -> str:
    """What the report adds to *change*; nothing where libvirt cannot tell: the change itself says so then."""
    try:
        return preconditions.remark(guest, change) if guest is not None else ""
    except libvirt.libvirtError:
        return ""


def _evidence(seen: str, changes: list[Change]) -> str:
    """What was *seen*, and what the definition lost or has elsewhere now."""
    told = [
        note
        for change in changes
        if isinstance(change, DefinitionChange)
        for note in change.notes
    ]
    return "; ".join(filter(None, (seen, *map(printable, told))))


def _shortly(judgement: Judgement) -> str:
    """A verdict and the first part of its reason: its own row has all of it."""
    if judgement.verdict is Verdict.PENDING:
        return "pending"
    return f"{judgement.verdict}: {judgement.reason.partition(';')[0]}"


def _overruled(waits: Sequence[tuple[str, Judgement]]) -> str:
    """What --force overrules, in words: each requirement that does not hold, and which of them nobody could look at."""
    if not waits:
        return ""
    alike: dict[str, list[str]] = {}
    for slug, judgement in waits:
        alike.setdefault(_shortly(judgement), []).append(slug)
    told = " and ".join(
        f"{first} is {words}{f' (so are {others})' if (others := ', '.join(more)) else ''}"
        for words, (first, *more) in alike.items()
    )
    unseen = [
        slug
        for slug, one in waits
        if one.verdict in (Verdict.NOT_ASSESSABLE, Verdict.ERROR)
    ]
    if not unseen:
        return f"forced although {told}"
    states = "; ".join(catalogue()[slug].title for slug in unseen)
    return f"forced although {told}; nobody looked whether this holds: {states}"


def subjects(requirement: Requirement, guest: Guest) -> list[Subject]:
    """Everything of *guest* that *requirement* is judged for. Its copies are found by the run (`backups.backup`)."""
    return [
        subject
        for subject in everything(requirement, guest)
        if is_asked(requirement, subject)
    ]


def everything(requirement: Requirement, guest: Guest) -> list[Subject]:
    """Everything of *guest* that requirements with these parameters are judged for."""
    if requirement.stage == "backup":
        return []
    if "disk" not in requirement.parameters:
        return [Subject(guest.hypervisor, guest)]
    names = {now: before for before, now in guest.renamed.items()}
    targets = [names.get(disk.target, disk.target) for disk in guest.persistent.disks]
    if guest.persistent.has_arguments and qemuargs.disks(guest.persistent.root):
        targets.append(UNKNOWN_DISKS)
    return [Subject(guest.hypervisor, guest, Disk(guest, target)) for target in targets]


def is_asked(requirement: Requirement, subject: Subject) -> bool:
    """Of disks that libvirt knows nothing of one requirement tells."""
    return (
        subject.disk is None
        or not subject.disk.is_unknown
        or requirement.slug == TELLS_OF_UNKNOWN
    )
