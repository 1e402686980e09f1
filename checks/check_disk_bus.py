from fixers.disk_bus import move_to_scsi
from reclaim.base.errors import NotApplicable, NotAssessable
from reclaim.handles import scsi
from reclaim.handles.guest import Disk
from reclaim.requirement import requirement


@requirement(
    "disk-bus",
    "The disk is on the scsi bus",
    stage="definition",
    fixer=move_to_scsi,
    after=("fstab-uuid", "boot-names", "initramfs-driver", "scsi-controller"),
    reference="https://chrisirwin.ca/posts/discard-with-kvm/",
)
def check_disk_bus(disk: Disk) -> str:
    """virtio-scsi passes discards on with every machine type from 2.1 and every guest kernel from 3.4."""
    if reason := scsi.why_not_moved(disk):
        raise NotApplicable(reason)
    if scsi.may_stay(disk):
        if scsi.driver_discards(disk) is None:
            raise NotAssessable(
                "virtio-blk passes discards on if the guest's driver does (Linux 5.0): reclaim could not check that"
            )
        return f"bus='{disk.bus}' passes discards on (policy any-discarding)"
    assert disk.bus == "scsi", f"it is on the bus {disk.bus}{scsi.by_rule(disk)}"
    return "bus='scsi'"
