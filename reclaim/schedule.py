"""Which filesystems a guest's scheduled trim reaches."""

from __future__ import annotations

from reclaim.facts import Facts
from reclaim.fstab import entries
from reclaim.storage import TRIMMABLE, filesystems


def uncovered(facts: Facts) -> list[str]:
    """Mounts that could be trimmed and that neither fstrim.timer nor the mount option `discard` trims.

    The unit runs `fstrim --listed-in /etc/fstab:/proc/self/mountinfo`, which stops after the first
    file that lists anything: what is not in fstab, or is marked `X-fstrim.notrim`, is left out.
    """
    listed = {entry.target: entry for entry in entries(facts.fstab)}
    missed = []
    for one in filesystems(facts):
        options = one.mount.options
        if one.mount.fstype not in TRIMMABLE or "ro" in options or one.device.readonly:
            continue
        if any(option == "discard" or option.startswith("discard=") for option in options):
            continue
        targets = {mount.target for mount in facts.mounts if mount.source == one.mount.source}
        entry = next((listed[target] for target in targets if target in listed), None)
        if entry is None:
            missed.append(f"{one.mount.target} (not in fstab)")
        elif "X-fstrim.notrim" in entry.options:
            missed.append(f"{one.mount.target} (X-fstrim.notrim)")
    return missed
