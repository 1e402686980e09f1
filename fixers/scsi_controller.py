from reclaim.base.errors import Withheld
from reclaim.changes.change import Change
from reclaim.changes.definition_change import changed_definition
from reclaim.definition import bound
from reclaim.handles import scsi
from reclaim.handles.guest import Guest


def provide_virtio_scsi(guest: Guest) -> list[Change]:
    """Change the controllers that only our disks are on; for the others add one and move our disks there."""
    guest.expect_linux()
    edit = guest.definition.edit()
    ours = {disk.target for disk in guest.disks if scsi.why_not_moved(disk) is None}
    for controller in guest.definition.scsi_controllers:
        if controller.is_virtio_scsi:
            continue
        there = scsi.devices_on(guest.definition, controller)
        moving = [
            disk
            for disk in scsi.disks_on(guest.definition, controller)
            if disk.target in ours
        ]
        if not moving:
            continue
        if len(moving) == len(there):
            scsi.make_virtio(edit, controller)
            continue
        home = scsi.home(edit)
        for disk in moving:
            scsi.move_within(edit, edit.disk(disk.target), home)
    if scsi.virtio_scsi(edit.definition) is None:
        _expect_use(guest)
        scsi.add_controller(edit)
    return [changed_definition(edit)]


def _expect_use(guest: Guest) -> None:
    """Raise Withheld, for the reason of the first, if none of the disks that a controller is for may be moved."""
    reasons = []
    for disk in guest.disks:
        if scsi.why_not_moved(disk) is not None or scsi.may_stay(disk):
            continue
        edit = guest.definition.edit()
        try:
            bound.refuse_to_move(edit, edit.disk(disk.target))
        except Withheld as exc:
            reasons.append(str(exc))
        else:
            return
    raise Withheld(reasons[0])
