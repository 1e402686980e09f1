from fixers.boot_names import boot_by_uuid
from reclaim import bootloader
from reclaim.errors import NotAssessable
from reclaim.guest import Guest
from reclaim.requirement import requirement


@requirement(
    "boot-names",
    "The boot loader names no device that a change of bus renames",
    stage="names",
    fixer=boot_by_uuid,
    after=("guest-access",),
    reference="https://chrisirwin.ca/posts/discard-with-kvm/",
)
def check_boot_names(guest: Guest) -> str:
    """`root=/dev/vda1` finds no root once the disk is called sda, and grub-pc installs to a disk that is gone."""
    facts = guest.facts
    if not facts.is_debian_family:
        raise NotAssessable(f"{facts.os_name}: its boot configuration is not known to reclaim")
    if bootloader.GRUB_CFG not in facts.boot_files:
        raise NotAssessable(f"no {bootloader.GRUB_CFG}: what boots this guest is not known")
    found = [str(name) for name in (*bootloader.menu_names(facts), *bootloader.default_names(facts))]
    found += [str(name) for name in bootloader.resume_names(facts)]
    found += [f"grub-pc/install_devices: {name} is not there" for name in bootloader.gone_install_devices(facts)]
    assert not found, "; ".join(found)
    return "kernel lines, resume and grub-pc/install_devices name nothing by its bus that a change would lose"
