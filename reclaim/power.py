"""The power cycle, and the way back: a guest that was up is never left down."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import libvirt

from reclaim import mark
from reclaim.agent import AgentBlocked
from reclaim.definition import Definition, storage_differences
from reclaim.errors import ChangeFailed, NotAssessable, PowerCycleFailed, ProbeError
from reclaim.facts import Facts
from reclaim.guest import Guest
from reclaim.text import libvirt_words

#: what is shown of the console of a guest that did not come back
_CONSOLE_BYTES = 4096
_CONSOLE_LINES = 12
#: how often the power button is pressed again: a guest that was still starting has not heard it
_PRESSES = 6
#: seconds between two looks
_PAUSE = 1.0
#: seconds for units to fail and addresses to come once the agent answers
_SETTLE_SECONDS = 60
#: seconds a guest that cannot be looked into has to stay up to count as started
_BLIND_SECONDS = 30


@dataclass(frozen=True)
class Wellbeing:
    """What a guest had while it ran: what it has to have again after a power cycle.

    `mounts` are mount points by the UUID of their filesystem.
    """

    mounts: dict[str, str]
    addresses: list[str]
    failed_units: list[str]

    def missing(self, now: Facts) -> list[str]:
        """What the guest had and has no more, in words."""
        mounted = {mount.uuid for mount in now.mounts}
        found = [f"{target} is not mounted" for uuid, target in self.mounts.items() if uuid not in mounted]
        if lost := set(self.addresses) - now.addresses:
            found.append(f"it lost the address {', '.join(sorted(lost))}")
        if failed := now.failed_units - set(self.failed_units):
            found.append(f"units failed that did not before: {', '.join(sorted(failed)[:5])}")
        return found


def wellbeing(guest: Guest) -> Wellbeing | None:
    """How the guest is now; None where nobody can look inside."""
    try:
        facts = guest.facts
    except (NotAssessable, ProbeError):
        return None
    return Wellbeing(
        {mount.uuid: mount.target for mount in facts.mounts if mount.uuid},
        sorted(facts.addresses),
        sorted(facts.failed_units),
    )


@dataclass(frozen=True)
class PowerCycle:
    """Shut the guest down, start it on its definition, and see that it came back as it was.

    `booted` is the definition it runs on now: where it does not come back within the policy's
    `boot_seconds`, that is defined and started again. Without a `before` nobody can look inside,
    and to stay up is all that is asked of it.
    """

    kind: ClassVar[str] = "power-cycle"
    guest: str
    booted: str
    before: Wellbeing | None
    #: why less than this does not do, in libvirt's words where it was asked
    why: str = ""

    @property
    def target(self) -> str:
        return f"power of {self.guest}"

    @property
    def diff(self) -> str:
        return "shut down, start, wait for it to answer; roll back where it does not"

    def apply(self, guest: Guest) -> dict[str, str]:
        settled = False
        try:
            shut_down(guest)
            outcome = self.resume(guest)
            settled = True
        except PowerCycleFailed:
            settled = True  # it was rolled back, or the error says that it does not start
            raise
        finally:
            if not settled:  # Ctrl-C, a lost connection, a fault of ours
                _never_left_down(guest, self.booted)
        return outcome

    def resume(self, guest: Guest) -> dict[str, str]:
        """The second half: start it unless it runs, and see that it comes back, or roll back."""
        started = time.monotonic()
        try:
            guest.hypervisor.progress(f"{guest.name}: starting")
            if not guest.domain.isActive():
                guest.start()
            _wait_until_back(guest, self.before)
        except libvirt.libvirtError as exc:
            raise _rolled_back(guest, self, f"QEMU does not start: {libvirt_words(exc)}") from exc
        except _NotBack as exc:
            raise _rolled_back(guest, self, str(exc)) from exc
        return {"note": f"power-cycled; it was back after {time.monotonic() - started:.0f} s"}

    def undo(self, guest: Guest, outcome: dict[str, str]) -> str:
        return (
            "shut the guest down and start it for the definition that is in force again"
            if guest.is_running
            else "it is off"
        )


def _never_left_down(guest: Guest, booted: str) -> None:
    """Interrupted: a guest that is off by now is started on the definition that booted."""
    if not guest.domain.isActive():
        guest.hypervisor.connection.defineXML(booted)
        guest.start()
    guest.forget()


def booted_definition(guest: Guest) -> str:
    """The definition that the running QEMU was started from.

    The oldest definition before a change of ours that has the live settings; else the live XML
    itself, less what libvirt only shows of a running domain.
    """
    live = guest.live
    if live is None:
        raise ValueError(f"{guest.name} is off")
    for xml in [*guest.history, guest.persistent.xml]:
        if not storage_differences(live, Definition(xml)):
            return xml
    edit = live.edit()
    for disk in edit.devices.iterfind("disk"):
        for name in ("backingStore", "mirror"):
            for element in disk.findall(name):
                edit.remove(element)
    for element in edit.root.findall(f"metadata/{{{mark.URI}}}booted"):
        edit.remove(element)
    return edit.definition.xml


class _NotBack(Exception):
    """The guest did not come back as it was, and in which way."""


def shut_down(guest: Guest) -> None:
    """Ask the guest to shut down: its agent, then ACPI, then systemctl; the plug is never pulled.

    Raises ChangeFailed where it still runs after twice the policy's `shutdown_seconds`: it cannot be
    asked to stay, so one that is slow is waited for rather than left to go off unwatched.
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
            guest.forget()
            return
    guest.hypervisor.progress(f"{guest.name}: it does not shut down within {limit} s; waiting as long again")
    for _ in range(_PRESSES):
        _press_button(guest)
        if _is_off_within(guest, limit / _PRESSES):
            guest.forget()
            return
    raise ChangeFailed(
        f"{guest.name}: it did not shut down within {2 * limit} s and still runs as before; "
        "it was asked to, so should it go off later, start it"
    )


def _ask_agent(guest: Guest) -> bool:
    """False where it cannot have heard: there is another way to ask."""
    if not guest.has_agent():
        return False
    try:
        guest.agent.command("guest-shutdown", {"mode": "powerdown"}, seconds=5)
    except AgentBlocked:
        return False
    except ProbeError:
        return True  # success has no answer (qapi-schema.json); whether it worked is seen
    return True


def _press_button(guest: Guest) -> bool:
    if guest.domain.isActive():
        try:
            guest.domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
        except libvirt.libvirtError:
            if guest.domain.isActive():
                raise
    return True


def _ask_systemd(guest: Guest) -> bool:
    try:
        guest.shell.run("systemctl --no-block poweroff", seconds=10)
    except ProbeError:
        return True  # it may be gone before it can answer
    return True


def _is_off_within(guest: Guest, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while guest.domain.isActive():
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE)
    return True


def _wait_until_back(guest: Guest, before: Wellbeing | None) -> None:
    """Wait for the guest to answer and to look as it did. Raises _NotBack."""
    if before is None:
        _stays_up(guest)
        return
    limit = guest.policy.boot_seconds
    deadline = time.monotonic() + limit
    while not _answers(guest):
        left = deadline - time.monotonic()
        if not guest.domain.isActive():
            raise _NotBack("it went off while it started")
        if left <= 0:
            raise _NotBack(f"it did not answer within {limit} s")
        guest.hypervisor.progress(f"{guest.name}: waiting for it to answer ({left:.0f} s left)")
        time.sleep(_PAUSE)
    settled = min(deadline, time.monotonic() + _SETTLE_SECONDS)
    while missing := _missing(guest, before):
        if time.monotonic() > settled:
            raise _NotBack(f"it answers, but {'; '.join(missing)}")
        guest.hypervisor.progress(f"{guest.name}: {missing[0]}")
        time.sleep(_PAUSE)


def _answers(guest: Guest) -> bool:
    guest.forget()
    return guest.is_answering()


def _missing(guest: Guest, before: Wellbeing) -> list[str]:
    guest.forget()
    try:
        return before.missing(guest.facts)
    except (NotAssessable, ProbeError) as exc:
        return [f"nobody can look inside any more: {exc}"]


def _stays_up(guest: Guest) -> None:
    deadline = time.monotonic() + _BLIND_SECONDS
    while time.monotonic() < deadline:
        if not guest.domain.isActive():
            raise _NotBack("it went off while it started")
        time.sleep(_PAUSE)
    guest.forget()


def _rolled_back(guest: Guest, cycle: PowerCycle, why: str) -> PowerCycleFailed:
    """Bring the guest back on the definition that booted; the error that tells of it."""
    console = console_tail(guest)
    guest.hypervisor.progress(f"{guest.name}: {why}; rolling back")
    take_down(guest)
    guest.hypervisor.connection.defineXML(cycle.booted)
    guest.renamed.clear()
    guest.forget()
    text = f"{guest.name}: {why}; rolled back to the definition that booted"
    try:
        guest.start()
        _wait_until_back(guest, cycle.before)
    except libvirt.libvirtError as exc:
        return PowerCycleFailed(f"{text}, and it does NOT start: {libvirt_words(exc)}{console}")
    except _NotBack as exc:
        return PowerCycleFailed(f"{text} and started, but {exc}{console}")
    return PowerCycleFailed(f"{text}, and runs again{console}")


def take_down(guest: Guest) -> None:
    """Stop a guest that did not come back: asked where it answers, else by force."""
    if guest.has_agent() or _answers(guest):
        try:
            shut_down(guest)
        except ChangeFailed:
            guest.hypervisor.progress(f"{guest.name}: it does not shut down; stopping it by force")
    if guest.domain.isActive():
        guest.domain.destroyFlags(libvirt.VIR_DOMAIN_DESTROY_DEFAULT)
    guest.forget()


def console_tail(guest: Guest) -> str:
    """The last lines of the guest's serial console where libvirt logs it to a file, else nothing."""
    path = _console_log(guest)
    if path is None:
        return ""
    result = guest.hypervisor.shell.run("tail -c %s -- %s", str(_CONSOLE_BYTES), path)
    if result.rc != 0:
        return f"\n(the console log {path} cannot be read)"
    text = result.stdout_bytes.decode("utf-8", errors="replace")
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return "\nthe console's last lines:\n" + "\n".join(lines[-_CONSOLE_LINES:]) if lines else ""


def _console_log(guest: Guest) -> str | None:
    root = guest.persistent.root
    for console in [*root.iterfind("devices/serial"), *root.iterfind("devices/console")]:
        log = console.find("log")
        if log is not None and log.get("file"):
            return log.get("file")
        source = console.find("source")
        if console.get("type") == "file" and source is not None:
            return source.get("path")
    return None
