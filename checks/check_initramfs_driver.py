from fixers.initramfs_driver import include_virtio_scsi
from reclaim.base.errors import NotAssessable
from reclaim.handles.guest import Guest
from reclaim.inside.initramfs import (
    kept_out,
    lacking,
    modules,
    named_images,
    why_not_known,
)
from reclaim.requirement import requirement


@requirement(
    "initramfs-driver",
    "Every installed kernel can boot from virtio-scsi",
    stage="names",
    fixer=include_virtio_scsi,
    after=("guest-access",),
    reference="https://chrisirwin.ca/posts/discard-with-kvm/",
)
def check_initramfs_driver(guest: Guest) -> str:
    """Without `virtio_scsi` in the kernel or its initramfs the guest finds no root on the scsi bus."""
    facts, needed = guest.facts, modules(guest.definition)
    if reason := why_not_known(guest.definition, facts):
        raise NotAssessable(reason)
    missing = lacking(facts, needed) + kept_out(facts, needed)
    assert not missing, "; ".join(missing)
    kernels = ", ".join(name for name, _ in named_images(facts))
    return f"{', '.join(needed)} in {kernels}"
