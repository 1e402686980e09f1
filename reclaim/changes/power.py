"""The power cycle, and the way back: a guest that was up is never left down."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import libvirt

from reclaim.base.errors import (
    AgentBlocked,
    ChangeFailed,
    NotAssessable,
    PowerCycleFailed,
    ProbeError,
    StillRunning,
)
from reclaim.base.text import libvirt_words
from reclaim.definition.compare import (
    diff_definitions,
    missing_from,
    same,
    storage_differences,
)
from reclaim.definition.domain import Definition, called
from reclaim.handles import started_by
from reclaim.handles.console import Console, console
from reclaim.handles.guest import Guest
from reclaim.handles.health import Wellbeing, observe
from reclaim.processes import worker

T = TypeVar("T")

#: how often the power button is pressed again: a guest that was still starting has not heard it
_PRESSES = 6
#: seconds between two looks
_PAUSE = 1.0
#: seconds for what is missing to come, once systemd has started everything
_SETTLE_SECONDS = 60
#: seconds after which a guest that came back has to be there still
_STEADY_SECONDS = 5
#: seconds a guest that cannot be looked into has to stay up to count as started
_BLIND_SECONDS = 30
#: seconds in which libvirt has to answer again after it hung up, and how often that may be
_LIBVIRT_SECONDS = 120
_HANG_UPS = 5
#: starts of the definition that booted before it is given up
_STARTS = 3


@dataclass(frozen=True)
class PowerCycle:
    """Shut the guest down, start it on its definition, and see that it came back as it was.

    `booted` is the definition it runs on now: if it does not come back within the policy's
    `boot_seconds`, that is defined and started again. Without a `before` reclaim cannot look inside,
    and the guest only has to stay up.
    """

    kind: ClassVar[str] = "power-cycle"
    guest: str
    booted: str
    before: Wellbeing | None
    #: why less than this does not do, in libvirt's words where it was asked
    why: str = ""
    #: the definition that it is to start on
    defined: str = ""

    @property
    def target(self) -> str:
        return f"power of {self.guest}"

    @property
    def diff(self) -> str:
        return "shut down, start, wait for it to answer; roll back if it does not"

    def apply(self, guest: Guest) -> dict[str, str]:
        """Do it. Raises StillRunning if the guest does not shut down, PowerCycleFailed if it does not come back."""
        _ask(guest, lambda _domain: self._expect_a_way_back(guest))
        try:
            shut_down(guest)
            return self.resume(guest)
        except (
            ChangeFailed
        ):  # it runs as before, or was rolled back; else the error says so
            raise
        except (ProbeError, libvirt.libvirtError) as exc:
            self._not_left_down(guest)
            if not guest.is_leaving and is_rolled_back(guest, self):
                why = (
                    libvirt_words(exc)
                    if isinstance(exc, libvirt.libvirtError)
                    else str(exc)
                )
                raise PowerCycleFailed(
                    f"{guest.name}: {why}; it runs on the definition that booted"
                ) from exc
            raise
        except BaseException:  # Ctrl-C, a fault of ours
            self._not_left_down(guest)
            raise

    def _expect_a_way_back(self, guest: Guest) -> None:
        """Raises ChangeFailed unless the guest, once off, can be started on the definition that booted."""
        guest.forget()
        its_own(guest, self.booted)
        if not guest.is_persistent:
            raise ChangeFailed(
                f"{guest.name}: it has been undefined, and would be gone once it is off"
            )

    def resume(self, guest: Guest) -> dict[str, str]:
        """The second half: start it unless it runs, and see that it comes back. Raises PowerCycleFailed."""
        started = time.monotonic()
        said = _console(guest)
        try:
            guest.hypervisor.progress(f"{guest.name}: starting")
            _start(guest)
            remarks = _wait_until_back(guest, self.before, said)
        except libvirt.libvirtError as exc:
            raise self._rolled_back(
                guest, f"QEMU does not start: {libvirt_words(exc)}", said
            ) from exc
        except _NotBack as exc:
            raise self._rolled_back(
                guest, str(exc), said, hopeless=exc.hopeless
            ) from exc
        note = f"power-cycled; it was back after {time.monotonic() - started:.0f} s"
        return {"note": "; ".join([note, *remarks])}

    def finish(self, guest: Guest) -> str:
        """Finish the power cycle of a run that died, so that the guest runs in the end, and return in words how.

        Raises PowerCycleFailed if it had to be rolled back, or does not run even so.
        """
        guest.forget()
        if self._is_changed_since(guest):
            _start(guest)
            return "its definition has changed since: it runs, and reclaim restored nothing"
        if not is_active(guest):
            raise self._rolled_back(
                guest, "the run that power-cycled it left it off", _console(guest)
            )
        if runs_on(guest, self.booted):
            return "it runs on the definition that booted"
        return self.resume(guest)["note"]

    def _is_changed_since(self, guest: Guest) -> bool:
        """True if others have defined it anew. To put back the definition that booted would lose that."""
        known = [
            Definition(its_own(guest, xml))
            for xml in (self.booted, self.defined)
            if xml
        ]
        return bool(self.defined) and not any(
            same(guest.persistent, definition) for definition in known
        )

    def _lost(self, guest: Guest) -> str:
        """Return, in words, what others defined during the power cycle: the rollback takes no account of it."""
        guest.forget()
        if not _ask(guest, lambda _domain: self._is_changed_since(guest)):
            return ""
        lines = diff_definitions(
            Definition(its_own(guest, self.defined)), guest.persistent
        )
        return f"; this discarded a change made to the definition meanwhile:\n{lines}\n"

    def undo(self, guest: Guest, outcome: dict[str, str]) -> str:
        return (
            "shut the guest down and start it: that applies the restored definition"
            if guest.is_running
            else "it is off"
        )

    def _not_left_down(self, guest: Guest) -> None:
        """Bring the guest up after an interruption: once it is off, start it on the definition that booted."""
        with worker.way_back():
            self._bring_up(guest)

    def _bring_up(self, guest: Guest) -> None:
        if guest.is_leaving:
            guest.hypervisor.progress(
                f"{guest.name}: interrupted; waiting until it is off, to start it again"
            )
            _is_off_within(guest, guest.policy.shutdown_seconds)
        if not is_active(guest):
            with suppress(
                libvirt.libvirtError, ChangeFailed
            ):  # better up on the other definition than down
                _define(guest, self.booted)
            _start(guest)

    def _rolled_back(
        self, guest: Guest, why: str, said: Console, *, hopeless: bool = False
    ) -> PowerCycleFailed:
        """Bring the guest back on the definition that booted, and return the error that reports it."""
        tail = said.tail
        guest.hypervisor.progress(f"{guest.name}: {why}; rolling back")
        take_down(guest, hopeless=hopeless)
        text = f"{guest.name}: {why}; rolled back to the definition that booted{self._lost(guest)}"
        try:
            self._define_again(guest)
        except ChangeFailed as refusal:
            # its machine type may be gone from this QEMU: better up than down
            text = (
                f"{guest.name}: {why}; NOT rolled back: libvirt refuses the definition that booted "
                f"({refusal}): the guest is stopped, with the new definition"
            )
        return PowerCycleFailed(f"{text}{self._started_again(guest, tail)}")

    def _define_again(self, guest: Guest) -> None:
        """Define again what booted. Raises ChangeFailed with the reason if libvirt does not take it."""
        try:
            _define(guest, self.booted)
        except libvirt.libvirtError as exc:
            raise ChangeFailed(libvirt_words(exc)) from exc

    def _started_again(self, guest: Guest, tail: str) -> str:
        """Start the guest, again if need be. Returns the end of a sentence: that it runs, or why it does not.

        *tail* is the end of the console's output before the rollback.
        """
        for left in range(_STARTS - 1, -1, -1):
            again = _console(guest)
            try:
                _start(guest)
                _wait_until_back(guest, self.before, again, patience=2)
                break
            except libvirt.libvirtError as exc:
                # a lock or an address of the QEMU before may be held a moment longer
                if not left:
                    return f", and it does NOT start: {libvirt_words(exc)}{tail}"
                worker.sleep(_PAUSE)
            except _NotBack as exc:
                if not left or not exc.hopeless:
                    return f" and started, but {exc}{again.tail}"
                guest.hypervisor.progress(f"{guest.name}: {exc}; starting it again")
                _destroy(guest)
        return f", and runs again{tail}"


def runs_on(guest: Guest, definition: str) -> bool:
    """True if the running QEMU has the storage settings of *definition*."""
    live = guest.live
    return live is not None and not storage_differences(live, Definition(definition))


def is_rolled_back(guest: Guest, cycle: PowerCycle) -> bool:
    """True if the definition that booted is in force again."""
    guest.forget()
    return same(guest.persistent, Definition(its_own(guest, cycle.booted)))


def booted_definition(guest: Guest) -> str:
    """Return the definition that the running QEMU was started from.

    That is, of our earlier definitions with the settings of the running disks, the one closest to the live
    XML. If there is none, it is that XML itself, without the parts that libvirt shows of a running domain only.
    """
    live = guest.live
    if live is None:
        raise ValueError(f"{guest.name} is off")
    fitting = [
        xml for xml in (*guest.history, guest.persistent.xml) if runs_on(guest, xml)
    ]
    if fitting:
        return min(fitting, key=lambda xml: _distance(live, Definition(xml)))
    edit = live.edit()
    for disk in edit.devices.iterfind("disk"):
        for name in ("backingStore", "mirror"):
            for element in disk.findall(name):
                edit.remove(element)
    for element in edit.root.findall(f"metadata/{{{started_by.URI}}}booted"):
        edit.remove(element)
    return edit.definition.xml


def _distance(live: Definition, other: Definition) -> int:
    """How many elements one of them has and the other has not."""
    return len(missing_from(live, other)) + len(missing_from(other, live))


# libvirt, also while its daemon restarts ------------------------------------------------------


def _ask(guest: Guest, question: Callable[[libvirt.virDomain], T]) -> T:
    """Ask libvirt about the guest. If it hung up meanwhile, ask once more when it answers again.

    QEMU goes on without libvirtd. A question must not mind being asked twice. Another guest's thread may have
    connected anew by the time that this one fails.
    """
    hypervisor = guest.hypervisor
    for _ in range(_HANG_UPS):
        connection = hypervisor.connection
        try:
            return question(guest.domain)
        except libvirt.libvirtError:
            if connection.isAlive() and not hypervisor.is_cut_off:
                raise
            if hypervisor.is_cut_off:
                hypervisor.progress(
                    f"{guest.name}: libvirt closed the connection; connecting again"
                )
                hypervisor.reconnect(_LIBVIRT_SECONDS)
    return question(guest.domain)


def is_active(guest: Guest) -> bool:
    """True if there is a QEMU process."""
    return bool(_ask(guest, lambda domain: domain.isActive()))


def _console(guest: Guest) -> Console:
    return _ask(guest, lambda _domain: console(guest))


def _start(guest: Guest) -> None:
    def start(domain: libvirt.virDomain) -> None:
        if not domain.isActive():
            guest.start()

    _ask(guest, start)
    guest.is_leaving = False
    guest.forget()


def its_own(guest: Guest, xml: str) -> str:
    """The definition *xml* of the guest, under the name that it has now.

    Raises ChangeFailed if *xml* is of another guest.
    """
    if (uuid := Definition(xml).uuid.strip()) != guest.uuid:
        raise ChangeFailed(
            f"{guest.name}: the definition is of another guest ({uuid or 'without a uuid'})"
        )
    return called(xml, guest.persistent.name)


def _define(guest: Guest, xml: str) -> None:
    """Define *xml*, which this libvirt had defined before. Raises ChangeFailed if it is of another guest."""
    guest.forget()
    own = _ask(guest, lambda _domain: its_own(guest, xml))
    _ask(guest, lambda _domain: guest.hypervisor.connection.defineXML(own))
    guest.renamed.clear()
    guest.forget()


def _destroy(guest: Guest) -> None:
    """Pull the plug: QEMU is asked to end (SIGTERM), then killed."""

    def destroy(domain: libvirt.virDomain) -> None:
        try:
            domain.destroyFlags(libvirt.VIR_DOMAIN_DESTROY_DEFAULT)
        except libvirt.libvirtError:
            if domain.isActive():
                raise

    if is_active(guest):
        _ask(guest, destroy)
    guest.is_leaving = False
    guest.forget()


# Down -----------------------------------------------------------------------------------------


def shut_down(guest: Guest) -> None:
    """Ask the guest to shut down: its agent, then ACPI, then systemctl.

    It cannot be asked to stay, so one that is slow is waited for, up to twice the policy's
    `shutdown_seconds`. The plug is pulled only if the inventory allows it (`pull_plug`).
    Raises StillRunning if it runs even then.
    """
    limit = guest.policy.shutdown_seconds
    deadline = time.monotonic() + limit
    ways: list[Callable[[Guest], bool]] = [_ask_agent, _press_button, _ask_systemd]
    for index, ask in enumerate(ways):
        guest.hypervisor.progress(f"{guest.name}: shutting down")
        if not ask(guest):
            continue
        share = (deadline - time.monotonic()) / (len(ways) - index)
        if _is_off_within(guest, share):
            return
    guest.hypervisor.progress(
        f"{guest.name}: it does not shut down within {limit} s; waiting as long again"
    )
    for _ in range(_PRESSES):
        _press_button(guest)
        if _is_off_within(guest, limit / _PRESSES):
            return
    if guest.pull_plug:
        guest.hypervisor.progress(
            f"{guest.name}: it does not shut down; stopping it by force (pull_plug)"
        )
        _destroy(guest)
        return
    raise StillRunning(
        f"{guest.name}: it did not shut down within {2 * limit} s and still runs as before: it ignores its agent, its "
        "power button and systemctl; it may still shut down later: then start it; a slow guest needs a larger "
        "shutdown_seconds in the inventory's policy"
    )


def _ask_agent(guest: Guest) -> bool:
    """Ask the agent to shut the guest down. Returns False if there is no agent."""
    if not guest.has_agent():
        return False
    guest.is_leaving = True
    try:
        guest.agent.command("guest-shutdown", {"mode": "powerdown"}, seconds=5)
    except AgentBlocked:
        return False
    except ProbeError:
        return (
            True  # success has no answer (qapi-schema.json); whether it worked is seen
        )
    return True


def _press_button(guest: Guest) -> bool:
    def press(domain: libvirt.virDomain) -> None:
        if domain.isActive():
            guest.is_leaving = True
            try:
                domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
            except libvirt.libvirtError:
                if domain.isActive():
                    raise

    _ask(guest, press)
    return True


def _ask_systemd(guest: Guest) -> bool:
    with suppress(ProbeError):  # it may be gone before it can answer
        off = "systemctl --no-block poweroff"
        return _ask(
            guest, lambda _domain: bool(guest.shell.run(off, seconds=10).rc == 0)
        )
    return True


def _is_off_within(guest: Guest, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while is_active(guest):
        if time.monotonic() > deadline:
            return False
        worker.sleep(_PAUSE)
    guest.is_leaving = False
    guest.forget()
    return True


def take_down(guest: Guest, *, hopeless: bool = False) -> None:
    """Stop a guest that did not come back: asked, unless it is *hopeless*; else by force."""
    if not hopeless and is_active(guest):
        try:
            if answers(guest):
                shut_down(guest)
            else:
                _press_button(guest)
                _is_off_within(guest, min(guest.policy.shutdown_seconds, 60))
        except (StillRunning, libvirt.libvirtError) as exc:
            guest.hypervisor.progress(
                f"{guest.name}: it cannot be shut down ({exc}); stopping it by force"
            )
    _destroy(guest)


# Up -------------------------------------------------------------------------------------------


class _NotBack(Exception):
    """The guest did not come back as it was, and in which way; *hopeless* if it is of no use to ask it for more."""

    def __init__(self, why: str, *, hopeless: bool = False) -> None:
        super().__init__(why)
        self.hopeless = hopeless


#: states with a QEMU in which nothing goes on
_DEAD = {
    libvirt.VIR_DOMAIN_CRASHED: "it crashed",
    libvirt.VIR_DOMAIN_PAUSED: "it is paused (by QEMU, for an I/O error?)",
}


def _wait_until_back(
    guest: Guest, before: Wellbeing | None, said: Console, *, patience: int = 1
) -> list[str]:
    """Wait for the guest to answer and to look as it did. Returns remarks. Raises _NotBack.

    The limit is *patience* times the policy's `boot_seconds`, and more on a busy hypervisor.
    """
    if before is None:
        _stays_up(guest, _BLIND_SECONDS, said)
        return []
    strain = guest.hypervisor.strain()
    limit = round(guest.policy.boot_seconds * patience * strain)
    deadline = time.monotonic() + limit
    while True:
        _wait_for_answer(guest, limit, deadline, said)
        remarks = _wait_until_well(guest, before, deadline, _SETTLE_SECONDS * strain)
        boot = _boot(guest)
        _stays_up(guest, _STEADY_SECONDS, said)
        if _boot(guest) == boot:
            return remarks
        if time.monotonic() > deadline:
            raise _NotBack(
                f"it does not stay up: it started again by itself within {limit} s"
            )
        guest.hypervisor.progress(f"{guest.name}: it started again by itself")


def _wait_for_answer(guest: Guest, limit: int, deadline: float, said: Console) -> None:
    while not answers(guest):
        left = deadline - time.monotonic()
        if not is_active(guest):
            raise _NotBack("it went off while it started", hopeless=True)
        if dead := _DEAD.get(_ask(guest, lambda domain: domain.state())[0]):
            raise _NotBack(dead, hopeless=True)
        if line := said.dead_end:
            raise _NotBack(f"its boot came to an end: {line}", hopeless=True)
        if left <= 0:
            raise _NotBack(
                f"it did not answer within {limit} s (boot_seconds in the inventory's policy)"
            )
        guest.hypervisor.progress(
            f"{guest.name}: waiting for it to answer ({left:.0f} s left)"
        )
        worker.sleep(_PAUSE)


def _wait_until_well(
    guest: Guest, before: Wellbeing, deadline: float, settle_seconds: float
) -> list[str]:
    """Wait until systemd has started everything and all is there that was there. Returns remarks. Raises _NotBack.

    What is missing once everything is started has *settle_seconds* to come.
    """
    settled: float | None = None
    while True:
        now, missing = _ask(guest, lambda _domain: _look(guest, before))
        starting = now is not None and now.starting and not before.starting
        if now is not None and not missing and not starting:
            return before.remarks(now)
        if not starting and settled is None:
            settled = time.monotonic() + settle_seconds
        if time.monotonic() > (deadline if settled is None else min(deadline, settled)):
            if missing or now is None:
                raise _NotBack(f"it answers, but {'; '.join(missing)}")
            return [*before.remarks(now), "it is still starting units"]
        if not is_active(guest):
            raise _NotBack("it answered and went off again", hopeless=True)
        guest.hypervisor.progress(
            f"{guest.name}: {missing[0] if missing else 'starting units'}"
        )
        worker.sleep(_PAUSE)


def answers(guest: Guest) -> bool:
    """True if the guest answers from inside now."""
    guest.forget()
    return _ask(guest, lambda _domain: guest.is_answering())


def _look(guest: Guest, before: Wellbeing) -> tuple[Wellbeing | None, list[str]]:
    guest.forget()
    if before.inside:
        try:
            _ = guest.facts
        except (NotAssessable, ProbeError) as exc:
            return None, [f"reclaim can no longer look inside: {exc}"]
    now = observe(guest)
    if now is None:
        return None, ["its agent no longer answers"]
    return now, before.missing(now)


def _boot(guest: Guest) -> str:
    """Return the id of this boot of the guest, "" if it cannot be read."""
    try:
        read = "cat /proc/sys/kernel/random/boot_id"
        return _ask(
            guest, lambda _domain: str(guest.shell.run(read, seconds=10).stdout)
        )
    except ProbeError:
        return ""


def _stays_up(guest: Guest, seconds: float, said: Console) -> None:
    """Raise _NotBack if the guest goes off, crashes, or prints that its boot ended, within *seconds*."""
    deadline = time.monotonic() + seconds
    while True:
        if not is_active(guest):
            raise _NotBack("it does not stay up: it went off again", hopeless=True)
        if dead := _DEAD.get(_ask(guest, lambda domain: domain.state())[0]):
            raise _NotBack(f"it does not stay up: {dead}", hopeless=True)
        if line := said.dead_end:
            raise _NotBack(f"its boot came to an end: {line}", hopeless=True)
        if time.monotonic() > deadline:
            break
        worker.sleep(_PAUSE)
    guest.forget()
