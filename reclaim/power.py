"""The power cycle, and the way back: a guest that was up is never left down."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import libvirt

from reclaim.definition import Definition, storage_differences
from reclaim.errors import ChangeFailed, NotAssessable, PowerCycleFailed, ProbeError
from reclaim.facts import Facts
from reclaim.guest import Guest

#: what is shown of the console of a guest that did not come back
_CONSOLE_BYTES = 4096
_CONSOLE_LINES = 12
#: seconds between two looks
_PAUSE = 1.0
#: seconds for units to fail and addresses to come once the agent answers
_SETTLE_SECONDS = 60
#: seconds a guest that cannot be looked into has to stay up to count as started
_BLIND_SECONDS = 30


@dataclass(frozen=True)
class PowerCycle:
    """Shut the guest down, start it on its definition, and see that it came back as it was.

    `booted` is the definition it runs on now: where it does not come back within the policy's
    `boot_seconds`, that is defined and started again.
    """

    kind: ClassVar[str] = "power-cycle"
    guest: str
    booted: str

    @property
    def target(self) -> str:
        return f"power of {self.guest}"

    @property
    def diff(self) -> str:
        return "shut down, start, wait for it to answer; roll back where it does not"

    def apply(self, guest: Guest) -> dict[str, str]:
        before = _facts(guest)
        shut_down(guest)
        started = time.monotonic()
        try:
            guest.hypervisor.progress(f"{guest.name}: starting")
            guest.domain.create()
            _wait_until_back(guest, before)
        except libvirt.libvirtError as exc:
            raise _rolled_back(guest, self.booted, f"QEMU does not start: {_one_line(exc)}", before) from exc
        except _NotBack as exc:
            raise _rolled_back(guest, self.booted, str(exc), before) from exc
        return {"note": f"power-cycled; it answered after {time.monotonic() - started:.0f} s"}

    def undo(self, guest: Guest, outcome: dict[str, str]) -> str:
        return "power-cycle the guest for the definition that is in force again" if guest.is_running else "it is off"


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
    return edit.definition.xml


class _NotBack(Exception):
    """The guest did not come back as it was, and in which way."""


def shut_down(guest: Guest) -> None:
    """Ask the guest to shut down: its agent, then ACPI, then systemctl; the plug is never pulled.

    Raises ChangeFailed where it still runs after the policy's `shutdown_seconds`.
    """
    limit = guest.policy.shutdown_seconds
    deadline = time.monotonic() + limit
    ways: list[Callable[[Guest], None]] = [_ask_agent, _press_button, _ask_systemd]
    for index, ask in enumerate(ways):
        guest.hypervisor.progress(f"{guest.name}: shutting down")
        ask(guest)
        share = (deadline - time.monotonic()) / (len(ways) - index)
        if _is_off_within(guest, share):
            guest.forget()
            return
    raise ChangeFailed(f"{guest.name}: it did not shut down within {limit} s; it still runs as before")


def _ask_agent(guest: Guest) -> None:
    try:
        guest.agent.command("guest-shutdown", {"mode": "powerdown"}, seconds=5)
    except ProbeError:
        return  # success has no answer (qapi-schema.json); whether it worked is seen


def _press_button(guest: Guest) -> None:
    if guest.domain.isActive():
        try:
            guest.domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
        except libvirt.libvirtError:
            if guest.domain.isActive():
                raise


def _ask_systemd(guest: Guest) -> None:
    try:
        guest.shell.run("systemctl --no-block poweroff", seconds=10)
    except ProbeError:
        return  # it may be gone before it can answer


def _is_off_within(guest: Guest, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while guest.domain.isActive():
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE)
    return True


def _wait_until_back(guest: Guest, before: Facts | None) -> None:
    """Wait for the guest to answer and to look as it did. Raises _NotBack."""
    limit = guest.policy.boot_seconds
    deadline = time.monotonic() + limit
    if before is None:
        _stays_up(guest)
        return
    while True:
        guest.forget()
        if not guest.domain.isActive():
            raise _NotBack("it went off while it started")
        left = deadline - time.monotonic()
        guest.hypervisor.progress(f"{guest.name}: waiting for it to answer ({left:.0f} s left)")
        try:
            guest.agent.command("guest-ping", seconds=5)
            break
        except ProbeError as exc:
            if left <= 0:
                raise _NotBack(f"it did not answer within {limit} s") from exc
            time.sleep(_PAUSE)
    settled = min(deadline, time.monotonic() + _SETTLE_SECONDS)
    while True:
        guest.forget()
        missing = _missing(before, _facts(guest))
        if not missing:
            return
        if time.monotonic() > settled:
            raise _NotBack(f"it answers, but {'; '.join(missing)}")
        guest.hypervisor.progress(f"{guest.name}: {missing[0]}")
        time.sleep(_PAUSE)


def _stays_up(guest: Guest) -> None:
    deadline = time.monotonic() + _BLIND_SECONDS
    while time.monotonic() < deadline:
        if not guest.domain.isActive():
            raise _NotBack("it went off while it started")
        time.sleep(_PAUSE)
    guest.forget()


def _missing(before: Facts, now: Facts | None) -> list[str]:
    """What the guest had and has no more, in words."""
    if now is None:
        return ["nobody can look inside any more"]
    found = []
    mounted = {mount.uuid for mount in now.mounts}
    found += [
        f"{mount.target} is not mounted" for mount in before.mounts if mount.uuid and mount.uuid not in mounted
    ]
    if lost := before.addresses - now.addresses:
        found.append(f"it lost the address {', '.join(sorted(lost))}")
    if failed := now.failed_units - before.failed_units:
        found.append(f"units failed that did not before: {', '.join(sorted(failed)[:5])}")
    return found


def _rolled_back(guest: Guest, booted: str, why: str, before: Facts | None) -> PowerCycleFailed:
    """Bring the guest back on the definition that booted; the error that tells of it.

    Raises ChangeFailed where even that does not run.
    """
    console = console_tail(guest)
    guest.hypervisor.progress(f"{guest.name}: {why}; rolling back")
    take_down(guest)
    guest.hypervisor.connection.defineXML(booted)
    guest.renamed.clear()
    guest.forget()
    text = f"{guest.name}: {why}"
    try:
        guest.domain.create()
        _wait_until_back(guest, before)
    except (libvirt.libvirtError, _NotBack) as exc:
        raise ChangeFailed(f"{text}; ROLLED BACK to the definition that booted, but now: {exc}{console}") from exc
    return PowerCycleFailed(f"{text}; rolled back to the definition that booted, it runs again{console}")


def take_down(guest: Guest) -> None:
    """Stop a guest that did not come back: asked where it answers, else by force."""
    guest.forget()
    if not guest.domain.isActive():
        return
    try:
        guest.agent.command("guest-ping", seconds=5)
        shut_down(guest)
    except ProbeError:
        guest.domain.destroyFlags(libvirt.VIR_DOMAIN_DESTROY_DEFAULT)
    except ChangeFailed:
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


def _facts(guest: Guest) -> Facts | None:
    try:
        return guest.facts
    except (NotAssessable, ProbeError):
        return None


def _one_line(exc: libvirt.libvirtError) -> str:
    return " ".join(str(exc.get_error_message() or exc).split())[:300]
