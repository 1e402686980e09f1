import shlex
from itertools import chain, count

from reclaim.base.errors import Withheld
from reclaim.changes.change import Change
from reclaim.changes.command import CommandChange
from reclaim.changes.file_change import FileChange
from reclaim.handles.guest import Guest
from reclaim.inside.facts import Facts
from reclaim.inside.trim_schedule import (
    LEFT_OUT,
    NO_TRIM,
    NOT_NAMED,
    READ_ONLY,
    started_instead,
    trimmable,
    untrimmed,
    untrimmed_pools,
    was_skipped,
    why_not_by_cron,
    why_not_by_timer,
)

_UNITS = "/etc/systemd/system"
#: what util-linux 2.35.2 took out of the unit
_DROP_INS = f"{_UNITS}/fstrim.service.d"
_DROP_IN = f"{_DROP_INS}/reclaim.conf"
_EXAMPLES = "/usr/share/doc/util-linux/examples"
_WEEKLY = ("/etc/cron.weekly", "/etc/periodic/weekly")
#: --now is of systemd 220; Debian 8 has 215
_ENABLE = "systemctl enable fstrim.timer && systemctl start fstrim.timer"
_DISABLE = "systemctl stop fstrim.timer; systemctl disable fstrim.timer"
#: of a timer that runs already: it goes on running, whether this is taken back or not
_ENABLE_ALONE = "systemctl enable fstrim.timer"
_DISABLE_ALONE = "systemctl disable fstrim.timer"
_SCRIPT = "reclaim-fstrim"  # no dot: run-parts(8) passes over names with one


def schedule_trim(guest: Guest) -> list[Change]:
    """Enable and start fstrim.timer, or add a weekly script for cron if there is no systemd; set autotrim for ZFS."""
    facts = guest.facts
    changes: list[Change] = []
    if untrimmed(facts):
        if "systemctl" in facts.tools:
            changes += _timer(guest.name, facts)
        else:
            changes.append(_cron(guest.name, facts))
    service = facts.fstrim_service
    if untrimmed(facts) and (
        service.get("ProtectSystem") == "strict"
        or service.get("ProtectHome", "no") != "no"
    ):
        changes.append(
            CommandChange(
                guest.name,
                f"mkdir -p {_DROP_INS} && printf '[Service]\\nProtectSystem=no\\nProtectHome=no\\n' >{_DROP_IN} && "
                "systemctl daemon-reload",
                f"rm -f {_DROP_IN} && systemctl daemon-reload",
            )
        )
    for pool in untrimmed_pools(facts):
        named = shlex.quote(pool)
        changes.append(
            CommandChange(
                guest.name,
                f"zpool set autotrim=on {named}",
                f"zpool set autotrim=off {named}",
            )
        )
    if not changes:
        raise Withheld("; ".join(_by_hand(facts)))
    return changes


def _by_hand(facts: Facts) -> list[str]:
    """Return advice for the filesystems that fstrim.service passes over, by the reason for that."""
    advice = {
        NOT_NAMED: f"{_told_in(facts)}: let its ExecStart= trim all (fstrim --all), or add one for each of these",
        LEFT_OUT: f"{_told_in(facts)}: let its ExecStart= trim all (fstrim --all), without options that leave some out",
        NO_TRIM: f"take {NO_TRIM} out of fstab, or leave these untrimmed on purpose",
        READ_ONLY: "take `ro` out of fstab, as they are written to",
    }
    names_by_advice: dict[str, list[str]] = {}
    for mount in untrimmed(facts):
        way = advice.get(
            mount.problem, "add to fstab, or mount with the option `discard`"
        )
        names_by_advice.setdefault(way, []).append(f"{mount.name} ({mount.problem})")
    return [f"{way}: {', '.join(names)}" for way, names in names_by_advice.items()]


def _told_in(facts: Facts) -> str:
    """Return the file in which fstrim.service is given a command of its own."""
    drop_ins = facts.fstrim_service.get("DropInPaths", "").split()
    unit = facts.fstrim_service.get("FragmentPath", "")
    if drop_ins:
        return " or ".join(drop_ins)
    return (
        unit
        if unit.startswith("/etc/")
        else "the drop-in of fstrim.service (systemctl cat fstrim.service)"
    )


def _timer(guest: str, facts: Facts) -> list[Change]:
    """Return the changes that put fstrim.timer to work; none if it works."""
    timer = facts.fstrim_timer
    state, load = timer.get("UnitFileState"), timer.get("LoadState")
    if load == "masked" or state in ("masked", "masked-runtime"):
        raise Withheld(
            "fstrim.timer is masked, perhaps on purpose: systemctl unmask fstrim.timer"
        )
    if load not in ("loaded", "not-found", "", None):
        raise Withheld(
            f"fstrim.timer is {load}: `systemctl status fstrim.timer` shows the cause"
        )
    if load != "loaded":
        return [_install(guest, facts)]
    service = facts.fstrim_service.get("LoadState")
    if service != "loaded":
        raise Withheld(
            f"fstrim.service is {service}, and the timer starts nothing else"
        )
    if other := started_instead(timer):
        raise Withheld(
            f"`systemctl cat fstrim.timer` shows the file that has it start {other}"
        )
    if was_skipped(facts.fstrim_service):
        raise Withheld(
            "`systemctl cat fstrim.service` shows its conditions: take out the one that is not met"
        )
    changes: list[Change] = []
    if state == "static" and timer.get("ActiveState") != "active":
        # it has no [Install]: something has to want it
        changes.append(
            CommandChange(
                guest,
                "systemctl add-wants timers.target fstrim.timer && systemctl start fstrim.timer",
                f"systemctl stop fstrim.timer; rm -f {_UNITS}/timers.target.wants/fstrim.timer && "
                "systemctl daemon-reload",
            )
        )
    elif state not in ("enabled", "static", "generated", "alias"):
        runs = timer.get("ActiveState") == "active"
        ways = (_ENABLE_ALONE, _DISABLE_ALONE) if runs else (_ENABLE, _DISABLE)
        changes.append(CommandChange(guest, *ways))
    elif timer.get("ActiveState") != "active":
        changes.append(
            CommandChange(
                guest, "systemctl start fstrim.timer", "systemctl stop fstrim.timer"
            )
        )
    if why_not_by_timer(facts) and facts.fstrim_service.get("Result") != "success":
        changes.append(CommandChange(guest, "systemctl start fstrim.service"))
    if not changes and timer.get("SubState") == "elapsed":
        raise Withheld(
            "`systemctl cat fstrim.timer` shows the file that removed its OnCalendar="
        )
    return changes


def _install(guest: str, facts: Facts) -> Change:
    """Put in place the units that Debian ships as an example up to release 9."""
    if "fstrim-examples" not in facts.tools:
        return _cron(guest, facts)
    return CommandChange(
        guest,
        f"cp {_EXAMPLES}/fstrim.service {_EXAMPLES}/fstrim.timer {_UNITS}/ && systemctl daemon-reload && {_ENABLE}",
        f"{_DISABLE}; rm -f {_UNITS}/fstrim.service {_UNITS}/fstrim.timer && systemctl daemon-reload",
    )


def _cron(guest: str, facts: Facts) -> Change:
    """Write a script that trims each filesystem by its name: busybox's fstrim knows no --all."""
    folder = next((folder for folder in _WEEKLY if folder in facts.tools), None)
    if "fstrim" not in facts.tools:
        raise Withheld("fstrim is not installed in the guest: it comes with util-linux")
    if folder is None:
        raise Withheld(
            "there is no fstrim.timer and no folder of weekly cron jobs: install util-linux or cron"
        )
    if not facts.cron_daemons:
        raise Withheld(f"{why_not_by_cron(facts)}; start a cron daemon in the guest")
    script = "".join(
        f"fstrim {shlex.quote(mount.target)}\n" for mount in trimmable(facts)
    )
    text = (
        f"#!/bin/sh\n# weekly, by reclaim: gives freed space back to the host\n{script}"
    )
    path = _free_path(f"{folder}/{_SCRIPT}", facts)
    # undo runs it too, and the script is gone by then
    executable = f"test ! -e {path} || chmod 755 {path}"
    return FileChange(guest, path, None, text, then=executable)


def _free_path(path: str, facts: Facts) -> str:
    """Return *path*, or with a number if an earlier run's script has that name: its filesystems stay trimmed."""
    taken = {job.path for job in facts.jobs}
    numbered = (f"{path}-{number}" for number in count(2))
    return next(free for free in chain([path], numbered) if free not in taken)
