"""What trims a guest's filesystems, and which ones nothing trims."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from reclaim.base.cached import once
from reclaim.inside.devices import Mount
from reclaim.inside.facts import Facts
from reclaim.inside.filesystems import TRIMMABLE, filesystems
from reclaim.inside.fstab import listed

#: kernel from which vfat has FITRIM (f663b5b38fff in Linux)
_VFAT = (4, 19)
#: why a filesystem is not trimmed, if that is not because fstab lacks it
NOT_NAMED = "not named by fstrim.service"
NO_TRIM = "X-fstrim.notrim"
READ_ONLY = "read-only in fstab"
#: options of fstab(5) by which fstrim passes a filesystem over (fstrim(8))
_EXEMPTING = (NO_TRIM, "ro")
_EXEMPTING_ALL = frozenset(_EXEMPTING)
#: characters of a call that are taken apart: shlex takes the square of a word's length
_LONGEST_CALL = 4096
#: what `systemctl is-enabled` takes for enabled; a linked unit is not: nothing wants it at boot
_TIMER_ENABLED = ("enabled", "static", "generated", "alias")
#: a call, up to the next command of the line; `test -x /sbin/fstrim && …` has two of the name
_FSTRIM = re.compile(r"(?<![\w.-])fstrim(?P<all>-all)?(?=\s|\Z)(?P<arguments>[^|;&]*)")


@dataclass(frozen=True)
class TrimReach:
    """A filesystem or a pool that can be trimmed; `problem` says why fstrim.timer does not."""

    name: str
    problem: str = ""


def why_not_by_timer(facts: Facts) -> str | None:
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
    if timer.get("SubState") == "elapsed":
        return "fstrim.timer is active but never elapses again"  # a drop-in took its OnCalendar= away
    if service.get("LoadState") != "loaded":
        return f"fstrim.service is {service.get('LoadState') or 'unknown to systemd'}"
    if service.get("ProtectSystem") == "strict":
        # of util-linux 2.34 to 2.35.1 (its issue 948): all is read-only to it, which fstrim passes over
        return "fstrim.service trims nothing with ProtectSystem=strict"
    if service.get("Result") != "success":
        return f"the last run of fstrim.service failed: {service.get('Result')}"
    return None


def why_not_by_cron(facts: Facts) -> str | None:
    """Why cron trims nothing; None where it does."""
    if not facts.jobs:
        return "nothing in cron trims"
    if not facts.cron_daemons:
        return f"{facts.jobs[0].path} trims, but no cron daemon runs"
    return None


@dataclass(frozen=True)
class Reach:
    """What a call of fstrim trims: everything that is mounted, what fstab lists, some mount points."""

    everything: bool = False
    fstab: bool = False
    targets: frozenset[str] = frozenset()


def timer_reach(facts: Facts) -> Reach | None:
    """What fstrim.service trims; None where a drop-in has it run something else.

    It was `fstrim -a` up to util-linux 2.32, `--fstab` from 2.33 and `--listed-in
    /etc/fstab:/proc/self/mountinfo` from 2.36, which stops after the first file that lists anything.
    """
    if "systemctl" not in facts.tools:
        return Reach()
    reaches = [] if facts.fstrim_commands else [Reach(fstab=True)]
    for command in facts.fstrim_commands:
        path, _, arguments = command.partition(" ")
        if path.rpartition("/")[2] != "fstrim":
            return None
        reaches.append(_reach(facts, arguments.split()))
    return Reach(
        any(one.everything for one in reaches),
        any(one.fstab for one in reaches),
        frozenset[str]().union(*(one.targets for one in reaches)),
    )


def untrimmed(facts: Facts) -> list[TrimReach]:
    """What could be trimmed and is not: by the mount option `discard`, by fstrim.timer, by cron, by autotrim."""
    timer_works = why_not_by_timer(facts) is None
    reach = timer_reach(facts)
    by_cron = _reached_by_cron(facts)
    missed = []
    for mount in trimmable(facts):
        if any(
            option == "discard" or option.startswith("discard=")
            for option in mount.options
        ):
            continue
        targets = {other.target for other in facts.mounts_from[mount.device]}
        if _why_not(facts, by_cron, targets) is None:
            continue
        problem = _why_not(facts, reach, targets) if reach else ""
        if (
            problem is None
            and facts.fstrim_service.get("ProtectHome", "no") != "no"
            and all(map(_is_home, targets))
        ):
            problem = "hidden from fstrim.service by ProtectHome="
        if problem is not None or not timer_works:
            missed.append(TrimReach(mount.target, problem or ""))
    return missed


def _why_not(facts: Facts, reach: Reach, targets: set[str]) -> str | None:
    """Why *reach* does not have the filesystem that is mounted on *targets*; None where it has."""
    if reach.everything or reach.targets & targets:
        return None
    if not reach.fstab:
        return NOT_NAMED if reach.targets else ""
    exempt = [
        found for target in targets if (found := _exempt(facts).get(target)) is not None
    ]
    if not exempt:
        # fstrim.c adds the root to an fstab that has none (util-linux 2.34)
        return None if "/" in targets else "not in fstab"
    for option in _EXEMPTING:
        if all(option in options for options in exempt):
            return option if option == NO_TRIM else READ_ONLY
    return None


@once
def _exempt(facts: Facts) -> Mapping[str, frozenset[str]]:
    """Each mount point of fstab -> what of _EXEMPTING all of its entries say."""
    found: dict[str, frozenset[str]] = {}
    for entry in listed(facts):
        target = _plain(entry.target)
        found[target] = found.get(target, _EXEMPTING_ALL).intersection(entry.options)
    return found


def untrimmed_pools(facts: Facts) -> list[str]:
    """ZFS pools that nothing trims: fstrim does not know them (zpool-trim(8), zpoolprops(7))."""
    by_cron = (
        {word for job in facts.jobs for word in job.line.split()}
        if not why_not_by_cron(facts)
        else set()
    )
    return [
        pool
        for pool, autotrim in facts.autotrim.items()
        if not autotrim and pool not in by_cron
    ]


@once
def trimmable(facts: Facts) -> list[Mount]:
    """A mount of each filesystem that can be trimmed: the first that can be written to."""
    found = re.match(r"(\d{1,9})\.(\d{1,9})", facts.running_kernel)
    kernel = (int(found[1]), int(found[2])) if found else _VFAT
    mounts = []
    for one in filesystems(facts):
        # with composefs (Silverblue, bootc) the first one is /sysroot, read-only, and /var is another
        writable = [
            mount
            for mount in facts.mounts_from[one.mount.device]
            if "ro" not in mount.options
        ]
        if (
            writable
            and one.mount.fstype in TRIMMABLE
            and not (one.mount.fstype == "vfat" and kernel < _VFAT)
            and not one.device.readonly
        ):
            mounts.append(writable[0])
    return mounts


def _reached_by_cron(facts: Facts) -> Reach:
    """What cron's jobs trim."""
    if why_not_by_cron(facts):
        return Reach()
    found = [_reach(facts, words) for job in facts.jobs for words in _calls(job.line)]
    return Reach(
        any(one.everything for one in found),
        any(one.fstab for one in found),
        frozenset[str]().union(*(one.targets for one in found)),
    )


def _reach(facts: Facts, words: list[str]) -> Reach:
    """What `fstrim` with these arguments trims (fstrim(8))."""
    options = [word for word in words if word.startswith("-")]
    if any(option == "--all" or _has_letter(option, "a") for option in options):
        return Reach(everything=True)
    for number, word in enumerate(words):
        match = re.fullmatch(r"(?:--listed-in|-I)(?:=(?P<files>.*))?", word)
        if match:
            named = match["files"] or "".join(words[number + 1 : number + 2])
            return _listed_in(facts, named.split(":"))
    if any(option == "--fstab" or _has_letter(option, "A") for option in options):
        return Reach(fstab=True)
    return Reach(
        targets=frozenset(_plain(word) for word in words if word.startswith("/"))
    )


def _has_letter(option: str, letter: str) -> bool:
    """Is *letter* among these options of one letter each?"""
    return letter in option and re.fullmatch(r"-\w+", option) is not None


def _listed_in(facts: Facts, files: list[str]) -> Reach:
    for file in files:
        if file != "/etc/fstab":
            return Reach(
                everything=file in ("/proc/self/mountinfo", "/proc/mounts", "/etc/mtab")
            )
        if listed(facts):
            return Reach(fstab=True)
    return Reach()


def _is_home(target: str) -> bool:
    """Is it below what ProtectHome= hides (systemd.exec(5))?"""
    return any(
        target == folder or target.startswith(f"{folder}/")
        for folder in ("/home", "/root", "/run/user")
    )


def _plain(target: str) -> str:
    """A mount point as the kernel has it, without a slash at its end."""
    return target.rstrip("/") or "/"


def _calls(line: str) -> Iterator[list[str]]:
    """What follows each `fstrim` in a line of shell, where it can be taken apart.

    Ubuntu 14.04's fstrim-all passes over what is no SSD of two makers, unless it is told not to check.
    """
    for match in _FSTRIM.finditer(line):
        if len(match["arguments"]) > _LONGEST_CALL or (
            match["all"] and "--no-model-check" not in match["arguments"]
        ):
            continue
        with contextlib.suppress(ValueError):
            words = shlex.split(match["arguments"], comments=True)
            yield ["--all"] if match["all"] else words
