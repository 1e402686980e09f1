from reclaim.base.errors import Withheld
from reclaim.changes.change import Change
from reclaim.changes.definition_change import changed_definition
from reclaim.definition import bound
from reclaim.handles import scsi
from reclaim.handles.guest import Disk


def move_to_scsi(disk: Disk) -> list[Change]:
    """Move the disk to a virtio-scsi controller that has its settings, with an address and a free target name."""
    disk.guest.expect_linux()
    edit = disk.guest.definition.edit()
    element = edit.disk(disk.target)
    if scsi.virtio_scsi(edit.definition) is None:
        bound.refuse_to_move(edit, element)
        raise Withheld("there is no virtio-scsi controller (see scsi-controller)")
    scsi.move(edit, element, rename=disk.guest.policy.target == "rename")
    scsi.expect_bootable(disk.guest, edit)
    return [changed_definition(edit)]
