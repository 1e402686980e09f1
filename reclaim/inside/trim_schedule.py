"""The schedules that trim a guest's filesystems, and the filesystems that none of them trims."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from reclaim.base.cached import once
from reclaim.inside.devices import Mount
from reclaim.inside.facts import Facts
from reclaim.inside.filesystems import TRIMMABLE, Filesystem, filesystems
from reclaim.inside.fstab import listed

#: kernel from which vfat has FITRIM (f663b5b38fff in Linux)
_VFAT = (4, 19)
#: why a filesystem is not trimmed, if that is not because fstab lacks it
NOT_NAMED = "not named by fstrim.service"
LEFT_OUT = "left out by the command of fstrim.service"
NO_TRIM = "X-fstrim.notrim"
READ_ONLY = "read-only in fstab"
#: options of fstab(5) by which fstrim passes a filesystem over (fstrim(8))
_EXEMPTING = frozenset((NO_TRIM, "ro"))
#: fstrim's options (fstrim(8)); busybox has some of them
_LETTERS = {
    "A": "--fstab", "a": "--all", "n": "--dry-run", "v": "--verbose", "h": "--help", "V": "--version",
    "t": "--types", "I": "--listed-in", "o": "--offset", "l": "--length", "m": "--minimum",
}  # fmt: skip
_WITH_VALUE = ("--types", "--listed-in", "--offset", "--length", "--minimum")
_ALONE = frozenset((*_LETTERS.values(), "--quiet", "--quiet-unsupported"))
#: options with which fstrim trims nothing, or a part of each filesystem
_TRIMS_NO_WHOLE = frozenset(
    ("--dry-run", "--offset", "--length", "--help", "--version")
)
#: bytes of the longest free extents that a schedule may pass over (--minimum)
_SMALLEST_LEFT = 16 << 20
#: files that list everything that is mounted
_MOUNT_TABLES = ("/proc/self/mountinfo", "/proc/mounts", "/etc/mtab")
#: characters of a call that are taken apart: shlex takes the square of a word's length
_LONGEST_CALL = 4096
#: the states that `systemctl is-enabled` takes for enabled; `linked` is not: nothing wants such a unit at boot
_TIMER_ENABLED = ("enabled", "static", "generated", "alias")
#: a call, up to the next command of the line; `test -x /sbin/fstrim && …` has two of the name
_FSTRIM = re.compile(r"(?<![\w.-])fstrim(?P<all>-all)?(?=\s|\Z)(?P<arguments>[^|;&]*)")
#: the sign of a redirection, at the begin of a word (sh(1))
_REDIRECTION = re.compile(r"\d*(?:>>|>\||>|<)")


@dataclass(frozen=True)
class TrimReach:
    """A filesystem or a pool that can be trimmed; `problem` is the reason why fstrim.timer does not."""

    name: str
    problem: str = ""

    def __str__(self) -> str:
        if not self.problem:
            return self.name
        return f"{self.name} ({self.problem})"


def why_not_by_timer(facts: Facts) -> str | None:
    """Return the reason why fstrim.timer trims nothing; None if it works."""
    if "systemctl" not in facts.tools:
        return f"{facts.os_name} has no systemd"
    timer, service = facts.fstrim_timer, facts.fstrim_service
    return _why_not_started(timer) or _why_not_successful(service)


def _why_not_started(timer: Mapping[str, str]) -> str | None:
    loaded, enabled = timer.get("LoadState"), timer.get("UnitFileState")
    if loaded != "loaded":
        return f"fstrim.timer is {loaded or 'unknown to systemd'}"
    if enabled not in _TIMER_ENABLED:
        return f"fstrim.timer is {enabled or 'not enabled'}"
    if timer.get("ActiveState") != "active":
        return f"fstrim.timer is {enabled} but {timer.get('ActiveState')}"
    if timer.get("SubState") == "elapsed":
        return "fstrim.timer is active but never elapses again"  # a drop-in took its OnCalendar= away
    if other := started_instead(timer):
        return f"fstrim.timer starts {other}"
    return None


def started_instead(timer: Mapping[str, str]) -> str:
    """Return the unit that *timer* starts, if it is another than fstrim.service; else ""."""
    unit = timer.get("Unit", "")
    return "" if unit == "fstrim.service" else unit


def was_skipped(service: Mapping[str, str]) -> bool:
    """True if systemd skipped the last start of *service*: a condition of the unit was not met (systemd.unit(5))."""
    was_started = service.get("ConditionTimestamp", "") not in ("", "n/a")
    return was_started and service.get("ConditionResult") == "no"


def _why_not_successful(service: Mapping[str, str]) -> str | None:
    loaded, result = service.get("LoadState"), service.get("Result")
    if loaded != "loaded":
        return f"fstrim.service is {loaded or 'unknown to systemd'}"
    if service.get("ProtectSystem") == "strict":
        # of util-linux 2.34 to 2.35.1 (its issue 948): all is read-only to it, which fstrim passes over
        return "fstrim.service trims nothing with ProtectSystem=strict"
    if result != "success":
        return f"the last run of fstrim.service failed: {result}"
    if was_skipped(service):
        return "systemd skipped the last run of fstrim.service: one of its conditions is not met"
    return None


def why_not_by_cron(facts: Facts) -> str | None:
    """Return the reason why cron trims nothing; None if it does."""
    if not facts.jobs:
        return "no cron job trims"
    if not facts.cron_daemons:
        return f"{facts.jobs[0].path} trims, but no cron daemon runs"
    return None


def why_not_by_schedule(facts: Facts) -> str | None:
    """Return the reason why fstrim.timer trims nothing, and that of cron if it has jobs; None if the timer works."""
    problem = why_not_by_timer(facts)
    if not problem or not facts.jobs:
        return problem
    by_cron = why_not_by_cron(facts) or "cron trims not all"
    return f"{problem}; {by_cron}"


@dataclass(frozen=True)
class Reach:
    """The reach of a call of fstrim: everything that is mounted, the entries of fstab, some mount points."""

    everything: bool = False
    fstab: bool = False
    targets: frozenset[str] = frozenset()


def timer_reach(facts: Facts) -> Reach | None:
    """Return the reach of fstrim.service; None if a drop-in has it run something else.

    It was `fstrim -a` up to util-linux 2.32, `--fstab` from 2.33 and `--listed-in
    /etc/fstab:/proc/self/mountinfo` from 2.36, which stops after the first file that lists anything.
    """
    if "systemctl" not in facts.tools:
        return Reach()
    if not facts.fstrim_commands:
        return Reach(fstab=True)
    reaches = []
    for command in facts.fstrim_commands:
        path, _, arguments = command.partition(" ")
        if path.rpartition("/")[2] != "fstrim":
            return None
        reaches.append(_reach(facts, arguments.split()))
    return _together(reaches)


def _together(reaches: list[Reach]) -> Reach:
    """Return the reach of several calls."""
    return Reach(
        everything=any(reach.everything for reach in reaches),
        fstab=any(reach.fstab for reach in reaches),
        targets=frozenset[str]().union(*(reach.targets for reach in reaches)),
    )


def untrimmed(facts: Facts) -> list[TrimReach]:
    """Return the filesystems that could be trimmed and are not.

    A filesystem is trimmed by the mount option `discard`, by fstrim.timer or by cron.
    """
    timer_works = why_not_by_timer(facts) is None
    reach = timer_reach(facts)
    by_cron = _reached_by_cron(facts)
    missed = []
    for mount in trimmable(facts):
        if _discards_at_once(mount):
            continue
        targets = {other.target for other in facts.mounts_from[mount.device]}
        if _why_not_reached(facts, by_cron, targets) is None:
            continue
        problem = _why_not_by_service(facts, reach, targets)
        if problem is not None or not timer_works:
            missed.append(TrimReach(mount.target, problem or ""))
    return missed


def _discards_at_once(mount: Mount) -> bool:
    for option in mount.options:
        key = option.partition("=")[0]
        if key == "discard":
            return True
    return False


def _why_not_by_service(
    facts: Facts, reach: Reach | None, targets: set[str]
) -> str | None:
    """Return the reason why fstrim.service does not trim the filesystem on *targets*; None if it does."""
    if reach is None:
        return ""
    problem = _why_not_reached(facts, reach, targets)
    if problem is not None:
        return problem or (LEFT_OUT if facts.fstrim_commands else "")
    if facts.fstrim_service.get("ProtectHome", "no") == "no":
        return None
    if all(map(_is_home, targets)):
        return "hidden from fstrim.service by ProtectHome="
    return None


def _why_not_reached(facts: Facts, reach: Reach, targets: set[str]) -> str | None:
    """Return the reason why *reach* leaves out the filesystem that is mounted on *targets*; None if it does not."""
    if reach.everything:
        return None
    if reach.targets & targets:
        return None
    if not reach.fstab:
        if reach.targets:
            return NOT_NAMED
        return ""
    exempt = _exempt(facts)
    listed_targets = targets & exempt.keys()
    if listed_targets:
        return _why_not_listed([exempt[target] for target in listed_targets])
    if "/" in targets:
        # fstrim.c adds the root to an fstab that has none (util-linux 2.34)
        return None
    return "not in fstab"


def _why_not_listed(options: list[frozenset[str]]) -> str | None:
    """Return the reason why fstrim passes over entries of fstab that have these of _EXEMPTING; None if it does not."""
    common = frozenset.intersection(*options)
    if NO_TRIM in common:
        return NO_TRIM
    if "ro" in common:
        return READ_ONLY
    return None


@once
def _exempt(facts: Facts) -> Mapping[str, frozenset[str]]:
    """Return, for each mount point of fstab, the options of _EXEMPTING that all of its entries have."""
    exempt: dict[str, frozenset[str]] = {}
    for entry in listed(facts):
        target = _plain(entry.target)
        before = exempt.get(target, _EXEMPTING)
        exempt[target] = before.intersection(entry.options)
    return exempt


def untrimmed_pools(facts: Facts) -> list[str]:
    """Return the ZFS pools that nothing trims: fstrim does not know them (zpool-trim(8), zpoolprops(7))."""
    by_cron: set[str] = set()
    if not why_not_by_cron(facts):
        for job in facts.jobs:
            by_cron.update(job.line.split())
    pools = []
    for pool, autotrim in facts.autotrim.items():
        if not autotrim and pool not in by_cron:
            pools.append(pool)
    return pools


@once
def trimmable(facts: Facts) -> list[Mount]:
    """Return a mount of each filesystem that can be trimmed: the first that can be written to."""
    version = re.match(r"(\d{1,9})\.(\d{1,9})", facts.running_kernel)
    kernel = _VFAT
    if version:
        kernel = (int(version[1]), int(version[2]))
    mounts = []
    for filesystem in filesystems(facts):
        # with composefs (Silverblue, bootc) the first one is /sysroot, read-only, and /var is another
        writable = [
            mount
            for mount in facts.mounts_from[filesystem.mount.device]
            if "ro" not in mount.options
        ]
        if writable and _takes_trim(filesystem, kernel):
            mounts.append(writable[0])
    return mounts


def trimmed(facts: Facts) -> str:
    """Return the filesystems that can be trimmed, and the swap that fstrim does not trim, in words."""
    text = ", ".join(mount.target for mount in trimmable(facts))
    if facts.swaps:
        text += f"; swap ({', '.join(facts.swaps)}) is trimmed only by swapon --discard"
    return text


def _takes_trim(filesystem: Filesystem, kernel: tuple[int, int]) -> bool:
    fstype = filesystem.mount.fstype
    if fstype not in TRIMMABLE:
        return False
    if fstype == "vfat" and kernel < _VFAT:
        return False
    return not filesystem.device.readonly


def _reached_by_cron(facts: Facts) -> Reach:
    """Return the reach of cron's jobs."""
    if why_not_by_cron(facts):
        return Reach()
    reaches = []
    for job in facts.jobs:
        reaches += [_reach(facts, arguments) for arguments in _calls(job.line)]
    return _together(reaches)


def _reach(facts: Facts, arguments: list[str]) -> Reach:
    """Return the reach of `fstrim` with these arguments (fstrim(8)): none if it refuses them, or passes space over."""
    parsed = _parsed(arguments)
    if parsed is None:
        return Reach()
    options, paths = parsed
    if not options.keys().isdisjoint(_TRIMS_NO_WHOLE):
        return Reach()
    if _size(options.get("--minimum", "0")) > _SMALLEST_LEFT:
        return Reach()
    reach = _base(facts, options)
    # it refuses a second mount point, and any beside an option that says which filesystems
    if len(paths) > (1 if reach is None else 0):
        return Reach()
    if reach is None:
        return Reach(targets=frozenset(map(_plain, paths)))
    types = options.get("--types")
    return reach if types is None else _of_types(facts, reach, types)


def _parsed(arguments: list[str]) -> tuple[dict[str, str], list[str]] | None:
    """Return the options with their values, and the other words; None if fstrim does not know an option."""
    options: dict[str, str] = {}
    paths = []
    words = iter(arguments)
    for word in words:
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            following = "" if equals or name not in _WITH_VALUE else next(words, None)
            if name not in _ALONE or following is None:
                return None
            options[name] = value or following
        elif word.startswith("-"):
            following = _take_letters(word[1:], options)
            if following is None:
                return None
            if following:
                options[following] = next(words, "")
        else:
            paths.append(word)
    return options, paths


def _take_letters(letters: str, options: dict[str, str]) -> str | None:
    """Put options of one letter each into *options*.

    Return the option that has its value in the next word, "" if none has; None if fstrim does not know one.
    """
    for position, letter in enumerate(letters, 1):
        name = _LETTERS.get(letter)
        if name is None:
            return None
        options[name] = ""
        if name in _WITH_VALUE:
            options[name] = letters[position:]
            return "" if options[name] else name
    return ""


def _base(facts: Facts, options: Mapping[str, str]) -> Reach | None:
    """Return the reach of the option that says which filesystems; None without one."""
    if "--all" in options:
        return Reach(everything=True)
    if "--listed-in" in options:
        return _listed_in(facts, options["--listed-in"].split(":"))
    if "--fstab" in options:
        return Reach(fstab=True)
    return None


def _of_types(facts: Facts, reach: Reach, types: str) -> Reach:
    """Return the mount points in *reach* that have one of *types*, or none of them (`noxfs`, mount(8))."""
    named = {name.removeprefix("no") for name in types.split(",")}
    excludes = types.startswith("no")
    targets = {
        mount.target
        for mount in facts.mounts
        if (mount.fstype in named) is not excludes
    }
    return Reach(
        targets=frozenset(
            target
            for target in targets
            if _why_not_reached(facts, reach, {target}) is None
        )
    )


def _size(text: str) -> int:
    """Return bytes, as util-linux reads them (`1M`, `1MiB`, `1MB`); more than any disk has if they cannot be read."""
    match = re.fullmatch(r"(\d{1,18})(?:([KMGTP])(?:i?B)?)?", text, re.IGNORECASE)
    if match is None:
        return 1 << 62
    power = "KMGTP".index(match[2].upper()) + 1 if match[2] else 0
    return int(match[1]) << (10 * power)


def _listed_in(facts: Facts, files: list[str]) -> Reach:
    for file in files:
        if file != "/etc/fstab":
            return Reach(everything=file in _MOUNT_TABLES)
        if listed(facts):
            return Reach(fstab=True)
    return Reach()


def _is_home(target: str) -> bool:
    """True if *target* is a folder that ProtectHome= hides (systemd.exec(5)), or below one."""
    below = ("/home/", "/root/", "/run/user/")
    return f"{target}/".startswith(below)


def _plain(target: str) -> str:
    """Return a mount point as the kernel has it, without a slash at its end."""
    return target.rstrip("/") or "/"


def _not_redirected(words: list[str]) -> Iterator[str]:
    """Yield the words of a command without redirections (`>>/var/log/trim`, `2> /dev/null`)."""
    following = iter(words)
    for word in following:
        redirection = _REDIRECTION.match(word)
        if redirection is None:
            yield word
        elif redirection.end() == len(word):
            next(following, None)


def _calls(line: str) -> Iterator[list[str]]:
    """Yield the arguments of each `fstrim` in a line of shell, if they can be taken apart.

    Ubuntu 14.04's fstrim-all skips all disks but SSDs of two makers, unless it has the option not to check.
    """
    for match in _FSTRIM.finditer(line):
        arguments = match["arguments"]
        if len(arguments) > _LONGEST_CALL:
            continue
        if match["all"] and "--no-model-check" not in arguments:
            continue
        with contextlib.suppress(ValueError):
            parts = list(_not_redirected(shlex.split(arguments, comments=True)))
            if match["all"]:
                parts = ["--all"]
            yield parts
