"""What trims a guest's filesystems, and which ones nothing trims."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from reclaim.facts import Facts, Mount
from reclaim.fstab import entries
from reclaim.storage import TRIMMABLE, filesystems

#: kernel from which vfat has FITRIM (f663b5b38fff in Linux)
_VFAT = (4, 19)
_TIMER_ENABLED = ("enabled", "static", "linked", "generated", "alias")


@dataclass(frozen=True)
class Trim:
    """A filesystem or a pool that can be trimmed; `problem` says why fstrim.timer does not."""

    name: str
    problem: str = ""


def timer_problem(facts: Facts) -> str | None:
    """Why fstrim.timer trims nothing; None where it works."""
    if "systemctl" not in facts.tools:
        return f"{facts.os_name} has no systemd"
    timer, service = facts.fstrim_timer, facts.fstrim_service
    if timer.get("LoadState") != "loaded":
        return f"fstrim.timer is {timer.get('LoadState') or 'unknown to systemd'}"
    if timer.get("UnitFileState") not in _TIMER_ENABLED:
        return f"fstrim.timer is {timer.get('UnitFileState') or 'not enabled'}"
    if timer.get("ActiveState") != "active":
        return f"fstrim.timer is {timer.get('UnitFileState')} but {timer.get('ActiveState')}"
    if service.get("Result") != "success":
        return f"the last run of fstrim.service failed: {service.get('Result')}"
    return None


def cron_problem(facts: Facts) -> str | None:
    """Why cron trims nothing; None where it does."""
    if not facts.jobs:
        return "nothing in cron trims"
    if not facts.cron_daemons:
        return f"{facts.jobs[0].path} trims, but no cron daemon runs"
    return None


def untrimmed(facts: Facts) -> list[Trim]:
    """What could be trimmed and is not: by the mount option `discard`, by fstrim.timer, by cron, by autotrim.

    The unit runs `fstrim --listed-in /etc/fstab:/proc/self/mountinfo`, which stops after the first
    file that lists anything: what is not in fstab, or is marked `X-fstrim.notrim`, is left out.
    """
    timer_works = timer_problem(facts) is None
    listed = {entry.target: entry for entry in entries(facts.fstab)}
    by_cron = _trimmed_by_cron(facts)
    missed = []
    for mount in trimmable(facts):
        if any(option == "discard" or option.startswith("discard=") for option in mount.options):
            continue
        targets = {other.target for other in facts.mounts if other.source == mount.source}
        if by_cron is None or by_cron & targets:
            continue
        entry = next((listed[target] for target in targets if target in listed), None)
        if entry is None:
            missed.append(Trim(mount.target, "not in fstab"))
        elif "X-fstrim.notrim" in entry.options:
            missed.append(Trim(mount.target, "X-fstrim.notrim"))
        elif not timer_works:
            missed.append(Trim(mount.target))
    return missed


def untrimmed_pools(facts: Facts) -> list[str]:
    """ZFS pools that nothing trims: fstrim does not know them (zpool-trim(8), zpoolprops(7))."""
    by_cron = {word for job in facts.jobs for word in job.line.split()} if not cron_problem(facts) else set()
    return [pool for pool, autotrim in facts.autotrim.items() if not autotrim and pool not in by_cron]


def trimmable(facts: Facts) -> list[Mount]:
    """The first mount of each filesystem that can be trimmed."""
    found = re.match(r"(\d+)\.(\d+)", facts.running_kernel)
    kernel = (int(found[1]), int(found[2])) if found else _VFAT
    return [
        one.mount
        for one in filesystems(facts)
        if one.mount.fstype in TRIMMABLE
        and not (one.mount.fstype == "vfat" and kernel < _VFAT)
        and "ro" not in one.mount.options
        and not one.device.readonly
    ]


def _trimmed_by_cron(facts: Facts) -> set[str] | None:
    """The mount points that cron's jobs trim; None for all of them."""
    found: set[str] = set()
    if cron_problem(facts):
        return found
    for job in facts.jobs:
        words = _words(job.line)
        if "fstrim" not in job.line:
            continue
        options = [word for word in words if word.startswith("-")]
        if any(option in ("--all", "--listed-in") or re.fullmatch(r"-\w*a\w*", option) for option in options):
            return None
        if any(option == "--fstab" or re.fullmatch(r"-\w*A\w*", option) for option in options):
            found |= {entry.target for entry in entries(facts.fstab) if "X-fstrim.notrim" not in entry.options}
        found |= {word for word in words if word.startswith("/")}
    return found


def _words(line: str) -> list[str]:
    """What follows `fstrim` in a line of shell; nothing where it cannot be taken apart."""
    _, _, arguments = line.partition("fstrim")
    try:
        return shlex.split(re.split(r"[|;&]", arguments)[0], comments=True)
    except ValueError:
        return []
