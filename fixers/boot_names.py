from reclaim import bootloader
from reclaim.change import Change, CommandChange, FileChange
from reclaim.errors import Withheld
from reclaim.guest import Guest

_UPDATE = "update-grub"


def boot_by_uuid(guest: Guest) -> list[Change]:
    """Let grub and the initramfs name devices by UUID, and grub-pc install to the disk that is there."""
    facts = guest.facts
    changes: list[Change] = []
    named = [name.device for name in (*bootloader.menu_names(facts), *bootloader.default_names(facts))]
    for path, text in bootloader.defaults(facts).items():
        stable = bootloader.named_stably(facts, path, text)
        if stable != text:
            changes.append(FileChange(guest.name, path, text, stable, then=_UPDATE, devices=named))
    if bootloader.menu_names(facts) and not changes:
        # the defaults are right: the menu is older than they are
        changes.append(CommandChange(guest.name, _UPDATE))
    resume = facts.boot_files.get(bootloader.RESUME, "")
    stable = bootloader.resumed_stably(facts, resume)
    if stable != resume:
        named = [name.device for name in bootloader.resume_names(facts)]
        update = "update-initramfs -u -k all"
        changes.append(FileChange(guest.name, bootloader.RESUME, resume, stable, then=update, devices=named))
    if bootloader.gone_install_devices(facts):
        changes.append(_install_to_boot_disk(guest))
    if changes and "update-grub" not in facts.tools:
        raise Withheld("update-grub is not installed in the guest")
    if not changes:
        raise Withheld("the devices named have no UUID of their own; name them by hand")
    return changes


def _install_to_boot_disk(guest: Guest) -> CommandChange:
    facts = guest.facts
    disk = bootloader.boot_disk(facts)
    if disk is None:
        raise Withheld("dpkg-reconfigure grub-pc in the guest: /boot is not on one disk")
    links = sorted(path for path, to in facts.links.items() if to == disk.path and path.startswith("/dev/disk/by-id/"))
    return CommandChange(
        guest.name,
        _set(next(iter(links), disk.path)),
        _set(", ".join(facts.grub_install_devices)),
        list(facts.grub_install_devices),
    )


def _set(devices: str) -> str:
    if not all(character.isalnum() or character in "/-_.:, +" for character in devices):
        raise Withheld("dpkg-reconfigure grub-pc in the guest: a device name has characters of the shell")
    return f"printf 'grub-pc grub-pc/install_devices multiselect %s\\n' '{devices}' | debconf-set-selections"
