from reclaim import scsi
from reclaim.change import Change, changed_definition
from reclaim.guest import Guest


def provide_virtio_scsi(guest: Guest) -> list[Change]:
    """Change the controllers that only our disks are on; for the others add one and move our disks there."""
    guest.expect_linux()
    edit = guest.definition.edit()
    ours = {disk.target for disk in guest.disks if scsi.not_moved(disk) is None}
    for controller in guest.definition.scsi_controllers:
        if controller.is_virtio_scsi:
            continue
        there = scsi.devices_on(guest.definition, controller)
        moving = [disk for disk in scsi.disks_on(guest.definition, controller) if disk.target in ours]
        if not moving:
            continue
        if len(moving) == len(there):
            scsi.make_virtio(edit, controller)
            continue
        home = scsi.home(edit)
        for disk in moving:
            scsi.set_address(edit.disk(disk.target), scsi.free_address(edit, home))
    if scsi.virtio_scsi(edit.definition) is None:
        scsi.add_controller(edit)
    return [changed_definition(edit)]
