import re

from reclaim.base.errors import Withheld
from reclaim.changes.change import Change
from reclaim.changes.file_change import FileChange
from reclaim.handles.guest import Guest
from reclaim.inside import generated
from reclaim.inside.facts import Facts
from reclaim.inside.initramfs import (
    builder,
    disks,
    kept_out,
    modules,
    not_even_modules,
    rebuild,
)

_LIST = "/etc/initramfs-tools/modules"
_DRACUT = "/etc/dracut.conf.d/reclaim.conf"
_MKINITCPIO = "/etc/mkinitcpio.conf"
_MKINITCPIO_D = "/etc/mkinitcpio.conf.d/"
_MKINITFS = "/etc/mkinitfs/mkinitfs.conf"
#: MODULES=(…) as mkinitcpio.conf(5) has it, or in quotes as it once had
_ARRAY = re.compile(
    r"^(?P<head>[ \t]*MODULES=(?P<open>[(\"']))(?P<words>[^()\"'#]*)(?=[)\"'])",
    re.MULTILINE,
)
_FEATURES = re.compile(
    r"^(?P<head>[ \t]*features=\")(?P<words>[^\"]*)(?=\")", re.MULTILINE
)


def include_virtio_scsi(guest: Guest) -> list[Change]:
    """Name the modules for the builder of the initramfs, and rebuild that of every kernel."""
    facts, needed = guest.facts, modules(guest.definition)
    if kept := kept_out(facts, needed):
        raise Withheld(
            f"take that out ({'; '.join(kept)}), and build every initramfs anew"
        )
    absent = not_even_modules(facts, needed)
    if absent:
        raise Withheld(f"{absent} at all, not even as a module: install a newer kernel")
    path, text = _told(facts, builder(facts), needed)
    before = facts.boot_files.get(path)
    if mark := generated.whole(path, before or ""):
        raise Withheld(
            f'{path} is marked "{mark}", and would be written again without them: '
            f"name {' '.join(needed)} in the source that it is made from"
        )
    return [
        FileChange(
            guest.name, path, before, text, then=rebuild(facts), devices=disks(facts)
        )
    ]


def _told(facts: Facts, tool: str, needed: tuple[str, ...]) -> tuple[str, str]:
    """Return the file that names modules for *tool*, and its text with those that are *needed* in it."""
    if tool == "update-initramfs":
        return _LIST, _listed(facts.boot_files.get(_LIST) or "", needed)
    if tool == "dracut":
        for path, text in facts.boot_files.items():
            if re.search(
                r"^[ \t]*omit_drivers\+?=.*\b(virtio_scsi|sd_mod|virtio_pci)\b",
                text,
                re.MULTILINE,
            ):
                raise Withheld(f"{path} omits drivers on purpose (omit_drivers)")
        return _DRACUT, f'add_drivers+=" {" ".join(needed)} "\n'
    if tool == "mkinitcpio":
        # a drop-in is read after it, and one that lists modules lists all of them
        dropped = [
            path for path in sorted(facts.boot_files) if path.startswith(_MKINITCPIO_D)
        ]
        path = next(
            (
                path
                for path in reversed(dropped)
                if _ARRAY.search(facts.boot_files[path])
            ),
            _MKINITCPIO,
        )
        return path, _with_words(facts, path, _ARRAY, needed)
    return _MKINITFS, _with_words(facts, _MKINITFS, _FEATURES, ("virtio", "scsi"))


def _listed(text: str, needed: tuple[str, ...]) -> str:
    listed = {line.split()[0] for line in text.splitlines() if line.split()}
    if text and not text.endswith("\n"):
        text += "\n"
    return text + "".join(f"{module}\n" for module in needed if module not in listed)


def _with_words(
    facts: Facts, path: str, pattern: re.Pattern[str], added: tuple[str, ...]
) -> str:
    """Return the text of *path* with *added* in its list (*pattern*). Raises Withheld unless there is exactly one."""
    text = facts.boot_files.get(path, "")
    lists = list(pattern.finditer(text))
    if len(lists) != 1:
        raise Withheld(
            f"name {' '.join(added)} in {path} by hand: its list cannot be read"
        )
    there = lists[0]["words"].split()
    listed = " ".join([*there, *(word for word in added if word not in there)])
    return text[: lists[0].start("words")] + listed + text[lists[0].end("words") :]
