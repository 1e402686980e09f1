"""Handles: a guest and its disks. They cache what they read until `forget()`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import libvirt
from testinfra.host import Host

from reclaim.base.cached import kept
from reclaim.base.errors import (
    AgentAbsent,
    AgentBlocked,
    AgentFrozen,
    NoAccess,
    NotAssessable,
    NotLinux,
    NotLinuxButWindows,
    ProbeError,
    Withheld,
)
from reclaim.base.text import fault, libvirt_words
from reclaim.definition import othersystem
from reclaim.definition.domain import Definition, DiskView
from reclaim.handles import agent, ssh, started_by
from reclaim.handles.agent import Agent
from reclaim.handles.node import Node
from reclaim.inside import facts
from reclaim.inventory import GuestNotes, Policy, Ssh

#: states in which there is a QEMU, and the system inside does not answer
_SILENT = {
    libvirt.VIR_DOMAIN_PAUSED: "it is paused",
    libvirt.VIR_DOMAIN_CRASHED: "it has crashed",
    libvirt.VIR_DOMAIN_PMSUSPENDED: "it is suspended (to memory)",
}

OFF = "it is off"
#: before the reason for which --boot-stopped leaves it off
UNSTARTED = f"{OFF}, and --boot-stopped does not start it: "

#: a probe's answer, or the error it ended with; both are kept until a change is applied
_Answer = facts.Facts | ProbeError
_Way = Literal["agent", "ssh"]


@dataclass(eq=False, repr=False)
class Guest:
    """One libvirt domain. Definitions, states and facts are cached until `forget()`."""

    hypervisor: Node
    domain: libvirt.virDomain
    name: str
    uuid: str
    #: targets that a change of ours renamed: as collected -> as defined now
    renamed: dict[str, str] = field(default_factory=dict)
    #: its definitions before changes of ours, oldest first, of this run and of earlier ones
    history: list[str] = field(default_factory=list)
    #: the run that started it, if it was off (--boot-stopped)
    booted_by: str | None = None
    #: why it is off although --boot-stopped was given
    unstarted: str = ""
    #: why ssh was of no use although the inventory names it and the agent's commands are confined
    ssh_problem: ProbeError | None = None
    #: a remark on it if it is off: the run that died in its power cycle
    left_off: str | None = None
    #: it was asked to shut down, and not seen off since
    is_leaving: bool = False
    _planned: Definition | None = None
    _facts: _Answer | None = None
    _way: _Way | None = None
    _connection: ssh.Connection | None = None
    #: kernels of its that were read before, also by another run: an initramfs that is as it was is not read again
    known_kernels: tuple[facts.Kernel, ...] = ()
    #: results that others got by looking inside, by a key of theirs: dropped after a change inside
    learned: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        # pytest shows the operands of a failed assert: all of a guest would be all of its hypervisor's guests
        return f"<guest {self.name}>"

    def forget(self, *, inside: bool = True) -> None:
        """Drop the cached definitions and states after a change, and the facts too if it was *inside*."""
        if inside:
            self._facts = None
            self.learned.clear()
        for name in ("persistent", "live", "is_running", "is_persistent"):
            self.__dict__.pop(name, None)

    def lighten(self) -> None:
        """Keep the guest's answers, and drop everything derived from them: the guest is not asked about for a while."""
        if isinstance(self._facts, facts.Facts):
            self._facts.lighten()

    def start(self) -> None:
        """Start it on its definition. Raises libvirtError if QEMU does not start."""
        self.domain.create()
        if self.booted_by is not None:
            started_by.leave(self.domain, self.booted_by)

    # Definitions

    @kept
    def is_persistent(self) -> bool:
        return bool(self.domain.isPersistent())

    @kept
    def is_running(self) -> bool:
        """True if there is a QEMU process. A paused guest has one."""
        return bool(self.domain.isActive())

    @kept
    def persistent(self) -> Definition:
        flags = libvirt.VIR_DOMAIN_XML_INACTIVE
        if not self.hypervisor.readonly:
            flags |= (
                libvirt.VIR_DOMAIN_XML_SECURE
            )  # without it a password is lost when this is defined again
        return Definition(self.domain.XMLDesc(flags))

    def read(self) -> None:
        """Ask for its definition and state, as collecting does. An error comes up again when its turn comes."""
        with suppress(libvirt.libvirtError, ProbeError):
            _ = self.persistent, self.is_running

    @property
    def definition(self) -> Definition:
        """Return the definition for the next boot; while a plan is made, the planned one."""
        return self._planned or self.persistent

    @kept
    def live(self) -> Definition | None:
        """Return the definition that QEMU runs on now; None while the guest is off."""
        if not self.is_running:
            return None
        flags = 0 if self.hypervisor.readonly else libvirt.VIR_DOMAIN_XML_SECURE
        return Definition(self.domain.XMLDesc(flags))

    @contextmanager
    def planning(
        self, planned: Definition | None, renamed: dict[str, str]
    ) -> Iterator[None]:
        """Let `definition` be *planned* for a while, with its targets *renamed*."""
        actual, self.renamed, self._planned = self.renamed, renamed, planned
        try:
            yield
        finally:
            self.renamed, self._planned = actual, None

    @property
    def machine(self) -> str | None:
        """Return the machine type of the definition; an alias as this host's QEMU means it."""
        return self.hypervisor.canonical_machine(self.definition)

    @property
    def cannot_start(self) -> bool:
        """True if it is off, and its definition names a machine type that this host's QEMU does not have."""
        defined = self.persistent
        return (
            self.hypervisor.why_unstartable(defined) is not None and not self.is_running
        )

    @property
    def disks(self) -> list[Disk]:
        return [Disk(self, disk.target) for disk in self.definition.disks]

    def live_disk(self, disk: DiskView) -> DiskView | None:
        """Return the running disk behind a defined one, whatever bus it is on now."""
        live = self.live
        if live is None:
            return None
        for running in live.all_disks:
            if running.identity == disk.identity:
                return running
        return None

    # The user's word

    @property
    def policy(self) -> Policy:
        return self.hypervisor.inventory.policy

    @property
    def notes(self) -> GuestNotes:
        return self.hypervisor.inventory.notes(self.name)

    @property
    def pull_plug(self) -> bool:
        """True if reclaim may stop it by force when it ignores a shutdown."""
        own = self.notes.pull_plug
        return self.policy.pull_plug if own is None else own

    # Inside

    @property
    def agent(self) -> Agent:
        return Agent(self.domain, self.name)

    @property
    def agent_shell(self) -> Host:
        return agent.shell(self.agent)

    @property
    def ssh(self) -> Ssh | None:
        """Return the settings for ssh, if the inventory allows it."""
        return self.hypervisor.inventory.ssh_of(self.name)

    @property
    def shell(self) -> Host:
        """Return a shell in the guest, by the way that was found open; commands are limited in time and output.

        Raises ProbeError if ssh is that way and does not get in.
        """
        if self._way is None and self.ssh is not None and self.can_be_looked_into:
            self.look_inside()
        return self._by_ssh() if self._way == "ssh" else self.agent_shell

    @property
    def way_in(self) -> str:
        """Return the program that runs commands in the guest, in words."""
        connection = self._connection
        if self._way != "ssh" or connection is None:
            return "its agent"
        backend = connection.backend
        user = backend.host.user
        text = f"ssh to {user}@" if user else "ssh to "
        text += str(connection.address)
        if backend.settings.sudo:
            text += " with sudo"
        return text

    def _by_ssh(self) -> Host:
        """Return a shell by ssh. After each start of the guest its address is looked up again.

        Raises ProbeError, also if libvirt does not answer because its daemon restarts.
        """
        settings = self.ssh
        if settings is None:
            raise ProbeError(f"{self.name}: the inventory does not name ssh for it")
        try:
            if self._connection is None or self._connection.run != self.run_id:
                self.hang_up()
                self._connection = ssh.connect(self, settings)
        except libvirt.libvirtError as exc:
            raise ProbeError(f"{self.name}: libvirt: {libvirt_words(exc)}") from exc
        return self._connection.host

    @property
    def run_id(self) -> int:
        """Return the number libvirt gave the running QEMU. A domain handle may have the number of an earlier one."""
        return int(self.hypervisor.connection.lookupByUUIDString(self.uuid).ID())

    def hang_up(self) -> None:
        """Close the connection by ssh, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def has_agent(self) -> bool:
        """True if its agent answers now."""
        try:
            self.agent.command("guest-ping", seconds=5)
        except ProbeError:
            return False
        return True

    def is_answering(self) -> bool:
        """True if its agent answers now, or its sshd. If ssh is the way in, its sshd has to."""
        if self._way != "ssh" and self.has_agent():
            return True
        if self.ssh is None:
            return False
        try:
            return bool(self._by_ssh().run("true").rc == 0)
        except ProbeError:
            self.hang_up()
            return False

    @property
    def has_facts(self) -> bool:
        """True if the facts were gathered since the last change."""
        return isinstance(self._facts, facts.Facts)

    @property
    def can_be_looked_into(self) -> bool:
        """True if there is an inside, and it is on."""
        return self.why_not_inside() is None

    def why_not_inside(self) -> str | None:
        """Return why there is no looking inside, or None. A reason that no start removes comes first."""
        if self.unstarted and not self.is_running:
            return f"{UNSTARTED}{self.unstarted}"
        if system := self.persistent.other_system:
            return othersystem.words(system)
        if self.hypervisor.is_test_driver:
            return "libvirt's test driver: there is nothing inside its guests"
        if self.hypervisor.readonly:
            return "--definitions-only: reclaim does not look inside"
        if not self.is_running:
            return OFF
        return _SILENT.get(self.domain.state()[0])

    def expect_linux(self) -> None:
        """Raise Withheld if its definition or its agent names another system: its hardware is left as it is.

        So it is if the definition has but a hint, and there are no facts.
        """
        if system := self.persistent.other_system:
            raise Withheld(othersystem.words(system))
        answer = self.look_inside() if self.can_be_looked_into else None
        if isinstance(answer, NotLinux):
            raise Withheld(answer.words)
        if isinstance(answer, facts.Facts):
            return
        hint = othersystem.hint(self.persistent.root)
        if hint:
            raise Withheld(
                f"{hint}, and reclaim has not looked inside: let reclaim look into it, or note its system in "
                "<metadata> (libosinfo's id, as virt-install --osinfo writes it)"
            )

    @property
    def is_windows(self) -> bool:
        """True if its definition or its agent names Windows."""
        return self.persistent.is_windows or isinstance(self._facts, NotLinuxButWindows)

    def inside(self) -> _Answer:
        """Return the facts, or the error that looking ended with. Raises NotAssessable if there is no inside."""
        if reason := self.why_not_inside():
            raise NotAssessable(reason)
        answer = self.look_inside()
        if isinstance(answer, NotLinux):
            raise NotAssessable(_without(self.name, answer))
        return answer

    def look_inside(self) -> _Answer:
        """Gather the facts unless they are there, and return them or the error."""
        if self._facts is None:
            with self.contained():
                self._facts = self._gathered()
        return self._facts or ProbeError(f"{self.name}: reclaim has not looked inside")

    @contextmanager
    def contained(self) -> Iterator[None]:
        """Keep an error in here to the rows of this guest: they report that reclaim could not look inside.

        The one place where a fault of ours does not end the run: guests think of more than we do.
        """
        try:
            yield
        except libvirt.libvirtError as exc:
            self._facts = ProbeError(f"{self.name}: libvirt: {libvirt_words(exc)}")
        except Exception as exc:  # noqa: BLE001
            self._facts = ProbeError(f"{self.name}: {fault(exc)}")

    def _gathered(self) -> _Answer:
        """Gather the facts by the agent, else by ssh if the inventory names it. One way is kept to while it is open."""
        settings = self.ssh
        if settings is None:
            return self._gathered_by_agent()
        if settings.prefer or self._way == "ssh":
            by_ssh = self._gathered_by_ssh()
            if isinstance(by_ssh, facts.Facts):
                return by_ssh
            by_agent = self._gathered_by_agent()
        else:
            by_agent = self._gathered_by_agent()
            if isinstance(by_agent, (NotLinux, AgentFrozen)):
                return by_agent  # a log-in writes, and what is frozen lets it hang
            if isinstance(by_agent, facts.Facts) and not by_agent.confined:
                return by_agent
            by_ssh = self._gathered_by_ssh()
            if isinstance(by_ssh, facts.Facts):
                return by_ssh
        return self._without_ssh(by_agent, by_ssh)

    def _without_ssh(self, by_agent: _Answer, by_ssh: ProbeError) -> _Answer:
        """Return the answer *by_agent* if ssh ended with the error *by_ssh*; an error of both names both."""
        if isinstance(by_agent, facts.Facts):
            self._way, self.ssh_problem = "agent", by_ssh
            return by_agent
        if isinstance(by_agent, NotLinux):
            return by_agent
        kind = type(by_agent) if isinstance(by_ssh, NoAccess) else ProbeError
        problem = _without(self.name, by_ssh)
        if not problem.startswith("ssh "):
            problem = f"by ssh: {problem}"
        return kind(f"{by_agent}; {problem}")

    @property
    def _look_seconds(self) -> int:
        return round(self.policy.look_seconds * self.hypervisor.strain())

    def _gathered_by_agent(self) -> _Answer:
        try:
            seen = facts.gather(
                self.agent_shell,
                self.name,
                self.known_kernels,
                seconds=self._look_seconds,
            )
        except AgentAbsent as exc:
            return exc
        except ProbeError as exc:
            return self._described(exc)
        self._way, self.known_kernels = "agent", seen.read_kernels
        return seen

    def _gathered_by_ssh(self) -> _Answer:
        used = self._connection
        try:
            seen = facts.gather(
                self._by_ssh(),
                self.name,
                self.known_kernels,
                seconds=self._look_seconds,
            )
        except ProbeError as exc:
            self.hang_up()
            if used is not None:
                return (
                    self._gathered_by_ssh()
                )  # it broke since: a guest that booted again may have another address
            return exc
        self._way, self.ssh_problem = "ssh", None
        self.known_kernels = seen.read_kernels
        return seen

    def _described(self, problem: ProbeError) -> ProbeError:
        """Return *problem* with the system that the agent reports: a typed call may work if guest-exec does not."""
        system = self.agent.system()
        if system is None:
            return problem
        if system.is_windows:
            return NotLinuxButWindows(self.name, othersystem.words("Windows"))
        if system.is_another:
            return NotLinux(self.name, othersystem.words(system.name))
        if isinstance(problem, AgentBlocked):
            return AgentBlocked(f"{problem} ({system.name})")
        return problem

    @property
    def facts(self) -> facts.Facts:
        """Return the facts. Raises NotAssessable if there is no way to look inside, ProbeError if looking failed."""
        answer = self.inside()
        if isinstance(answer, NoAccess):
            raise NotAssessable(
                f"{_without(self.name, answer)} (see guest-access)"
            ) from answer
        if isinstance(answer, ProbeError):
            raise answer
        return answer


#: stands for the disks that only QEMU's own arguments bring: libvirt knows nothing of them
UNKNOWN_DISKS = "qemu:commandline"


class Disk(NamedTuple):
    """One disk of a guest's definition, under the target it had when the run began."""

    guest: Guest
    name: str

    @property
    def is_unknown(self) -> bool:
        """True if it stands for disks that are in QEMU's arguments alone."""
        return self.name == UNKNOWN_DISKS

    @property
    def target(self) -> str:
        """Return the target it has now."""
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
