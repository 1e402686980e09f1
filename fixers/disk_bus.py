from reclaim import scsi
from reclaim.change import Change, changed_definition
from reclaim.errors import Withheld
from reclaim.guest import Disk


def move_to_scsi(disk: Disk) -> list[Change]:
    """Move the disk to the virtio-scsi controller, with an address written out and a free target name."""
    edit = disk.guest.definition.edit()
    controller = scsi.virtio_scsi(edit.definition)
    if controller is None:
        raise Withheld("there is no virtio-scsi controller (see scsi-controller)")
    element = edit.disk(disk.target)
    scsi.move(edit, element, controller.index, rename=disk.guest.policy.target == "rename")
    return [changed_definition(edit)]
