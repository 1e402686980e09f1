"""A command that is run in a guest or on the hypervisor."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from reclaim.base.errors import ChangeFailed, ProbeError
from reclaim.changes.in_guest import expect_devices, run
from reclaim.handles.guest import Guest


@dataclass(frozen=True)
class CommandChange:
    """A command run in the guest by its shell, and the one that takes it back (None: there is none).

    `devices` are those that `back` names: if they are gone it must not be run.
    """

    kind: ClassVar[str] = "command"
    guest: str
    command: str
    back: str | None = None
    devices: list[str] = field(default_factory=list)

    @property
    def target(self) -> str:
        return f"command in {self.guest}"

    @property
    def diff(self) -> str:
        return self.command

    def apply(self, guest: Guest) -> dict[str, str]:
        try:
            run(guest, self.command)
        except ChangeFailed as exc:
            if self.back is not None:
                _take_back_a_part(guest, self.back, exc)
            raise
        return {}

    def undo(self, guest: Guest, outcome: dict[str, str]) -> str:
        if self.back is None:
            return f"{self.command}: it cannot be undone"
        expect_devices(guest, self.devices)
        run(guest, self.back)
        return self.back


def _take_back_a_part(guest: Guest, back: str, failed: ChangeFailed) -> None:
    """Run *back*: of several commands in a row the first may have succeeded. Raises ProbeError if it fails too.

    The devices that it names need not be there: the guest has named them until now.
    """
    try:
        run(guest, back)
    except (ChangeFailed, ProbeError) as exc:
        raise ProbeError(
            f"{failed}; reclaim could not take back a part of it: {exc}"
        ) from exc
