from fixers.disk_discard import set_discard_unmap
from reclaim.base.errors import NotApplicable, NotAssessable
from reclaim.definition import qemuargs
from reclaim.handles.guest import Disk
from reclaim.handles.scsi import why_not_judged
from reclaim.requirement import requirement
from reclaim.storage.discard_no_unref import wants_no_unref, why_not_no_unref


@requirement(
    "disk-discard",
    "The disk passes discards on to its image",
    stage="definition",
    fixer=set_discard_unmap,
    reference="https://libvirt.org/formatdomain.html#hard-drives-floppy-disks-cdroms",
)
def check_disk_discard(disk: Disk) -> str:
    """Without `discard='unmap'` QEMU accepts the guest's discards and drops them: DISC-MAX > 0, nothing comes back."""
    if disk.is_unknown:
        notes = "; ".join(qemuargs.disks(disk.guest.definition.root))
        raise NotAssessable(
            f"libvirt knows nothing of a disk that QEMU's own arguments bring: {notes}"
        )
    if reason := why_not_judged(disk):
        raise NotApplicable(reason)
    discard = disk.driver.get("discard")
    assert discard == "unmap", (
        f"driver discard is {discard or 'absent'}: QEMU accepts discards and drops them"
    )
    if not wants_no_unref(disk):
        return "discard='unmap'"
    if lacking := why_not_no_unref(disk.guest.hypervisor):
        return f"discard='unmap'; discard_no_unref is not available: {lacking}"
    no_unref = disk.driver.get("discard_no_unref")
    assert no_unref == "on", (
        f"driver discard_no_unref is {no_unref or 'absent'}: discards fragment the image"
    )
    return "discard='unmap', discard_no_unref='on'"
