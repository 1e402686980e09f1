"""Two definitions beside each other: the same, lacking something, different."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from reclaim.base import masked
from reclaim.definition.domain import Definition, DiskView, Element, attributes_of


def flattened(root: Element) -> Counter[str]:
    """Count the elements, each as one line of path, attributes and text, whatever the order of siblings."""
    lines: Counter[str] = Counter()
    for element in root.iter("*"):
        attributes = _written(sorted(attributes_of(element)))
        lines[f"{_path(element)} {attributes} {_text(element)!r}"] += 1
    return lines


def _path(element: Element) -> str:
    above = [str(ancestor.tag) for ancestor in element.iterancestors()]
    return "/".join([*reversed(above), str(element.tag)])


def _text(element: Element) -> str:
    return (element.text or "").strip()


def _written(attributes: Iterable[tuple[str, str]]) -> str:
    return " ".join(f"{key}={value!r}" for key, value in attributes)


def same(first: Definition, second: Definition) -> bool:
    """True if both have the same elements, whatever their white space and the order of siblings."""
    return flattened(first.root) == flattened(second.root)


def missing_from(kept: Definition, wanted: Definition) -> list[str]:
    """Return the elements of *wanted* that *kept* does not have: libvirt silently drops those that it does not know.

    Attributes that libvirt added (addresses of new controllers, defaults) are no loss.
    """
    pool = _parts(kept.root)
    lost: list[str] = []
    # libvirt sorts devices anew, so order says nothing. The most particular first, each by what is
    # nearest to it: else a plain driver takes the place of the one with discard='unmap'.
    for part in sorted(_parts(wanted.root), key=_minus_attributes):
        fitting = [number for number, other in enumerate(pool) if part.is_in(other)]
        if fitting:
            del pool[min(fitting, key=lambda number: len(pool[number].attributes))]
        else:
            lost.append(f"{part.path} {_written(part.attributes.items())}".rstrip())
    return lost


class _Part(NamedTuple):
    """One element of a definition, without its children."""

    path: str
    attributes: dict[str, str]
    text: str

    def is_in(self, other: _Part) -> bool:
        if (self.path, self.text) != (other.path, other.text):
            return False
        return self.attributes.items() <= other.attributes.items()


def _minus_attributes(part: _Part) -> int:
    return -len(part.attributes)


def _parts(root: Element) -> list[_Part]:
    parts = []
    for element in root.iter("*"):
        attributes = dict(attributes_of(element))
        parts.append(_Part(_path(element), attributes, _text(element)))
    return parts


def diff_definitions(before: Definition, after: Definition) -> str:
    """Return the difference of two definitions as people read it, without possible secrets."""
    return masked.diff_elements(before.root, after.root, before.name)


#: attributes of a disk's driver on which it depends whether space comes back, and what libvirt means by their absence
DRIVER_SETTINGS = {
    "discard": "ignore",
    "detect_zeroes": "off",
    "discard_no_unref": "off",
}


#: devices of a disk that the requirements are about
_JUDGED = ("disk", "lun")


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
    """Return the disks, cdroms and LUNs that both have, those that only *first* has, and those that only *second* has.

    The same image is the same disk, whatever its bus and target. If images differ, the target decides.
    """
    alone, rest = list(first.all_disks), list(second.all_disks)
    matched: list[tuple[DiskView, DiskView]] = []
    for fits in (_is_unmoved, _has_the_image, _has_the_target):
        for disk in tuple(alone):
            other = next((other for other in rest if fits(disk, other)), None)
            if other is not None:
                matched.append((disk, other))
                alone.remove(disk)
                rest.remove(other)
    return sorted(matched, key=lambda pair: pair[0].number), alone, rest


def _is_unmoved(disk: DiskView, other: DiskView) -> bool:
    return _has_the_image(disk, other) and _has_the_target(disk, other)


def _has_the_image(disk: DiskView, other: DiskView) -> bool:
    return disk.identity == other.identity


def _has_the_target(disk: DiskView, other: DiskView) -> bool:
    return (disk.target, disk.device) == (other.target, other.device)


def differences(live: Definition, persistent: Definition) -> list[Difference]:
    """Return each storage setting in which the running QEMU differs from the definition."""
    different: list[Difference] = []
    if live.machine != persistent.machine:
        different.append(
            Difference(
                f"machine runs as {live.machine}, is defined as {persistent.machine}"
            )
        )
    matched, attached, missing = pairs(live, persistent)
    for disk, defined in matched:
        if disk.device in _JUDGED:
            different += _disk_differences(disk, defined)
    for disk in attached:
        if disk.device in _JUDGED:
            different.append(Difference(_attached_only(disk), disk))
    for disk in missing:
        if disk.device in _JUDGED:
            problem = f"disk {disk.target} is defined but not attached"
            different.append(Difference(problem, defined=disk))
    return [*different, *_controller_differences(live, persistent)]


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
            problem = f"{name}: {setting} runs as {runs}, is defined as {wanted}"
            yield Difference(problem, live, defined, setting)


def _attached_only(disk: DiskView) -> str:
    words = f"disk {disk.target} is attached but not defined"
    discard = disk.driver.get("discard", "absent")
    if disk.device != "disk" or disk.readonly or discard == "unmap":
        return words
    return f"{words}, with discard {discard}"


def _controller_differences(
    live: Definition, persistent: Definition
) -> Iterator[Difference]:
    now, then = _models(live), _models(persistent)
    for index in dict.fromkeys([*now, *then]):
        runs, wanted = now.get(index, "absent"), then.get(index, "absent")
        if now.get(index) != then.get(index):
            yield Difference(
                f"controller scsi {index} runs as {runs}, is defined as {wanted}"
            )


def _models(definition: Definition) -> dict[str, str]:
    models = {}
    for controller in definition.scsi_controllers:
        models[controller.index] = controller.model or "without a model"
    return models


def storage_differences(live: Definition, persistent: Definition) -> list[str]:
    """Return `differences` in words."""
    return [difference.words for difference in differences(live, persistent)]
