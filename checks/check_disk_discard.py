from fixers.disk_discard import set_discard_unmap
from reclaim.errors import NotApplicable
from reclaim.guest import Disk
from reclaim.requirement import requirement
from reclaim.scsi import not_a_guest_disk


@requirement(
    "disk-discard",
    "The disk passes discards on to its image",
    stage="definition",
    fixer=set_discard_unmap,
    reference="https://libvirt.org/formatdomain.html#hard-drives-floppy-disks-cdroms",
)
def check_disk_discard(disk: Disk) -> str:
    """Without `discard='unmap'` QEMU accepts the guest's discards and drops them: DISC-MAX > 0, nothing comes back."""
    if reason := not_a_guest_disk(disk):
        raise NotApplicable(reason)
    discard = disk.driver.get("discard")
    assert discard == "unmap", f"driver discard is {discard or 'absent'}: QEMU accepts discards and drops them"
    return "discard='unmap'"
