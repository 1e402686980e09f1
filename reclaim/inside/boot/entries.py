"""Boot entries in files of their own: the Boot Loader Specification, unified kernel images, extlinux.

These hold whole kernel command lines, and so do the files that the next kernel's entry is made from. Both
are edited, which is what grubby, kernel-install and update-extlinux would come to.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from reclaim.inside.boot import cmdline
from reclaim.inside.boot.bootfile import BootFile, begins, in_lines
from reclaim.inside.facts import Facts
from reclaim.inside.fstab import SMALL_TAGS, TAGS

#: uapi-group.org/specifications/specs/boot_loader_specification: systemd-boot's, and RHEL's from 8 on
_ENTRY = re.compile(r"(/boot|/efi|/boot/efi)/loader/entries/.+\.conf\Z")
#: the sources from which kernel-install(8), dracut and mkinitcpio build the next command line
_COMMAND_LINE = re.compile(r"/etc/kernel/cmdline\Z|/etc/cmdline\.d/.+\.conf\Z")
_EXTLINUX = re.compile(
    r"/boot/(extlinux/extlinux|extlinux|syslinux/syslinux)\.(conf|cfg)\Z"
)
#: the sources from which update-extlinux (Alpine) and u-boot-update (Debian) build it
_EXTLINUX_SOURCE = re.compile(r"/etc/(update-extlinux\.conf|default/u-boot)\Z")


_NEXT = "/etc/kernel/cmdline"
_VENDORS = "/usr/lib/kernel/cmdline"
#: parameters of /proc/cmdline that kernel-install's plugins leave out: the boot loader adds them
_ADDED = ("BOOT_IMAGE=", "initrd=")
#: what follows the release in the name of an entry, with the tries that are left (Automatic Boot Assessment)
_TRIES = re.compile(r"(\+\d+(-\d+)?)?\.(conf|efi)\Z")
_ROOT = re.compile(r"^options[ \t](?:.*[ \t])?root=", re.MULTILINE)


def are_there(facts: Facts) -> bool:
    """True if the guest has boot entries in files of their own."""
    if facts.unified:
        return True
    return any(map(_holds_entries, facts.boot_files))


def _holds_entries(path: str) -> bool:
    if _ENTRY.match(path):
        return True
    return _EXTLINUX.match(path) is not None


def unread(facts: Facts) -> list[str]:
    """Return the unified kernel images whose command line could not be read."""
    return [path for path, text in facts.unified.items() if not text]


def places(facts: Facts) -> Iterator[BootFile]:
    """Yield the entries that name devices by their bus."""
    small_tags: tuple[str, ...] = TAGS
    if "mkinitfs" in facts.tools:
        small_tags = SMALL_TAGS
    for path in facts.boot_files:
        place = _place(facts, path, small_tags)
        if place:
            yield place
    yield from _next_command_line(facts)
    for path, text in facts.unified.items():
        names = tuple(map(str, cmdline.names(text)))
        if names:
            yield BootFile(
                path=path,
                names=names,
                advice=_built_again(facts, path),
            )


def _built_again(facts: Facts, path: str) -> str:
    """Return the steps that give the unified image *path* another command line."""
    for kernel in facts.kernels:
        release = kernel.release
        if _is_made_for(path, release) and "kernel-install" in facts.tools:
            return (
                f"{path} has its command line built in: once root=UUID=… is in {_NEXT}, "
                f"kernel-install add {release} /boot/vmlinuz-{release} builds it again"
            )
    return (
        f"build {path} again with the same tool, with root=UUID=… in its command line"
    )


def _next_command_line(facts: Facts) -> Iterator[BootFile]:
    """Yield the file that kernel-install(8) lacks, if the command line that it takes instead has bus names.

    Without it the next entry is made from /proc/cmdline: by an update of the kernel, and where the initramfs builder
    calls kernel-install (Debian's /etc/initramfs/post-update.d) by each new initramfs. That entry would have the
    names that were just taken out of it.
    """
    if _NEXT in facts.boot_files or not _made_by_kernel_install(facts):
        return
    source = "/proc/cmdline"
    text = facts.command_line
    if _VENDORS in facts.boot_files:
        source = _VENDORS
        text = facts.boot_files[_VENDORS]
    names = cmdline.names(text)
    if not names:
        return
    kept = [word for word in text.split() if not word.startswith(_ADDED)]
    line = " ".join(kept) + "\n"
    after = cmdline.named_stably(facts, line)
    still = tuple(map(str, cmdline.names(after)))
    yield BootFile(
        path=_NEXT,
        names=tuple(
            f"without it kernel-install takes {name} from {source}" for name in names
        ),
        after=None if still else after,
        is_new=True,
        advice=f"{_NEXT}: write the kernel's parameters into it, without {', '.join(still)}",
    )


def _made_by_kernel_install(facts: Facts) -> bool:
    """True if kernel-install made an entry or a unified image, which have its names: TOKEN-RELEASE."""
    if "kernel-install" not in facts.tools:
        return False
    entries = [
        path
        for path, text in facts.boot_files.items()
        if _ENTRY.match(path) and _ROOT.search(text)
    ]
    return any(
        _is_made_for(path, kernel.release)
        for path in (*entries, *facts.unified)
        for kernel in facts.kernels
    )


def _is_made_for(path: str, release: str) -> bool:
    """True if an entry or a unified image has the name that kernel-install gives it for *release*."""
    return _TRIES.sub("", path).endswith(f"-{release}")


def _place(facts: Facts, path: str, small_tags: tuple[str, ...]) -> BootFile | None:
    """Return *path* if it names devices by their bus; *small_tags* are those that extlinux's initramfs knows."""
    if _ENTRY.match(path):
        return in_lines(facts, path, begins(r"options[ \t]"), by_entry=True)
    if _EXTLINUX.match(path):
        return in_lines(
            facts,
            path,
            is_read=begins(r"append[ \t]"),
            tags=small_tags,
            by_entry=True,
        )
    if _EXTLINUX_SOURCE.match(path):
        return in_lines(facts, path, begins("[a-z]"), tags=small_tags)
    if _COMMAND_LINE.match(path):
        return in_lines(facts, path, begins("[^#]"))
    return None
