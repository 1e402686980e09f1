"""Handles: a guest and its disks. They hold nothing that a change could make stale."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import libvirt
from testinfra.host import Host

from reclaim import agent, facts
from reclaim.agent import Agent
from reclaim.definition import Definition, DiskView
from reclaim.errors import NotAssessable, ProbeError
from reclaim.inventory import NO_NOTES, GuestNotes, Policy
from reclaim.kept import kept

if TYPE_CHECKING:
    from reclaim.hypervisor import Hypervisor
    from reclaim.proof import Proof

#: states in which there is a QEMU, and nobody inside who answers
_SILENT = {
    libvirt.VIR_DOMAIN_PAUSED: "it is paused",
    libvirt.VIR_DOMAIN_CRASHED: "it has crashed",
    libvirt.VIR_DOMAIN_PMSUSPENDED: "it sleeps (suspended to memory)",
}

WINDOWS = "it is Windows, which reclaim neither looks into nor changes"

#: a probe's answer, or the error it ended with; both are kept until a change is applied
_Answer = facts.Facts | ProbeError


@dataclass(eq=False, repr=False)
class Guest:
    """One libvirt domain. What is read is cached until `forget()`."""

    hypervisor: Hypervisor
    domain: libvirt.virDomain
    name: str
    uuid: str
    #: targets that a change of ours renamed: as collected -> as defined now
    renamed: dict[str, str] = field(default_factory=dict)
    #: its definitions before changes of ours, oldest first, of this run and of earlier ones
    history: list[str] = field(default_factory=list)
    #: what is to be said of it where it is off: the run that died in its power cycle
    left_off: str | None = None
    #: it was asked to shut down, and not seen off since
    is_leaving: bool = False
    _planned: Definition | None = None
    _facts: _Answer | None = None
    _earlier: facts.Facts | None = None
    #: what became of its canaries (`reclaim.proof`); None: none was planted since the last change inside
    proofs: tuple[Proof, ...] | None = None

    def __repr__(self) -> str:
        # pytest shows the operands of a failed assert: all of a guest would be all of its hypervisor's guests
        return f"<guest {self.name}>"

    def forget(self, *, inside: bool = True) -> None:
        """Drop what was read: something has changed, *inside* the guest too."""
        if inside:
            self._facts = self.proofs = None
        for name in ("persistent", "live", "is_running", "is_persistent"):
            self.__dict__.pop(name, None)

    # Definitions

    @kept
    def is_persistent(self) -> bool:
        return bool(self.domain.isPersistent())

    @kept
    def is_running(self) -> bool:
        """Is there a QEMU process? A paused guest has one."""
        return bool(self.domain.isActive())

    @kept
    def persistent(self) -> Definition:
        flags = libvirt.VIR_DOMAIN_XML_INACTIVE
        if not self.hypervisor.readonly:
            flags |= libvirt.VIR_DOMAIN_XML_SECURE  # without it a password is lost when this is defined again
        return Definition(self.domain.XMLDesc(flags))

    @property
    def definition(self) -> Definition:
        """What the next boot uses; while a plan is made, what it would use then."""
        return self._planned or self.persistent

    @kept
    def live(self) -> Definition | None:
        """What QEMU runs on now; None while the guest is off."""
        if not self.is_running:
            return None
        flags = 0 if self.hypervisor.readonly else libvirt.VIR_DOMAIN_XML_SECURE
        return Definition(self.domain.XMLDesc(flags))

    @contextmanager
    def planning(self, planned: Definition | None, renamed: dict[str, str]) -> Iterator[None]:
        """Let `definition` be *planned* for a while, with its targets *renamed*."""
        actual, self.renamed, self._planned = self.renamed, renamed, planned
        try:
            yield
        finally:
            self.renamed, self._planned = actual, None

    @property
    def machine(self) -> str | None:
        """The machine type of the definition; an alias as this host's QEMU means it."""
        return self.hypervisor.canonical_machine(self.definition)

    @property
    def disks(self) -> list[Disk]:
        return [Disk(self, disk.target) for disk in self.definition.disks]

    def live_disk(self, disk: DiskView) -> DiskView | None:
        """The running disk behind a defined one, whatever bus it is on now."""
        live = self.live
        if live is None:
            return None
        return next((one for one in live.all_disks if one.identity == disk.identity), None)

    # The user's word

    @property
    def policy(self) -> Policy:
        return self.hypervisor.inventory.policy

    @property
    def notes(self) -> GuestNotes:
        return self.hypervisor.inventory.guest.get(self.name, NO_NOTES)

    @property
    def pull_plug(self) -> bool:
        """May it be stopped by force where it ignores that it is to shut down?"""
        return self.policy.pull_plug if self.notes.pull_plug is None else self.notes.pull_plug

    # Inside

    @property
    def agent(self) -> Agent:
        return Agent(self.domain, self.name)

    @property
    def shell(self) -> Host:
        """A shell in the guest; commands are limited in time and output."""
        return agent.shell(self.agent)

    @property
    def has_facts(self) -> bool:
        """Has somebody looked inside since the last change?"""
        return isinstance(self._facts, facts.Facts)

    @property
    def can_be_looked_into(self) -> bool:
        """Is there an inside, and is it on?"""
        return self._closed() is None

    def _closed(self) -> str | None:
        """Why nobody can look inside, or None."""
        if self.hypervisor.is_test_driver:
            return "libvirt's test driver: there is nothing inside its guests"
        if self.hypervisor.readonly:
            return "--definitions-only: nobody looked inside"
        if not self.is_running:
            return "it is off"
        if self.persistent.is_windows:
            return WINDOWS
        return _SILENT.get(self.domain.state()[0])

    @property
    def is_windows(self) -> bool:
        """Do its definition or its agent say so?"""
        return self.persistent.is_windows or isinstance(self._facts, agent.NotLinuxButWindows)

    def inside(self) -> _Answer:
        """The facts, or the error that looking ended with. Raises NotAssessable where there is no inside."""
        if reason := self._closed():
            raise NotAssessable(reason)
        answer = self.look_inside()
        if isinstance(answer, agent.NotLinux):
            raise NotAssessable(_without(self.name, answer))
        return answer

    def look_inside(self) -> _Answer:
        """Gather the facts unless they are there."""
        if self._facts is None:
            try:
                self._facts = self._earlier = facts.gather(self.shell, self.name, self._earlier)
            except agent.AgentAbsent as exc:
                self._facts = exc
            except ProbeError as exc:
                self._facts = self._described(exc)
        return self._facts

    def _described(self, problem: ProbeError) -> ProbeError:
        """*problem* with what the agent says of its system: a typed call is allowed where guest-exec is not."""
        system = self.agent.system()
        if system is None:
            return problem
        if system.is_windows:
            return agent.NotLinuxButWindows(self.name, "Windows")
        if system.is_another:
            return agent.NotLinux(self.name, system.name)
        if isinstance(problem, agent.AgentBlocked):
            return agent.AgentBlocked(f"{problem} ({system.name})")
        return problem

    @property
    def facts(self) -> facts.Facts:
        """What the inside looks like. Raises NotAssessable where nobody can look."""
        answer = self.inside()
        if isinstance(answer, agent.AgentAbsent | agent.AgentBlocked):
            raise NotAssessable(f"{_without(self.name, answer)} (see guest-access)") from answer
        if isinstance(answer, ProbeError):
            raise answer
        return answer


@dataclass(frozen=True)
class Disk:
    """One disk of a guest's definition, under the target it had when the run began."""

    guest: Guest
    name: str

    @property
    def target(self) -> str:
        """The target it has now."""
        return self.guest.renamed.get(self.name, self.name)

    @property
    def view(self) -> DiskView:
        return self.guest.definition.disk(self.guest.renamed.get(self.name, self.name))

    @property
    def bus(self) -> str:
        return self.view.bus

    @property
    def driver(self) -> Mapping[str, str]:
        return self.view.driver

    @property
    def path(self) -> str | None:
        return self.view.path


def _without(name: str, exc: Exception) -> str:
    return str(exc).removeprefix(f"{name}: ")
