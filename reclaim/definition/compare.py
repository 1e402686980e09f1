"""Two definitions beside each other: the same, lacking something, different."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from reclaim.base import masked
from reclaim.definition.domain import Definition, DiskView, Element, attributes_of


def flattened(root: Element) -> Counter[str]:
    """Every element as one line of path, attributes and text, whatever the order of siblings."""
    lines: Counter[str] = Counter()
    for element in root.iter():
        if not isinstance(element.tag, str):
            continue
        path = "/".join(
            [str(up.tag) for up in reversed(list(element.iterancestors()))]
            + [element.tag]
        )
        attributes = " ".join(
            f"{key}={value!r}" for key, value in sorted(attributes_of(element))
        )
        lines[f"{path} {attributes} {(element.text or '').strip()!r}"] += 1
    return lines


def same(first: Definition, second: Definition) -> bool:
    """Do both say the same, whatever white space and order of siblings they are written in?"""
    return flattened(first.root) == flattened(second.root)


def missing_from(kept: Definition, wanted: Definition) -> list[str]:
    """What *wanted* asked for and *kept* does not have: libvirt drops silently what it does not know.

    Attributes that libvirt added (addresses of new controllers, defaults) are no loss.
    """
    pool = _parts(kept.root)
    lost: list[str] = []
    # libvirt sorts devices anew, so order says nothing. The most particular first, each by what is
    # nearest to it: else a plain driver takes the place of the one with discard='unmap'.
    for path, attributes, text in sorted(
        _parts(wanted.root), key=lambda part: -len(part[1])
    ):
        fitting = [
            i
            for i, (p, a, t) in enumerate(pool)
            if p == path and t == text and attributes.items() <= a.items()
        ]
        if fitting:
            del pool[min(fitting, key=lambda i: len(pool[i][1]))]
        else:
            lost.append(
                " ".join(
                    [path, *(f"{key}={value!r}" for key, value in attributes.items())]
                )
            )
    return lost


def _parts(root: Element) -> list[tuple[str, dict[str, str], str]]:
    parts = []
    for element in root.iter():
        if isinstance(element.tag, str):
            path = "/".join(
                [str(up.tag) for up in reversed(list(element.iterancestors()))]
                + [element.tag]
            )
            parts.append(
                (path, dict(attributes_of(element)), (element.text or "").strip())
            )
    return parts


def diff_definitions(before: Definition, after: Definition) -> str:
    """The difference of two definitions as people read it, without what may be a secret."""
    return masked.diff_elements(before.root, after.root, before.name)


#: attributes of a disk's driver on which it depends whether space comes back, and what libvirt means by their absence
DRIVER_SETTINGS = {
    "discard": "ignore",
    "detect_zeroes": "off",
    "discard_no_unref": "off",
}


@dataclass(frozen=True)
class Difference:
    """One storage setting in which the running QEMU is not as defined.

    `live` and `defined` are the disk it is about, on the side that has it; `setting` is the attribute of its driver.
    """

    words: str
    live: DiskView | None = None
    defined: DiskView | None = None
    setting: str | None = None


def pairs(
    first: Definition, second: Definition
) -> tuple[list[tuple[DiskView, DiskView]], list[DiskView], list[DiskView]]:
    """The disks, cdroms and LUNs that both have, those that only *first* has, and those that only *second* has.

    The same image is the same disk, whatever its bus and target; where images differ the target tells.
    """
    alone, rest = list(first.all_disks), list(second.all_disks)
    matched: list[tuple[DiskView, DiskView]] = []
    for fits in (_is_unmoved, _has_the_image, _has_the_target):
        for disk in tuple(alone):
            found = next((one for one in rest if fits(disk, one)), None)
            if found is not None:
                matched.append((disk, found))
                alone.remove(disk)
                rest.remove(found)
    return sorted(matched, key=lambda pair: pair[0].number), alone, rest


def _is_unmoved(disk: DiskView, other: DiskView) -> bool:
    return _has_the_image(disk, other) and _has_the_target(disk, other)


def _has_the_image(disk: DiskView, other: DiskView) -> bool:
    return disk.identity == other.identity


def _has_the_target(disk: DiskView, other: DiskView) -> bool:
    return (disk.target, disk.device) == (other.target, other.device)


def differences(live: Definition, persistent: Definition) -> list[Difference]:
    """Each storage setting in which the running QEMU differs from the definition."""
    found: list[Difference] = []
    if live.machine != persistent.machine:
        found.append(
            Difference(
                f"machine runs as {live.machine}, is defined as {persistent.machine}"
            )
        )
    matched, attached, missing = pairs(live, persistent)
    for one, other in matched:
        if one.device in ("disk", "lun"):
            found += _disk_differences(one, other)
    found += [
        Difference(_attached_only(disk), disk)
        for disk in attached
        if disk.device in ("disk", "lun")
    ]
    found += [
        Difference(f"disk {disk.target} is defined but not attached", defined=disk)
        for disk in missing
        if disk.device in ("disk", "lun")
    ]
    return [*found, *_controller_differences(live, persistent)]


def _disk_differences(live: DiskView, defined: DiskView) -> Iterator[Difference]:
    name = f"disk {defined.target}"
    if live.identity != defined.identity:
        yield Difference(
            f"{name} runs on {live.place}, is defined on {defined.place}", live, defined
        )
    if live.bus != defined.bus:
        yield Difference(
            f"{name}: bus runs as {live.bus}, is defined as {defined.bus}",
            live,
            defined,
        )
    now, then = live.driver, defined.driver
    for setting, default in DRIVER_SETTINGS.items():
        if now.get(setting, default) != then.get(setting, default):
            runs, wanted = now.get(setting, "absent"), then.get(setting, "absent")
            words = f"{name}: {setting} runs as {runs}, is defined as {wanted}"
            yield Difference(words, live, defined, setting)


def _attached_only(disk: DiskView) -> str:
    words = f"disk {disk.target} is attached but not defined"
    if (
        disk.device == "disk"
        and not disk.readonly
        and disk.driver.get("discard") != "unmap"
    ):
        words += f", with discard {disk.driver.get('discard', 'absent')}"
    return words


def _controller_differences(
    live: Definition, persistent: Definition
) -> Iterator[Difference]:
    now = {one.index: one.model or "without a model" for one in live.scsi_controllers}
    then = {
        one.index: one.model or "without a model" for one in persistent.scsi_controllers
    }
    for index in dict.fromkeys([*now, *then]):
        if now.get(index) != then.get(index):
            yield Difference(
                f"controller scsi {index} runs as {now.get(index, 'absent')}, is defined as {then.get(index, 'absent')}"
            )


def storage_differences(live: Definition, persistent: Definition) -> list[str]:
    """`differences` in words."""
    return [one.words for one in differences(live, persistent)]
