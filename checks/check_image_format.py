from fixers.image_format import let_the_image_shrink
from reclaim.base.errors import NotApplicable, NotAssessable
from reclaim.handles.device import granularity
from reclaim.handles.guest import Disk
from reclaim.handles.scsi import why_not_judged
from reclaim.requirement import requirement
from reclaim.storage.shrinkable import inspect, is_thick, notes, obstacles, thick_words


@requirement(
    "image-format",
    "The image can shrink in its place",
    stage="power",
    fixer=let_the_image_shrink,
    reference="https://www.qemu.org/docs/master/interop/qcow2.html",
)
def check_image_format(disk: Disk) -> str:
    """QEMU answers a discard with success whether or not the image's format and the storage below free anything."""
    if reason := why_not_judged(disk):
        raise NotApplicable(reason)
    inspected = inspect(disk)
    kept = obstacles(inspected, disk.guest.name)
    assert not kept, "; ".join(obstacle.what for obstacle in kept)
    if is_thick(inspected):
        raise NotApplicable(thick_words(inspected.image))
    if inspected.qcow2 is not None and inspected.qcow2.corrupt:
        raise NotAssessable(
            f"{inspected.image.path}: QEMU has marked it corrupt: qemu-img check"
        )
    if inspected.image.is_device and inspected.image.discard_max is None:
        raise NotAssessable(
            f"{inspected.image.path}: sysfs does not report whether it takes discards"
        )
    if inspected.unprobed:
        raise NotAssessable(inspected.unprobed)
    return "; ".join(notes(inspected, granularity(disk)))
