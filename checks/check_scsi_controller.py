from fixers.scsi_controller import provide_virtio_scsi
from reclaim.base.errors import NotApplicable
from reclaim.handles import scsi
from reclaim.handles.guest import Guest
from reclaim.requirement import requirement


@requirement(
    "scsi-controller",
    "SCSI disks are on a virtio-scsi controller",
    stage="definition",
    fixer=provide_virtio_scsi,
    after=("fstab-uuid", "boot-names", "initramfs-driver"),
    reference="https://libvirt.org/formatdomain.html#controllers",
)
def check_scsi_controller(guest: Guest) -> str:
    """A SCSI controller without a model is an lsilogic, for which many guests have no driver."""
    judged = scsi.to_move(guest)
    if not judged:
        raise NotApplicable("no disk of this guest belongs on a SCSI bus")
    definition = guest.definition
    models = set()
    wrong = []
    for controller in definition.scsi_controllers:
        if controller.is_virtio_scsi:
            models.add(controller.effective_model)
        elif any(disk.view in scsi.disks_on(definition, controller) for disk in judged):
            unnamed = f"without a model ({controller.effective_model})"
            wrong.append(
                f"controller {controller.index} is {controller.model or unnamed}"
            )
    assert not wrong, "; ".join(wrong)
    waiting = [disk for disk in judged if disk.bus != "scsi"]
    names = ", ".join(disk.target for disk in waiting)
    assert models or not waiting, (
        f"there is no virtio-scsi controller for {names}{scsi.of_disk_bus(waiting)}"
    )
    return f"model {', '.join(sorted(models))}"
