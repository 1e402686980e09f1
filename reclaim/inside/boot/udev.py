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
#: keys of a rule that only tune the disk or steer the rules
_TUNES = frozenset(("ATTR", "SYSCTL", "GOTO", "LABEL", "OPTIONS"))
#: options that end other rules, or the device
_ENDS_OTHERS = re.compile(r"last_rule|ignore_device")
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
#: keys that are compared with names and paths of the kernel's
_KEYS_OF_NAMES = ("KERNEL", "KERNELS", "NAME", "DEVPATH")
_KEYS_OF_THE_BUS = frozenset(
    (
        "KERNEL",
        "KERNELS",
        "DEVPATH",
        "SUBSYSTEMS",
        "DRIVERS",
        "DRIVER",
        "PROGRAM",
        "RESULT",
    )
)
_LITERAL = re.compile(r"(?:x?vd|[sh]d)[a-z]+\d*\Z")
#: how many evaluations of a rule for a device are made before the rules are given up
_MAX_EVALUATIONS = 20_000
_MAX_PATTERN = 512
#: the names that a disk may get on virtio-scsi
_SCSI_DISKS = [f"sd{letter}" for letter in string.ascii_lowercase]
#: numbers that differ from host to host, twice: a pattern that fits both fits any
_HOSTS = (("0000:00:05.0", "virtio2", "2"), ("0000:03:00.0", "virtio0", "6"))


class Truth(enum.IntEnum):
    """The truth of a statement, as far as it is known."""

    NO = 0
    MAYBE = 1
    YES = 2


@dataclass(frozen=True)
class _Known:
    """The possible values of a key. Each of *cases* may be so, and has several values if it is one of several parents'.

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
    #: the path of the disk's device in sysfs, "" if it is not known
    sysfs: str
    #: its names below /dev, without that
    links: frozenset[str]
    #: the events that happen to it
    actions: tuple[str, ...] = ("add", "change")

    @property
    def is_moved(self) -> bool:
        """True if it is on another bus than virtio-scsi, as far as is known."""
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

    @property
    def name(self) -> str:
        """The name of the property or attribute that it is about, else its key."""
        if self.key in ("ENV", "ATTR", "ATTRS"):
            return self.of
        return self.key


@dataclass(frozen=True)
class RuleChange:
    """A rule that matches a disk on one bus and not on the other, with the parts that tell the buses apart."""

    path: str
    names: tuple[str, ...]
    #: true if the disk loses something by it that does not only tune it
    is_loss: bool


class TooManyRulesError(ValueError):
    """There are more rules and disks than are evaluated."""


def changes(facts: Facts, lines: Iterable[tuple[str, str]]) -> list[RuleChange]:
    """Return the rules that disks lose or come to on virtio-scsi. *lines*: file and rule. Raises TooManyRulesError."""
    files = _parsed(lines)
    present, left = [*_present(facts)], _MAX_EVALUATIONS
    changed: dict[tuple[str, int], RuleChange] = {}
    for path, rules in files.items():
        if not any(map(_mentions_the_bus, rules)):
            continue
        subjects = _subjects(rules, present)
        left -= len(subjects) * len(rules)
        if left < 0:
            raise TooManyRulesError
        for subject in subjects:
            for number, names, is_lost in _changed(rules, subject):
                tunes = _only_tunes(rules[number])
                if tunes and not is_lost:
                    continue
                change = RuleChange(
                    path=path,
                    names=names,
                    is_loss=is_lost and not tunes,
                )
                if is_lost:
                    changed[path, number] = change
                else:
                    changed.setdefault((path, number), change)
    return [changed[place] for place in sorted(changed)]


def _parsed(lines: Iterable[tuple[str, str]]) -> dict[str, list[list[_Token]]]:
    """Return the rules by their files."""
    files: dict[str, list[list[_Token]]] = {}
    for path, line in lines:
        rule = [
            _Token(
                text=match[0],
                key=match["key"],
                of=match["of"] or "",
                operator=match["op"],
                value=match["value"],
            )
            for match in _TOKEN.finditer(line)
        ]
        files.setdefault(path, []).append(rule)
    return files


def _mentions_the_bus(rule: list[_Token]) -> bool:
    return any(map(_hangs_on_the_bus, rule))


def _subjects(rules: list[list[_Token]], present: list[_Subject]) -> list[_Subject]:
    """Return the subjects of one file, first as they are, then for each other action that it mentions."""
    subjects = [*present, *_absent(rules, present)]
    for_actions = []
    for action in _other_actions(rules):
        for_actions += [replace(subject, actions=(action,)) for subject in subjects]
    return subjects + for_actions


#: other events of a device (sd-device.h) than that it comes, or is asked about
_OTHER_ACTIONS = ("remove", "move", "online", "offline", "bind", "unbind")


def _other_actions(rules: list[list[_Token]]) -> list[str]:
    """Return those for which a rule does something: most mention an action only to jump past all others."""
    actions: set[str] = set()
    for rule in rules:
        if any(token.key == "GOTO" for token in rule):
            continue
        for token in rule:
            if token.key != "ACTION":
                continue
            if token.operator != "==":
                continue
            if len(token.value) <= _MAX_PATTERN:
                matches = _pattern(token.value)
                actions.update(filter(matches, _OTHER_ACTIONS))
    return sorted(actions)


def _present(facts: Facts) -> Iterator[_Subject]:
    links: dict[str, set[str]] = {}
    for link, path in facts.links.items():
        links.setdefault(path, set()).add(link.removeprefix("/dev/"))
    # lsblk gives serial numbers that udev or sysfs has: if it gives any, a disk without has none
    without = None
    if any(disk.serial for disk in facts.block_devices):
        without = ""
    for disk in facts.block_devices:
        for device in disk.walk():
            if device.type not in ("disk", "part"):
                continue
            if not is_renamed_by_bus(device.path):
                continue
            yield _Subject(
                name=device.name,
                disk=disk.name,
                device=device,
                serial=disk.serial or without,
                sysfs=facts.sysfs.get(disk.name, ""),
                links=frozenset(links.get(device.path, ())),
            )


def _absent(rules: list[list[_Token]], subjects: list[_Subject]) -> Iterator[_Subject]:
    """Yield the disks that rules name by the kernel's name, and that are not there now."""
    names: dict[str, None] = {}
    for rule in rules:
        for token in rule:
            if token.key == "KERNEL" and token.operator == "==":
                names.update(dict.fromkeys(token.value.split("|")))
    there = {subject.name for subject in subjects}
    for name in names:
        if name in there:
            continue
        if not _LITERAL.match(name):
            continue
        yield _Subject(
            name=name,
            disk=name.rstrip(string.digits),
            device=None,
            serial=None,
            sysfs="",
            links=frozenset(),
        )


def _changed(
    rules: list[list[_Token]], subject: _Subject
) -> Iterator[tuple[int, tuple[str, ...], bool]]:
    """Yield the rules of one file that *subject* loses or comes to.

    Each is its number, the parts that tell the buses apart, and whether it is lost.
    """
    now = _applied(rules, subject, after=False)
    then = _applied(rules, subject, after=True)
    for number, rule in enumerate(rules):
        given = [token.text for token in rule if _gives(token)]
        if not given:
            continue
        is_lost = _may_turn_off(now[number], then[number])
        is_new = now[number] is Truth.NO and then[number] is Truth.YES
        comes = is_new and subject.device is not None
        if not is_lost and not comes:
            continue
        names = []
        for token in rule:
            if token.is_match and _tells_apart(token, subject, now=is_lost):
                names.append(token.text)
        yield number, tuple(names or given), is_lost


def _may_turn_off(now: Truth, then: Truth) -> bool:
    """True if a statement may hold now and not then."""
    return now is not Truth.NO and then is not Truth.YES


def _gives(token: _Token) -> bool:
    return not token.is_match and token.key not in ("GOTO", "LABEL")


def _tells_apart(token: _Token, subject: _Subject, *, now: bool) -> bool:
    """True if *token* may match on one bus and not on the other: now and not then, or the other way round."""
    if not _hangs_on_the_bus(token):
        return False
    here = _match(token, subject, after=not now)
    there = _match(token, subject, after=now)
    return _may_turn_off(here, there)


def _applied(
    rules: list[list[_Token]], subject: _Subject, *, after: bool
) -> list[Truth]:
    """Return, rule by rule, whether it applies to *subject*, as far as is known: GOTO passes some over."""
    alive, applied = Truth.YES, []
    #: by label: how sure it is that the rules before were come to, or that they jump there
    waiting: dict[str, Truth] = {}
    for rule in rules:
        for token in rule:
            if token.key == "LABEL":
                alive = max(alive, waiting.pop(token.value, Truth.NO))
        matches = (
            _match(token, subject, after=after) for token in rule if token.is_match
        )
        applies = min([alive, *matches])
        applied.append(applies)
        if applies is Truth.NO:
            continue
        for token in rule:
            if token.key == "GOTO":
                before = waiting.get(token.value, Truth.NO)
                waiting[token.value] = max(before, alive)
                is_sure = applies is Truth.YES and alive is Truth.YES
                alive = Truth.MAYBE
                if is_sure:
                    alive = Truth.NO
    return applied


def _match(token: _Token, subject: _Subject, *, after: bool) -> Truth:
    known = _values(token, subject, after=after)
    if known is None:
        return Truth.YES  # the same on both: the disk that is meant is there
    is_property = token.key == "ENV"
    truths = {
        _fits(token.value, case, whole=known.whole, is_property=is_property)
        for case in known.cases
    }
    truth = Truth.MAYBE
    if len(truths) == 1:
        truth = truths.pop()
    if token.operator == "!=":
        return Truth(Truth.YES - truth)
    return truth


def _fits(
    pattern: str, values: frozenset[str], *, whole: bool, is_property: bool
) -> Truth:
    if len(pattern) > _MAX_PATTERN:
        return Truth.MAYBE
    matches = _pattern(pattern)
    if any(map(matches, values)):
        return Truth.YES
    if not whole:
        return Truth.MAYBE
    if not values and is_property:
        # a property that the device does not have is empty
        if matches(""):
            return Truth.YES
        return Truth.NO
    return Truth.NO


@lru_cache(maxsize=1024)
def _pattern(pattern: str) -> Callable[[str], object]:
    """Return a test of fnmatch(3)'s patterns, parted by bars."""
    parts = (part.replace("[^", "[!") for part in pattern.split("|"))
    return re.compile("|".join(map(fnmatch.translate, parts))).match


def _hangs_on_the_bus(token: _Token) -> bool:
    if token.key in _KEYS_OF_THE_BUS:
        return True
    if token.key == "TEST":
        return re.search(r"(?:x?vd|[sh]d)[a-z]|serial|device/", token.value) is not None
    if token.key in ("SYMLINK", "NAME"):
        return token.is_match
    if token.key == "ENV":
        return _OF_THE_BUS.match(token.of) is not None
    if token.key in ("ATTR", "ATTRS"):
        return _ATTRIBUTES_OF_THE_BUS.match(token.of) is not None
    return False


def _values(token: _Token, subject: _Subject, *, after: bool) -> _Known | None:
    """Return the values that *token* is compared with, now or on virtio-scsi.

    None stands for a value that is not known and is the same on both.
    """
    if token.key in _KEYS_OF_NAMES or token.of in ("DEVNAME", "DEVPATH"):
        return _names(token, subject, after=after)
    if not _hangs_on_the_bus(token):
        return _same(token, subject)
    if not subject.is_moved:
        return None
    if after:
        return _afterwards(token, subject)
    return _before(token, subject)


def _same(token: _Token, subject: _Subject) -> _Known | None:
    """Return the value that is the same on both, if it is known."""
    number = subject.name.removeprefix(subject.disk)
    is_partition = subject.name != subject.disk
    if token.key == "SUBSYSTEM":
        return _one("block")
    if token.key == "ACTION":
        return _one(*subject.actions)
    if token.of == "DEVTYPE":
        if is_partition:
            return _one("partition")
        return _one("disk")
    if token.key == "ATTR" and token.of == "partition":
        if is_partition:
            return _one(number)
        return _NONE
    device = subject.device
    if device is None:
        return None
    if token.key != "ENV":
        return None
    values = {
        "ID_FS_UUID": device.uuid,
        "ID_FS_TYPE": device.fstype,
        "ID_PART_ENTRY_UUID": device.partuuid,
    }
    value = values.get(token.of)
    if value:
        return _one(value)
    return None


def _one(*values: str) -> _Known:
    """Return one case, which has all of *values*."""
    return _Known((frozenset(values),))


def _either(values: Iterable[str]) -> _Known:
    """Return a case for each of *values*."""
    return _Known(tuple(frozenset((value,)) for value in values))


def _names(token: _Token, subject: _Subject, *, after: bool) -> _Known:
    """Return the kernel's names of the device and of the disk it lies on, and the paths to it."""
    number = subject.name.removeprefix(subject.disk)
    disks = _SCSI_DISKS if after else [subject.disk]
    if "DEVPATH" in (token.key, token.of):
        return _paths(subject, disks, number, after=after)
    if token.key == "KERNELS":
        return _parents_names(subject, disks, number, after=after)
    cases = []
    for disk in disks:
        name = f"{disk}{number}"
        cases.append(frozenset((name, f"/dev/{name}")))
    return _Known(tuple(cases))


def _parents_names(
    subject: _Subject, disks: list[str], number: str, *, after: bool
) -> _Known:
    """Return the kernel's names of the device and of everything above it."""
    folders = subject.sysfs.split("/")
    if not after:
        now = frozenset((subject.name, subject.disk, *folders))
        return _Known((now,), whole=bool(subject.sysfs))
    parents = [frozenset(folders)]
    if subject.is_moved:
        parents = [
            frozenset((slot, bus, f"host{n}", f"target{n}:0:0", f"{n}:0:0:0"))
            for slot, bus, n in _HOSTS
        ]
    cases = []
    for disk in disks:
        own = {disk, f"{disk}{number}"}
        cases += [above | own for above in parents]
    return _Known(tuple(cases), whole=False)


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
    paths = []
    for disk in disks:
        end = disk
        if number:
            end = f"{disk}/{disk}{number}"
        paths += [f"{way}/block/{end}" for way in ways]
    return _either(paths)


def _before(token: _Token, subject: _Subject) -> _Known:
    """Return the values of *token* that hang on the bus, as they are."""
    name = token.name
    if name == "SYMLINK":
        return _Known((subject.links,))
    if not subject.is_virtio:
        return _ON_SCSI_OR_IDE.get(name, _NOTHING_KNOWN)
    if name in ("serial", "ID_SERIAL"):
        return _serial_now(subject.serial)
    return _ON_VIRTIO_BLK.get(name, _NOTHING_KNOWN)


def _serial_now(serial: str | None) -> _Known:
    if serial is None:
        return _NOTHING_KNOWN
    if not serial:
        return _NONE
    return _one(serial)


def _afterwards(token: _Token, subject: _Subject) -> _Known:
    """Return the values of *token* that QEMU's virtio-scsi disks have (hw/scsi/scsi-disk.c, scsi_id)."""
    serials = ["drive-scsi0-0-0-0", "drive-scsi0-0-0-1"]
    if subject.serial:
        serials = [subject.serial]
    if token.name == "ID_SERIAL_SHORT":
        return _either(serials)
    if token.name == "ID_SERIAL":
        return _either(f"{maker}_{serial}" for maker in _MAKERS for serial in serials)
    if token.name == "SYMLINK":
        kept = [link for link in subject.links if not is_renamed_by_bus(f"/dev/{link}")]
        return _Known((frozenset(kept),), whole=False)
    return _ON_VIRTIO_SCSI.get(token.name, _NOTHING_KNOWN)


_MAKERS = ("0QEMU_QEMU_HARDDISK", "SQEMU_QEMU_HARDDISK")
_ON_SCSI_OR_IDE = {
    "SUBSYSTEMS": _one("block", "scsi", "pci"),
    "ID_TYPE": _one("disk"),
}
_ON_VIRTIO_BLK = {
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
_ON_VIRTIO_SCSI = {
    "SUBSYSTEMS": _one("block", "scsi", "virtio", "pci"),
    "DRIVERS": _one("sd", "virtio_scsi", "virtio-pci"),
    "vendor": _one("QEMU", "QEMU    ", "0x1af4"),
    "model": _one("QEMU HARDDISK", "QEMU HARDDISK   "),
    "serial": _NONE,
    "ID_BUS": _one("scsi"),
    "ID_TYPE": _one("disk"),
    "ID_VENDOR": _one("QEMU"),
    "ID_MODEL": _one("QEMU_HARDDISK"),
    "ID_PATH": _either(
        f"{bus}-{slot}-scsi-0:0:0:0"
        for bus in ("pci", "virtio-pci")
        for slot, _, _ in _HOSTS
    ),
}


def _only_tunes(rule: list[_Token]) -> bool:
    """True if the rule changes nothing but the speed of the disk."""
    return all(token.is_match or _tunes(token) for token in rule)


def _tunes(token: _Token) -> bool:
    if token.key == "RUN":
        return _RUN_TUNES.search(token.value) is not None
    return token.key in _TUNES and not _ENDS_OTHERS.search(token.value)
