from reclaim.change import Change, FileChange
from reclaim.errors import Withheld
from reclaim.guest import Guest

_PATH = "/etc/initramfs-tools/modules"
_MODULES = ("virtio_pci", "virtio_scsi", "sd_mod")


def include_virtio_scsi(guest: Guest) -> list[Change]:
    """Name the modules for initramfs-tools and rebuild the initramfs of every kernel."""
    if "update-initramfs" not in guest.facts.tools:
        raise Withheld("initramfs-tools is not installed in the guest")
    before = guest.facts.boot_files.get(_PATH)
    listed = {line.split()[0] for line in (before or "").splitlines() if line.split()}
    missing = [module for module in _MODULES if module not in listed]
    text = before or ""
    if text and not text.endswith("\n"):
        text += "\n"
    text += "".join(f"{module}\n" for module in missing)
    return [FileChange(guest.name, _PATH, before, text, then="update-initramfs -u -k all")]
