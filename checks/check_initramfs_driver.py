from fixers.initramfs_driver import include_virtio_scsi
from reclaim.base.errors import NotAssessable
from reclaim.handles.guest import Guest
from reclaim.inside.boot.loaders import why_not_all_of_boot
from reclaim.inside.initramfs import modules, named_images
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
    given = guest.definition.root.findtext("os/kernel")
    running = next(
        (kernel for kernel in facts.kernels if kernel.release == facts.running_kernel),
        None,
    )
    if given and not (running and running.builtin.issuperset(needed)):
        raise NotAssessable(
            f"the host gives it its kernel ({given}): reclaim does not know its drivers"
        )
    if not given and (why := why_not_all_of_boot(facts)):
        raise NotAssessable(why)
    if not facts.kernels:
        raise NotAssessable("no kernel in /boot: reclaim does not know its kernel")
    kernels = named_images(facts)
    unread = [f"{name}: {kernel.problem}" for name, kernel in kernels if kernel.problem]
    if unread:
        raise NotAssessable("; ".join(unread))
    lacking = {
        name: [module for module in needed if not kernel.has(module)]
        for name, kernel in kernels
    }
    assert not any(lacking.values()), "; ".join(
        f"{name} has no {', '.join(missing)}"
        for name, missing in lacking.items()
        if missing
    )
    return f"{', '.join(needed)} in {', '.join(lacking)}"
