"""udev(7)'s rules: which disks a rule matches now, and whether it will on virtio-scsi.

A rule is evaluated, not searched for names. Each value that hangs on the bus is known before (from the guest) and after
(what QEMU's virtio-scsi disks have), or it is not known; every other value is the same on both.
"""

from __future__ import annotations

import enum
import fnmatch
import re
import string
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from reclaim.inside.devices import BlockDevice
from reclaim.inside.facts import Facts
from reclaim.inside.fstab import is_renamed_by_bus

_TOKEN = re.compile(
    r"(?<![A-Z_])(?P<key>[A-Z_]+)(?:\{(?P<of>[^}\"]{0,200})\})?"
    r"\s*(?P<op>==|!=|\+=|-=|:=|=)\s*[ei]?\"(?P<value>[^\"]*)\""
)
#: what a rule can say that only tunes the disk or steers the rules
_TUNES = frozenset(("ATTR", "SYSCTL", "GOTO", "LABEL", "OPTIONS"))
_RUN_TUNES = re.compile(
    r"/queue/|/sys/block/|/device/timeout|\b(?:blockdev|hdparm|sdparm)\b"
)
#: keys that are matches whichever operator they are written with
_ALWAYS_MATCHES = frozenset(("PROGRAM", "RESULT", "TEST"))
#: properties of a disk that udev makes of its bus (60-persistent-storage.rules)
_OF_THE_BUS = re.compile(
    r"(?:ID_(?:SERIAL|PATH|BUS|VENDOR|MODEL|REVISION|TYPE|WWN|SCSI|ATA)|DEVPATH|DEVNAME|DEVLINKS|MAJOR|MINOR)(?:_\w+)?\Z"
)
_ATTRIBUTES_OF_THE_BUS = re.compile(
    r"(?:device/.*|serial|wwid|vendor|model|rev|type|scsi_level|modalias|driver)\Z"
)
_LITERAL = re.compile(r"(?:x?vd|[sh]d)[a-z]+\d*\Z")
#: how many evaluations of a rule for a device are made before the rules are given up
_MAX_EVALUATIONS = 20_000
_MAX_PATTERN = 512
#: numbers that differ from host to host, twice: what fits both fits any
_HOSTS = (("0000:00:05.0", "virtio2", "2"), ("0000:03:00.0", "virtio0", "6"))


class Truth(enum.IntEnum):
    """Whether something holds."""

    NO = 0
    MAYBE = 1
    YES = 2


@dataclass(frozen=True)
class _Known:
    """What a key may be. Each of *cases* may be so, and has several values where it is one of several parents'.

    *whole*: no other value than these.
    """

    cases: tuple[frozenset[str], ...]
    whole: bool = True


_NOTHING_KNOWN = _Known((frozenset(),), whole=False)
_NONE = _Known((frozenset(),))


@dataclass(frozen=True)
class _Subject:
    """A disk or partition that rules may match."""

    name: str
    disk: str
    device: BlockDevice | None
    #: the disk's serial number: "" if it has none, None if that is not known
    serial: str | None
    #: the path of the disk's device in sysfs, "" where it is not known
    sysfs: str
    #: its names below /dev, without that
    links: frozenset[str]
    #: what happens to it
    actions: tuple[str, ...] = ("add", "change")

    @property
    def is_moved(self) -> bool:
        """Is it on another bus than virtio-scsi, as far as is known?"""
        return re.search(r"/virtio\d+/host\d+/", self.sysfs) is None

    @property
    def is_virtio(self) -> bool:
        return self.name.startswith("vd")


@dataclass(frozen=True)
class _Token:
    text: str
    key: str
    of: str
    operator: str
    value: str

    @property
    def is_match(self) -> bool:
        return self.operator in ("==", "!=") or self.key in _ALWAYS_MATCHES


@dataclass(frozen=True)
class RuleChange:
    """A rule that matches a disk on one bus and not on the other: what in it tells them apart."""

    path: str
    names: tuple[str, ...]
    #: does the disk lose something by it, and not only what tunes it?
    is_loss: bool


class TooManyRulesError(ValueError):
    """There are more rules and disks than are evaluated."""


def changes(facts: Facts, lines: Iterable[tuple[str, str]]) -> list[RuleChange]:
    """The rules that disks lose or come to on virtio-scsi. *lines*: file and rule. Raises TooManyRulesError."""
    files: dict[str, list[list[_Token]]] = {}
    for path, line in lines:
        rule = [
            _Token(one[0], one["key"], one["of"] or "", one["op"], one["value"])
            for one in _TOKEN.finditer(line)
        ]
        files.setdefault(path, []).append(rule)
    present, left = [*_present(facts)], _MAX_EVALUATIONS
    found: dict[tuple[str, int], RuleChange] = {}
    for path, rules in files.items():
        if not any(_hangs_on_the_bus(token) for rule in rules for token in rule):
            continue
        subjects = [*present, *_absent(rules, present)]
        subjects += [
            replace(one, actions=(action,))
            for action in _other_actions(rules)
            for one in subjects
        ]
        left -= len(subjects) * len(rules)
        if left < 0:
            raise TooManyRulesError
        for subject in subjects:
            for number, names, is_lost in _changed(rules, subject):
                tunes = _only_tunes(rules[number])
                if is_lost or not tunes:
                    one = RuleChange(path, names, is_lost and not tunes)
                    found[path, number] = (
                        one if is_lost else found.get((path, number), one)
                    )
    return [found[at] for at in sorted(found)]


#: what else happens to a device (sd-device.h) than that it comes, or is asked about
_OTHER_ACTIONS = ("remove", "move", "online", "offline", "bind", "unbind")


def _other_actions(rules: list[list[_Token]]) -> list[str]:
    """Those for which a rule does something: most mention one only to jump past all others."""
    found = {
        action
        for rule in rules
        for token in rule
        if token.key == "ACTION"
        and token.operator == "=="
        and all(one.key != "GOTO" for one in rule)
        for action in _OTHER_ACTIONS
        if len(token.value) <= _MAX_PATTERN and _pattern(token.value)(action)
    }
    return sorted(found)


def _present(facts: Facts) -> Iterator[_Subject]:
    links: dict[str, set[str]] = {}
    for link, path in facts.links.items():
        links.setdefault(path, set()).add(link.removeprefix("/dev/"))
    # lsblk gives serial numbers where udev or sysfs has them: where it gives any, a disk without has none
    without = "" if any(root.serial for root in facts.block_devices) else None
    for root in facts.block_devices:
        serial = root.serial or without
        for one in root.walk():
            if one.type in ("disk", "part") and is_renamed_by_bus(one.path):
                named = frozenset(links.get(one.path, ()))
                yield _Subject(
                    one.name,
                    root.name,
                    one,
                    serial,
                    facts.sysfs.get(root.name, ""),
                    named,
                )


def _absent(rules: list[list[_Token]], subjects: list[_Subject]) -> Iterator[_Subject]:
    """Disks that rules name by the kernel's name, and that are not there now."""
    there = {subject.name for subject in subjects}
    values = (
        token.value
        for rule in rules
        for token in rule
        if token.key == "KERNEL" and token.operator == "=="
    )
    for name in dict.fromkeys(name for value in values for name in value.split("|")):
        if name not in there and _LITERAL.match(name):
            yield _Subject(
                name, name.rstrip(string.digits), None, None, "", frozenset()
            )


def _changed(
    rules: list[list[_Token]], subject: _Subject
) -> Iterator[tuple[int, tuple[str, ...], bool]]:
    """The rules of one file that *subject* loses or comes to: number, what tells the buses apart, is it lost?"""
    now, then = (_applied(rules, subject, after=after) for after in (False, True))
    for number, rule in enumerate(rules):
        given = [
            token.text
            for token in rule
            if not token.is_match and token.key not in ("GOTO", "LABEL")
        ]
        is_lost = now[number] is not Truth.NO and then[number] is not Truth.YES
        comes = (
            now[number] is Truth.NO
            and then[number] is Truth.YES
            and subject.device is not None
        )
        if given and (is_lost or comes):
            names = [
                token.text
                for token in rule
                if token.is_match and _tells_apart(token, subject, now=is_lost)
            ]
            yield number, tuple(names or given), is_lost


def _tells_apart(token: _Token, subject: _Subject, *, now: bool) -> bool:
    """May *token* match on one bus and not on the other: now and not then, or the other way round?"""
    if not _hangs_on_the_bus(token):
        return False
    here, there = (_match(token, subject, after=after) for after in (not now, now))
    return here is not Truth.NO and there is not Truth.YES


def _applied(
    rules: list[list[_Token]], subject: _Subject, *, after: bool
) -> list[Truth]:
    """Which rules apply to *subject*, as far as is known: those that GOTO passes over do not."""
    alive, found = Truth.YES, []
    #: by label: how sure it is that the rules before were come to, or that they jump there
    waiting: dict[str, Truth] = {}
    for rule in rules:
        for token in rule:
            if token.key == "LABEL":
                alive = max(alive, waiting.pop(token.value, Truth.NO))
        matches = [
            _match(token, subject, after=after) for token in rule if token.is_match
        ]
        applies = min(alive, *matches) if matches else alive
        found.append(applies)
        for token in rule:
            if token.key == "GOTO" and applies is not Truth.NO:
                waiting[token.value] = max(waiting.get(token.value, Truth.NO), alive)
                alive = (
                    Truth.NO
                    if applies is alive and applies is Truth.YES
                    else Truth.MAYBE
                )
    return found


def _match(token: _Token, subject: _Subject, *, after: bool) -> Truth:
    known = _values(token, subject, after=after)
    if known is None:
        return Truth.YES  # the same on both: the disk that is meant is there
    said = {
        _fits(token.value, case, whole=known.whole, is_property=token.key == "ENV")
        for case in known.cases
    }
    truth = next(iter(said)) if len(said) == 1 else Truth.MAYBE
    return Truth(Truth.YES - truth) if token.operator == "!=" else truth


def _fits(
    pattern: str, values: frozenset[str], *, whole: bool, is_property: bool
) -> Truth:
    if len(pattern) > _MAX_PATTERN:
        return Truth.MAYBE
    matches = _pattern(pattern)
    if any(
        matches(value) for value in values or ({""} if is_property and whole else ())
    ):
        return Truth.YES
    return Truth.NO if whole else Truth.MAYBE


@lru_cache(maxsize=1024)
def _pattern(pattern: str) -> Callable[[str], object]:
    """A test of fnmatch(3)'s patterns, parted by bars."""
    parts = (fnmatch.translate(one.replace("[^", "[!")) for one in pattern.split("|"))
    return re.compile("|".join(parts)).match


def _hangs_on_the_bus(token: _Token) -> bool:
    if token.key in (
        "KERNEL",
        "KERNELS",
        "DEVPATH",
        "SUBSYSTEMS",
        "DRIVERS",
        "DRIVER",
        "PROGRAM",
        "RESULT",
    ):
        return True
    if token.key == "TEST":
        return re.search(r"(?:x?vd|[sh]d)[a-z]|serial|device/", token.value) is not None
    if token.key in ("SYMLINK", "NAME"):
        return token.is_match
    if token.key == "ENV":
        return _OF_THE_BUS.match(token.of) is not None
    return (
        token.key in ("ATTR", "ATTRS")
        and _ATTRIBUTES_OF_THE_BUS.match(token.of) is not None
    )


def _values(token: _Token, subject: _Subject, *, after: bool) -> _Known | None:
    """What *token* is compared with, now or on virtio-scsi; None where that is one and the same, and not known."""
    if token.key in ("KERNEL", "KERNELS", "NAME", "DEVPATH") or token.of in (
        "DEVNAME",
        "DEVPATH",
    ):
        return _names(token, subject, after=after)
    if not _hangs_on_the_bus(token):
        return _same(token, subject)
    if not subject.is_moved:
        return None
    return _afterwards(token, subject) if after else _before(token, subject)


def _same(token: _Token, subject: _Subject) -> _Known | None:
    """What is the same on both, where it is known."""
    device = subject.device
    if token.key == "SUBSYSTEM":
        return _one("block")
    if token.key == "ACTION":
        return _one(*subject.actions)
    kind = "partition" if subject.name != subject.disk else "disk"
    if token.of == "DEVTYPE":
        return _one(kind)
    if token.key == "ATTR" and token.of == "partition":
        return (
            _one(subject.name.removeprefix(subject.disk))
            if kind == "partition"
            else _NONE
        )
    if device is None or token.key != "ENV":
        return None
    values = {
        "ID_FS_UUID": device.uuid,
        "ID_FS_TYPE": device.fstype,
        "ID_PART_ENTRY_UUID": device.partuuid,
    }
    value = values.get(token.of)
    return _one(value) if value else None


def _one(*values: str) -> _Known:
    return _Known((frozenset(values),))


def _names(token: _Token, subject: _Subject, *, after: bool) -> _Known:
    """The kernel's names of the device and of what it lies on, and the paths to it."""
    number = subject.name.removeprefix(subject.disk)
    disks = (
        [f"sd{letter}" for letter in string.ascii_lowercase]
        if after
        else [subject.disk]
    )
    if token.key == "DEVPATH" or token.of == "DEVPATH":
        return _paths(subject, disks, number, after=after)
    if token.key != "KERNELS":
        return _Known(
            tuple(
                frozenset((f"{disk}{number}", f"/dev/{disk}{number}")) for disk in disks
            )
        )
    if not after:
        return _Known(
            (frozenset((subject.name, subject.disk, *subject.sysfs.split("/"))),),
            whole=bool(subject.sysfs),
        )
    if not subject.is_moved:
        parents = [frozenset(subject.sysfs.split("/"))]
    else:
        parents = [
            frozenset((slot, bus, f"host{n}", f"target{n}:0:0", f"{n}:0:0:0"))
            for slot, bus, n in _HOSTS
        ]
    return _Known(
        tuple(one | {disk, f"{disk}{number}"} for disk in disks for one in parents),
        whole=False,
    )


def _paths(subject: _Subject, disks: list[str], number: str, *, after: bool) -> _Known:
    if after and subject.is_moved:
        ways = [
            f"/devices/pci0000:00/{slot}/{bus}/host{n}/target{n}:0:0/{n}:0:0:0"
            for slot, bus, n in _HOSTS
        ]
    elif subject.sysfs:
        ways = [subject.sysfs.removeprefix("/sys")]
    else:
        return _NOTHING_KNOWN
    ends = (f"{disk}/{disk}{number}" if number else disk for disk in disks)
    return _Known(
        tuple(frozenset((f"{way}/block/{end}",)) for end in ends for way in ways)
    )


def _before(token: _Token, subject: _Subject) -> _Known:
    """What hangs on the bus, as it is."""
    named = token.of if token.key in ("ENV", "ATTR", "ATTRS") else token.key
    if named == "SYMLINK":
        return _Known((subject.links,))
    if not subject.is_virtio:
        return {
            "SUBSYSTEMS": _one("block", "scsi", "pci"),
            "ID_TYPE": _one("disk"),
        }.get(named, _NOTHING_KNOWN)
    known = {
        "SUBSYSTEMS": _one("block", "virtio", "pci"),
        "DRIVERS": _one("virtio_blk", "virtio-pci"),
        "vendor": _one("0x1af4"),
        "model": _NONE,
        "rev": _NONE,
        "ID_BUS": _NONE,
        "ID_TYPE": _NONE,
        "ID_VENDOR": _NONE,
        "ID_MODEL": _NONE,
        "ID_WWN": _NONE,
    }
    if named in ("serial", "ID_SERIAL") and subject.serial is not None:
        return _one(subject.serial) if subject.serial else _NONE
    return known.get(named, _NOTHING_KNOWN)


def _afterwards(token: _Token, subject: _Subject) -> _Known:
    """What hangs on the bus, as QEMU's virtio-scsi disks have it (hw/scsi/scsi-disk.c, scsi_id)."""
    named = token.of if token.key in ("ENV", "ATTR", "ATTRS") else token.key
    serials = (
        (subject.serial,)
        if subject.serial
        else ("drive-scsi0-0-0-0", "drive-scsi0-0-0-1")
    )
    known = {
        "SUBSYSTEMS": _one("block", "scsi", "virtio", "pci"),
        "DRIVERS": _one("sd", "virtio_scsi", "virtio-pci"),
        "vendor": _one("QEMU", "QEMU    ", "0x1af4"),
        "model": _one("QEMU HARDDISK", "QEMU HARDDISK   "),
        "serial": _NONE,
        "ID_BUS": _one("scsi"),
        "ID_TYPE": _one("disk"),
        "ID_VENDOR": _one("QEMU"),
        "ID_MODEL": _one("QEMU_HARDDISK"),
        "ID_SERIAL": _Known(
            tuple(
                frozenset((f"{maker}_{one}",)) for maker in _MAKERS for one in serials
            )
        ),
        "ID_SERIAL_SHORT": _Known(tuple(frozenset((one,)) for one in serials)),
        "ID_PATH": _Known(
            tuple(
                frozenset((f"{bus}-{slot}-scsi-0:0:0:0",))
                for bus in ("pci", "virtio-pci")
                for slot, _, _ in _HOSTS
            )
        ),
        "SYMLINK": _Known(
            (
                frozenset(
                    one for one in subject.links if not is_renamed_by_bus(f"/dev/{one}")
                ),
            ),
            whole=False,
        ),
    }
    return known.get(named, _NOTHING_KNOWN)


_MAKERS = ("0QEMU_QEMU_HARDDISK", "SQEMU_QEMU_HARDDISK")


def _only_tunes(rule: list[_Token]) -> bool:
    """Does what the rule gives change nothing but how fast the disk is?"""
    given = [token for token in rule if not token.is_match]
    return all(
        (token.key in _TUNES and not re.search(r"last_rule|ignore_device", token.value))
        or (token.key == "RUN" and _RUN_TUNES.search(token.value))
        for token in given
    )
