"""A hypervisor whose systemd and cron are values, for the trim that it makes on a schedule."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from testinfra.backend.base import BaseBackend, CommandResult
from testinfra.host import Host

from reclaim.base.errors import AgentBlocked
from reclaim.changes import domfstrim
from tests.support import InhabitedGuest, Inside, inhabited

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


ALLOWED = {"supported_commands": [{"name": "guest-fstrim", "enabled": True}, {"name": "guest-exec", "enabled": False}]}


@dataclass
class Units(BaseBackend):  # type: ignore[misc]
    """A hypervisor's shell: its units by name, the lines of its schedules, whether systemd and virsh are there."""

    NAME = "host"
    units: dict[str, str] = field(default_factory=dict)
    enabled: set[str] = field(default_factory=set)
    mentions: str = ""
    systemd: bool = True
    virsh: str = "/usr/bin/virsh\n"
    broken: bool = False

    def __post_init__(self) -> None:
        super().__init__("host")

    def decode(self, data: bytes) -> str:
        return data.decode("utf-8", errors="replace")

    def run(self, command: str, *args: str, **_kwargs: Any) -> CommandResult:
        words = shlex.split(self.get_command(command, *args))
        status, out, err = self.answer(words)
        return self.result(status, command.encode(), out.encode(), err.encode())

    def answer(self, words: list[str]) -> tuple[int, str, str]:
        if words[:2] == ["test", "-d"]:
            return (0 if self.systemd else 1), "", ""
        if words[:2] == ["command", "-v"]:
            return (0 if self.virsh else 1), self.virsh, ""
        if words[:2] == ["systemctl", "show"]:
            return self.show(words[-1])
        script, *rest = words[2:]
        if script == domfstrim._MENTIONS:
            return 0, self.mentions, ""
        name, service, timer = rest[1:]
        if script == domfstrim._INSTALL:
            if self.broken:
                return 1, "", "Failed to enable unit: no space\n"
            self.units |= {f"{name}.service": service, f"{name}.timer": timer}
            self.enabled.add(f"{name}.timer")
        else:
            assert script == domfstrim._REMOVE
            if self.units.get(f"{name}.timer", timer) != timer:
                return 1, "", "it has been changed since\n"
            for one in (f"{name}.service", f"{name}.timer"):
                self.units.pop(one, None)
                self.enabled.discard(one)
        return 0, "", ""

    def show(self, unit: str) -> tuple[int, str, str]:
        if self.broken:
            return 1, "", "Failed to connect to bus\n"
        loaded, on = unit in self.units, unit in self.enabled
        state = "enabled" if on else "disabled" if loaded else ""
        words = {"LoadState": "loaded" if loaded else "not-found", "UnitFileState": state}
        words["ActiveState"] = "active" if on else "inactive"
        return 0, "".join(f"{key}={value}\n" for key, value in words.items()), ""


def blocked(folder: Path, host: Units, answers: dict[str, Callable[[], Any]] | None = None) -> InhabitedGuest:
    """A guest whose agent runs no commands, on *host*; its agent allows guest-fstrim unless *answers* say another."""
    guest = inhabited(folder, Inside(problem=AgentBlocked("one: the guest agent does not allow guest-exec")))
    guest.answers = {"guest-info": lambda: ALLOWED, **(answers or {})}
    shell = Host(host)
    host.set_host(shell)
    guest.hypervisor.shell = shell
    return guest
