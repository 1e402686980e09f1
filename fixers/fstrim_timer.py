from reclaim.change import Change, CommandChange
from reclaim.errors import Withheld
from reclaim.guest import Guest
from reclaim.schedule import uncovered


def schedule_trim(guest: Guest) -> list[Change]:
    """Enable and start fstrim.timer; run the service again where its last run failed."""
    timer = guest.facts.fstrim_timer
    state, load = timer.get("UnitFileState"), timer.get("LoadState")
    if load == "masked" or state == "masked":
        raise Withheld("fstrim.timer is masked, which somebody did on purpose: systemctl unmask fstrim.timer")
    if load != "loaded":
        raise Withheld("fstrim.timer is not installed: it comes with util-linux from 2.35.1-3 on Debian")
    changes: list[Change] = []
    if state != "enabled":
        changes.append(
            CommandChange(guest.name, "systemctl enable --now fstrim.timer", "systemctl disable --now fstrim.timer")
        )
    elif timer.get("ActiveState") != "active":
        changes.append(CommandChange(guest.name, "systemctl start fstrim.timer", "systemctl stop fstrim.timer"))
    if guest.facts.fstrim_service.get("Result") != "success":
        changes.append(CommandChange(guest.name, "systemctl start fstrim.service"))
    if not changes:
        raise Withheld(f"add to fstab, or mount with the option `discard`: {', '.join(uncovered(guest.facts))}")
    return changes
