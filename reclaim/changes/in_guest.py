"""Commands in the shell of a guest or of the hypervisor."""

from __future__ import annotations

from reclaim.base.errors import ChangeFailed, NotYet
from reclaim.base.text import last_words
from reclaim.changes.change import Place
from reclaim.handles.guest import Guest

#: seconds a command may take that rebuilds an initramfs or a boot menu; more in a guest on a busy hypervisor
COMMAND_SECONDS = 900


def expect_devices(place: Place, devices: list[str]) -> None:
    """Raise NotYet if one of *devices* is not there: a guest that looks for it would not boot."""
    for device in devices:
        if place.shell.run("test -b %s", device).rc != 0:
            raise NotYet(
                f"{place.name}: its old content names {device}, which does not exist on the bus the guest runs on; "
                "the present content works on either bus: shut the guest down, start it, and undo again"
            )


def run(place: Place, command: str) -> None:
    """Run *command* there. Raises ChangeFailed with its last words if it fails."""
    strain = place.hypervisor.strain() if isinstance(place, Guest) else 1
    result = place.shell.run(command, seconds=round(COMMAND_SECONDS * strain))
    if result.rc != 0:
        why = last_words(result.stderr, result.stdout)
        raise ChangeFailed(
            f"{place.name}: {command} ended with status {result.rc}: {why}"
        )
