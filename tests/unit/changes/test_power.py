"""The power cycle on libvirt's test driver, with an inside made of values: every way to come back, or not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import libvirt
import pytest

from reclaim.base.errors import PowerCycleFailed, ProbeError, StillRunning
from reclaim.base.verdict import Verdict
from reclaim.changes import power
from reclaim.definition.compare import same
from reclaim.engine import journal, undo
from reclaim.handles.hypervisor import Hypervisor
from reclaim.inventory import GuestNotes, Inventory, Policy
from tests.support import (
    InhabitedGuest,
    Inside,
    block,
    definition_of,
    disk_xml,
    domain_xml,
    engine,
    hang_up,
    hypervisor_of,
    inhabited,
    mounted,
    requirement,
    subject,
)

if TYPE_CHECKING:
    from pathlib import Path

    from reclaim.base.verdict import Result
    from reclaim.definition.domain import Definition
    from reclaim.engine.engine import Engine

VDA = disk_xml("vda")
UNMAP = disk_xml("vda", driver="discard='unmap'")


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_PAUSE", "_STEADY_SECONDS", "_BLIND_SECONDS", "_SETTLE_SECONDS"):
        monkeypatch.setattr(power, name, 0)


class Life:
    """A guest with an agent that shuts it down; `wanted` is what it is to run on."""

    def __init__(self, folder: Path, *devices: str, inside: Inside | None = None, **policy: Any) -> None:
        settings = Policy.model_validate({"shutdown_seconds": 1, "boot_seconds": 5, **policy})
        self.inside = inside or Inside()
        self.guest: InhabitedGuest = inhabited(folder, self.inside, VDA, *devices, inventory=Inventory(policy=settings))
        self.guest.answers = {"guest-ping": dict, "guest-shutdown": self.guest.domain.destroy}
        self.booted = definition_of(self.guest)
        self.guest.history.append(self.booted.xml)
        self.guest.hypervisor.connection.defineXML(domain_xml(UNMAP, *devices))
        self.wanted = definition_of(self.guest)
        self.engine: Engine = engine(self.guest.hypervisor, folder, restart=True)

    def cycle(self) -> Result:
        return self.engine.run(requirement("live-definition"), subject(self.guest))

    @property
    def is_on_new(self) -> bool:
        """Does it run, and on the new definition?"""
        return bool(self.guest.domain.isActive()) and "unmap" in self.guest.domain.XMLDesc(0)

    def ends_on(self, definition: Definition) -> None:
        assert self.guest.domain.isActive()
        assert same(definition_of(self.guest), definition)

    def read(self) -> journal.JournalRecord:
        self.engine.journal.end()
        return journal.read(self.engine.journal.path)


def test_it_is_looked_at_until_systemd_has_started_everything(tmp_path: Path) -> None:
    """A unit that fails late is a unit that failed."""
    life = Life(tmp_path)
    life.inside.systemd = "running\npostgresql.service loaded active running PostgreSQL\n"
    looks = iter(["starting\n"] * 3 + ["degraded\npostgresql.service loaded failed failed PostgreSQL\n"] * 9)
    down = life.guest.domain.destroy

    def shut_down() -> None:
        down()
        sections = life.inside.sections

        def later() -> dict[str, bytes]:
            life.inside.systemd = next(looks) if life.is_on_new else "running\n"
            return sections()

        life.inside.sections = later  # type: ignore[method-assign]

    life.guest.answers["guest-shutdown"] = shut_down
    result = life.cycle()
    assert result.verdict is Verdict.NONCOMPLIANT
    assert "it answers, but units failed that did not before: postgresql.service" in result.reason
    life.ends_on(life.booted)


@pytest.mark.slow
def test_one_that_goes_on_starting_units_is_back(tmp_path: Path) -> None:
    life = Life(tmp_path, boot_seconds=1)
    down = life.guest.domain.destroy

    def shut_down() -> None:
        down()
        life.inside.systemd = "starting\n"

    life.guest.answers["guest-shutdown"] = shut_down
    result = life.cycle()
    assert result.verdict is Verdict.FIXED, result.reason
    assert "it is still starting units" in result.reason
    life.ends_on(life.wanted)


@pytest.mark.slow
def test_on_a_busy_hypervisor_one_is_waited_for_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hypervisor, "strain", lambda _self: 3.0)
    life = Life(tmp_path, boot_seconds=1)

    def ping() -> dict[str, Any]:
        if life.is_on_new:
            raise ProbeError("nobody answers")
        return {}

    life.guest.answers["guest-ping"] = ping
    result = life.cycle()
    assert "it did not answer within 3 s (boot_seconds in the inventory's policy); rolled back" in result.reason
    life.ends_on(life.booted)


def test_one_that_started_units_before_is_not_waited_for(tmp_path: Path) -> None:
    life = Life(tmp_path, boot_seconds=60, inside=Inside(systemd="starting\n"))
    assert life.cycle().verdict is Verdict.FIXED


def test_one_that_starts_again_by_itself_and_stays_is_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relabelling of SELinux, say."""
    life = Life(tmp_path)
    boots = iter(["first", "second", "second", "second"])
    monkeypatch.setattr(power, "_boot", lambda _guest: next(boots))
    assert life.cycle().verdict is Verdict.FIXED
    assert next(boots, None) is None


@pytest.mark.slow
def test_one_that_starts_again_and_again_is_rolled_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    life = Life(tmp_path, boot_seconds=1)
    boots = (str(number) for number in range(10**9))
    monkeypatch.setattr(power, "_boot", lambda _guest: next(boots) if life.is_on_new else "the same")
    result = life.cycle()
    assert "it does not stay up: it started again by itself" in result.reason
    assert "rolled back to the definition that booted, and runs again" in result.reason
    life.ends_on(life.booted)


def test_one_that_answers_and_goes_off_is_rolled_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    life = Life(tmp_path)

    def boot(_guest: object) -> str:
        if life.is_on_new:
            life.guest.domain.destroy()
        return ""

    monkeypatch.setattr(power, "_boot", boot)
    result = life.cycle()
    assert "it does not stay up: it went off again" in result.reason
    life.ends_on(life.booted)


def test_one_that_qemu_pauses_is_rolled_back_at_once(tmp_path: Path) -> None:
    life = Life(tmp_path, boot_seconds=600)

    def ping() -> dict[str, Any]:
        if life.is_on_new:
            if life.guest.domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING:
                life.guest.domain.suspend()
            raise ProbeError("nobody answers")
        return {}

    life.guest.answers["guest-ping"] = ping
    result = life.cycle()
    assert "it is paused (by QEMU, for an I/O error?); rolled back" in result.reason
    life.ends_on(life.booted)


@pytest.mark.parametrize(
    "line",
    [
        "[    1.6] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)",
        "ALERT!  UUID=x does not exist.  Dropping to a shell!",
        "Entering emergency mode. Exit the shell to continue.",
        "Give root password for maintenance",
    ],
)
def test_a_boot_that_ends_on_the_console_is_not_waited_for(tmp_path: Path, line: str) -> None:
    log = tmp_path / "console.log"
    log.write_text("Kernel panic - not syncing: of the year before\n")
    life = Life(tmp_path, f"<serial type='pty'><log file='{log}' append='on'/></serial>", boot_seconds=600)

    def ping() -> dict[str, Any]:
        if life.is_on_new:
            with log.open("a") as stream:
                stream.write(f"a first line\n\n{line}\n")
            raise ProbeError("nobody answers")
        return {}

    life.guest.answers["guest-ping"] = ping
    result = life.cycle()
    assert f"its boot came to an end: {line.strip()}; rolled back" in result.reason
    assert result.reason.endswith(f"the console's last lines:\na first line\n{line}")
    life.ends_on(life.booted)


def test_the_console_is_all_there_is_of_a_guest_nobody_can_ask(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    log.write_text("")
    life = Life(tmp_path, f"<serial type='pty'><log file='{log}' append='on'/></serial>")
    del life.guest.answers["guest-ping"]
    life.inside.problem = ProbeError("no agent")
    create = life.guest.domain.create

    class Speaking:
        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def shutdownFlags(self, _flags: int) -> None:  # noqa: N802
            real.destroy()

        def create(self) -> None:
            create()
            if life.is_on_new:
                log.write_text("Kernel panic - not syncing: no init\n")

    real = life.guest.domain
    life.guest.domain = Speaking()
    result = life.engine.run(requirement("live-definition"), subject(life.guest))
    assert result.verdict is Verdict.NONCOMPLIANT
    life.engine.force = True
    result = life.cycle()
    assert "its boot came to an end: Kernel panic - not syncing: no init" in result.reason
    life.ends_on(life.booted)


def test_one_that_nobody_can_ask_and_qemu_pauses_is_rolled_back(tmp_path: Path) -> None:
    """As QEMU does where a disk does not answer on its new bus."""
    life = Life(tmp_path)
    del life.guest.answers["guest-ping"]
    life.inside.problem = ProbeError("no agent")
    life.engine.force = True

    class Pausing:
        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def shutdownFlags(self, _flags: int) -> None:  # noqa: N802
            real.destroy()

        def create(self) -> None:
            real.create()
            if life.is_on_new:
                real.suspend()

    real = life.guest.domain
    life.guest.domain = Pausing()
    result = life.cycle()
    assert "it does not stay up: it is paused" in result.reason
    assert real.state()[0] == libvirt.VIR_DOMAIN_RUNNING
    life.ends_on(life.booted)


def deaf(life: Life) -> None:
    """It follows no request; libvirt's test driver would shut down at once."""

    class Deaf:
        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def shutdownFlags(self, _flags: int) -> int:  # noqa: N802
            return 0

    real = life.guest.domain
    life.guest.domain = Deaf()
    life.guest.answers["guest-shutdown"] = dict


@pytest.mark.slow
def test_one_that_ignores_its_shutdown_runs_on_and_waits_for_its_next_power_cycle(tmp_path: Path) -> None:
    life = Life(tmp_path)
    deaf(life)
    started = life.guest.domain.ID()
    result = life.cycle()
    assert result.verdict is Verdict.PENDING
    words = "waits for its next power cycle: one: it did not shut down within 2 s and still runs as before"
    assert words in result.reason
    assert "a slow guest needs a larger shutdown_seconds in the inventory's policy" in result.reason
    assert life.guest.domain.ID() == started
    life.ends_on(life.wanted)
    record = life.read()
    assert not record.ended
    assert [entry.state for entry in record.interrupted] == ["unknown"]


@pytest.mark.slow
def test_one_that_goes_off_late_is_started(tmp_path: Path) -> None:
    life = Life(tmp_path)
    deaf(life)
    result = life.cycle()
    life.engine.look_after()
    assert result.verdict is Verdict.PENDING
    life.guest.domain.destroy()
    life.engine.run(requirement("disk-discard"), subject(life.guest, "vda"))
    assert (result.verdict, life.is_on_new) == (Verdict.FIXED, True)
    assert result.reason.startswith("it shut down late; power-cycled")
    assert life.read().ended


@pytest.mark.slow
def test_one_that_goes_off_late_and_does_not_come_back_is_rolled_back(tmp_path: Path) -> None:
    life = Life(tmp_path)
    deaf(life)
    result = life.cycle()
    life.guest.domain.destroy()
    life.inside.mounts = []
    life.engine.look_after()
    assert result.verdict is Verdict.NONCOMPLIANT
    assert result.reason.startswith("it shut down late; one: it answers, but / is not mounted")
    life.ends_on(life.booted)


@pytest.mark.slow
@pytest.mark.parametrize("notes", [None, False])
def test_its_plug_is_pulled_only_where_the_inventory_says_so(tmp_path: Path, notes: bool | None) -> None:  # noqa: FBT001
    life = Life(tmp_path, pull_plug=True)
    deaf(life)
    inventory = life.guest.hypervisor.inventory
    life.guest.hypervisor.inventory = inventory.model_copy(update={"guest": {"one": GuestNotes(pull_plug=notes)}})
    if notes is False:
        with pytest.raises(StillRunning):
            power.shut_down(life.guest)
        assert life.guest.domain.isActive()
    else:
        assert life.cycle().verdict is Verdict.FIXED
        assert life.is_on_new


def test_what_was_mended_and_taken_back_as_libvirt_failed_is_not_called_fixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = Life(tmp_path)
    life.guest.hypervisor.connection.defineXML(life.booted.xml)
    life.guest.forget()
    discard = life.engine.run(requirement("disk-discard"), subject(life.guest, "vda"))
    assert discard.reason.startswith("was: driver discard is absent")

    def fail(_guest: object) -> None:
        raise libvirt.libvirtError("cannot acquire state change lock")

    monkeypatch.setattr(power, "_console", fail)
    result = life.cycle()
    assert result.reason == "one: cannot acquire state change lock; it runs on the definition that booted"
    assert discard.verdict is Verdict.NONCOMPLIANT
    assert discard.reason.startswith("rolled back: ")
    assert discard.changes[0].undone
    assert (discard.rolled_back, discard.failed, discard.left_off) == (True, False, False)
    assert (result.rolled_back, result.failed, result.left_off) == (True, True, False)
    life.ends_on(life.booted)
    assert life.read().ended


def test_one_that_starts_on_no_definition_stays_at_stake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal has no end, and the next run tries again."""
    life = Life(tmp_path)

    def start(_guest: object) -> None:
        raise libvirt.libvirtError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(power, "_start", start)
        result = life.cycle()
    assert "does NOT start" in result.reason
    assert (result.failed, result.left_off) == (True, True)
    assert not life.guest.domain.isActive()
    ((_, cycle),) = life.read().power_cycles
    with pytest.raises(PowerCycleFailed, match="rolled back to the definition that booted, and runs again"):
        cycle.finish(life.guest)
    life.ends_on(life.booted)


@pytest.mark.parametrize("is_off", [False, True])
def test_what_somebody_defined_since_a_run_died_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_off: bool
) -> None:
    """Its next run comes days later: the guest was given more memory, and a disk was taken from it."""
    life = Life(tmp_path)
    life.inside.devices.append(block("vdb", uuid="gone"))

    def die(*_arguments: object) -> None:
        raise PowerCycleFailed("killed")

    with monkeypatch.context() as patch:
        patch.setattr(power, "_start", die)
        life.cycle()
    life.inside.devices.pop()
    life.guest.hypervisor.connection.defineXML(life.wanted.xml.replace("65536", "98304"))
    theirs = definition_of(life.guest)
    assert not same(theirs, life.wanted)
    if not is_off:
        life.guest.domain.create()
    started = life.guest.domain.ID()
    said: list[str] = []
    undo.finish(life.read(), hypervisor_of(life.guest), said.append)
    assert "".join(said).endswith("its definition has changed since: it runs, and reclaim restored nothing")
    assert is_off or life.guest.domain.ID() == started
    life.ends_on(theirs)
    assert life.read().ended


def test_the_way_back_is_tried_again_where_it_ends_by_chance(tmp_path: Path) -> None:
    """QEMU's emulation has its own panics when the machine is busy."""
    life = Life(tmp_path)
    starts = []

    def ping() -> dict[str, Any]:
        if life.guest.domain.isActive() and not life.is_on_new and life.guest.domain.ID() not in starts and started():
            starts.append(life.guest.domain.ID())
            if len(starts) < 3:
                life.guest.domain.destroy()
                raise ProbeError("it went off")
        return {}

    def started() -> bool:
        return bool(life.guest.domain.ID() != first)

    first = life.guest.domain.ID()
    life.guest.answers["guest-ping"] = ping
    life.inside.mounts = [mounted("/", "/dev/vda1", uuid="aaaa-1")]
    down = life.guest.domain.destroy

    def shut_down() -> None:
        down()
        life.inside.mounts = []

    life.guest.answers["guest-shutdown"] = shut_down
    result = life.cycle()
    assert len(starts) == 3
    assert "and started, but it answers, but / is not mounted" in result.reason
    life.ends_on(life.booted)


def test_the_next_guest_is_handled_where_one_does_not_resume(tmp_path: Path) -> None:
    first, second = (tmp_path / "1", tmp_path / "2")
    first.mkdir()
    second.mkdir()
    broken, good = Life(first), Life(second)
    down = broken.guest.domain.destroy

    def shut_down() -> None:
        down()
        broken.inside.mounts = []

    broken.guest.answers["guest-shutdown"] = shut_down
    assert broken.cycle().verdict is Verdict.NONCOMPLIANT
    broken.engine.results.clear()  # both are called so
    assert broken.engine.run(requirement("live-definition"), subject(good.guest)).verdict is Verdict.FIXED
    broken.ends_on(broken.booted)
    good.ends_on(good.wanted)


def test_a_mount_that_no_boot_brings_back_withholds_the_power_cycle(tmp_path: Path) -> None:
    life = Life(tmp_path)
    life.guest.look_inside()  # before it was mounted
    life.inside.devices.append(block("vdb", uuid="hand", fstype="ext4"))
    life.inside.mounts.append(mounted("/mnt", "/dev/vdb", uuid="hand"))
    started = life.guest.domain.ID()
    result = life.cycle()
    assert result.verdict is Verdict.NONCOMPLIANT
    assert "withheld: /mnt is mounted, and neither fstab nor a unit mounts it at boot" in result.reason
    assert life.guest.domain.ID() == started
    life.engine.restart = False
    result = life.cycle()
    assert result.verdict is Verdict.PENDING
    assert "needs a power cycle, which is withheld: /mnt is mounted" in result.reason


def test_a_guest_is_compared_with_how_it_was_when_it_was_shut_down(tmp_path: Path) -> None:
    """All guests are looked into at the beginning of a run, and a fleet's turn comes hours later."""
    life = Life(tmp_path)
    life.inside.devices.append(block("vdb", uuid="gone"))
    life.guest.look_inside()
    life.inside.devices.pop()
    result = life.cycle()
    assert result.verdict is Verdict.FIXED, result.reason


def test_where_nobody_can_look_inside_afterwards_it_is_rolled_back(tmp_path: Path) -> None:
    life = Life(tmp_path)
    down = life.guest.domain.destroy

    def shut_down() -> None:
        down()
        life.inside.problem = ProbeError("the disk is full")

    life.guest.answers["guest-shutdown"] = shut_down
    result = life.cycle()
    assert "it answers, but reclaim can no longer look inside: the disk is full" in result.reason
    life.ends_on(life.booted)


def test_a_libvirtd_that_is_restarted_while_it_is_looked_at_rolls_nothing_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = Life(tmp_path)
    look = power._look
    restarts = iter([True])

    def later(*arguments: Any) -> Any:
        if next(restarts, False):
            hang_up(life.guest)
        return look(*arguments)

    monkeypatch.setattr(power, "_look", later)
    result = life.cycle()
    assert result.verdict is Verdict.FIXED, result.reason
    life.ends_on(life.wanted)


@pytest.mark.parametrize("interrupted", [False, True])
def test_one_whose_old_definition_libvirt_does_not_take_is_left_up_on_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, interrupted: bool
) -> None:
    """QEMU was upgraded under it, and no longer has the machine type it was started on."""
    life = Life(tmp_path)
    life.inside.devices.append(block("vdb", uuid="data"))
    down, define = life.guest.domain.destroy, life.guest.hypervisor.connection.defineXML

    def shut_down() -> None:
        down()
        life.inside.devices.pop()
        if interrupted:
            raise KeyboardInterrupt

    def refuse(xml: str) -> Any:
        if "unmap" not in xml:
            raise libvirt.libvirtError("unsupported machine type")
        return define(xml)

    life.guest.answers["guest-shutdown"] = shut_down
    monkeypatch.setattr(life.guest.hypervisor.connection, "defineXML", refuse)
    if interrupted:
        with pytest.raises(KeyboardInterrupt):
            life.cycle()
    else:
        discard = life.engine.run(requirement("disk-discard"), subject(life.guest, "vda"))
        result = life.cycle()
        assert result.verdict is Verdict.NONCOMPLIANT
        assert "NOT rolled back: libvirt refuses the definition that booted (unsupported m" in result.reason
        assert discard.verdict is Verdict.COMPLIANT
        assert not any(change.undone for change in result.changes)
    assert life.is_on_new
    life.ends_on(life.wanted)
