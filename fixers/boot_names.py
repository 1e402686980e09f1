from __future__ import annotations

from typing import TYPE_CHECKING

from reclaim.base.errors import Withheld
from reclaim.changes.change import Change, with_the_rest
from reclaim.changes.command import CommandChange
from reclaim.changes.file_change import FileChange
from reclaim.handles.guest import Guest
from reclaim.inside import generated
from reclaim.inside.facts import Facts
from reclaim.inside.initramfs import rebuild

if TYPE_CHECKING:
    from reclaim.inside.boot.bootfile import BootFile


def boot_by_uuid(guest: Guest) -> list[Change]:
    """Let boot loader, initramfs and crypttab name devices by UUID, and grub-pc install to the disk that is there."""
    from reclaim.inside.boot import cmdline, grub, loaders  # noqa: PLC0415 (start-up)

    facts = guest.facts
    if system := generated.system(facts):
        raise Withheld(
            f"{system} makes these files from its configuration: name the devices by UUID there "
            f"({generated.booted_by(system)}), then {generated.rebuilt_by(system)}"
        )
    changes: list[Change] = []
    by_hand: list[str] = []
    stale: list[BootFile] = []
    for place in loaders.places(facts):
        is_changed = place.after is not None and place.after != place.before
        written_again = generated.why_not_edited(place.path, place.before)
        if is_changed and written_again:
            by_hand.append(written_again)
        elif place.after is not None and is_changed:
            then = _then(facts, place)
            changes.append(
                FileChange(
                    guest.name,
                    place.path,
                    place.present,
                    place.after,
                    None,
                    then,
                    [*place.devices],
                )
            )
        elif place.advice:
            by_hand.append(place.advice)
        elif place.after is None:
            stale.append(place)
        else:
            stay = (
                f"{place.path}: {name}: {cmdline.why_it_stays(facts, name)}"
                for name in place.names
            )
            by_hand.append(f"{'; '.join(stay)}; name them by hand")
    update = grub.update_command(facts)
    if stale and not any(
        isinstance(change, FileChange) and change.then == update for change in changes
    ):
        # what the menu is generated from is right: the menu is older than that
        changes.append(CommandChange(guest.name, _then(facts, stale[0]) or ""))
    changes += [
        _install_to_what_is_there(guest, question)
        for question in grub.gone_install_devices(facts)
    ]
    if cmdline.names(guest.definition.kernel_parameters):
        by_hand.append("virsh edit: name the devices in <cmdline> by PARTUUID=")
    by_hand += [
        f"{clone}: give one of them another (tune2fs -U random, xfs_admin -U generate, btrfstune -u, swaplabel -U)"
        for clone in cmdline.clones(facts)
    ]
    return with_the_rest(changes, by_hand)


def _then(facts: Facts, place: BootFile) -> str | None:
    """Return the command that has to follow. Raises Withheld if a file or program that it needs is not there."""
    if place.rebuild:
        return rebuild(facts)
    made_by_grub = (
        place.path == "/etc/default/grub"
        or place.path.startswith(("/etc/default/grub.d/", "/etc/grub.d/"))
        or place.after is None
    )
    if made_by_grub and place.then is None:
        raise Withheld(
            "none of update-grub, grub2-mkconfig, grub-mkconfig is installed in the guest"
        )
    return place.then


def _install_to_what_is_there(guest: Guest, question: str) -> CommandChange:
    from reclaim.inside.boot import grub  # noqa: PLC0415 (start-up)

    facts = guest.facts
    package = question.partition("/")[0]
    device = grub.install_device(facts, question)
    if device is None:
        where = (
            "/boot is not on one disk"
            if package == "grub-pc"
            else "nothing is mounted on /boot/efi"
        )
        raise Withheld(f"dpkg-reconfigure {package} in the guest: {where}")
    named = facts.grub_install_devices[question]
    return CommandChange(
        guest.name,
        _set(question, grub.link_to(facts, device)),
        _set(question, ", ".join(named)),
        list(named),
    )


def _set(question: str, devices: str) -> str:
    package = question.partition("/")[0]
    if not all(character.isalnum() or character in "/-_.:, +" for character in devices):
        raise Withheld(
            f"dpkg-reconfigure {package} in the guest: a device name has characters of the shell"
        )
    return f"printf '{package} {question} multiselect %s\\n' '{devices}' | debconf-set-selections"
