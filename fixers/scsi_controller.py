from reclaim.base.errors import Withheld
from reclaim.changes.change import Change
from reclaim.changes.definition_change import changed_definition
from reclaim.definition import bound, pci
from reclaim.definition.domain import Edit
from reclaim.handles import scsi
from reclaim.handles.guest import Disk, Guest


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
        home = _home(guest, edit)
        for disk in moving:
            scsi.move_within(edit, edit.disk(disk.target), home)
    if scsi.virtio_scsi(edit.definition) is None:
        _expect_use(guest)
        _home(guest, edit)
    scsi.expect_bootable(guest, edit)
    return [changed_definition(edit)]


def _home(guest: Guest, edit: Edit) -> str:
    """Return the index of a virtio-scsi controller, added if there is none. Raises Withheld if it has no place."""
    controller = scsi.virtio_scsi(edit.definition)
    if controller is not None:
        return controller.index
    if pci.why_no_place(edit.definition):
        for disk in scsi.to_move(guest):
            if _changes_places(edit, disk):
                return _home(guest, edit)
    return scsi.add_controller(edit)


def _changes_places(edit: Edit, disk: Disk) -> bool:
    """Move *disk* to a controller in the PCI slot that it leaves; False, and nothing is changed, if that cannot be."""
    if pci.address_of(edit.disk(disk.target)) is None:
        return False
    trial = edit.definition.edit()
    rename = disk.guest.policy.target == "rename"
    try:
        scsi.move(trial, trial.disk(disk.target), rename=rename)
    except Withheld:
        return False
    edit.root = trial.root
    edit.renames.update(trial.renames)
    edit.notes += [*trial.notes, f"{disk.target} moves to it by the same change"]
    return True


def _expect_use(guest: Guest) -> None:
    """Raise Withheld, for the reason of the first, if none of the disks that a controller is for may be moved."""
    reasons = []
    for disk in scsi.to_move(guest):
        edit = guest.definition.edit()
        try:
            bound.refuse_to_move(edit, edit.disk(disk.target))
        except Withheld as exc:
            reasons.append(str(exc))
        else:
            return
    raise Withheld(reasons[0])
