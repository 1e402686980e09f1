"""Diffs that show what changes and nothing that could be a secret.

Anything not known to be harmless is shown as MASK: of a file's changed lines each word that was there before, of a
definition each attribute and text. A list of secrets would never be complete. This list of harmless words may be.
"""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Iterator
from typing import NamedTuple

from lxml import etree

from reclaim.base import textdiff
from reclaim.base.secret import names_secret, redacted

#: stands for anything that may be a secret
MASK = "…"

Element = etree._Element  # noqa: SLF001 (lxml has no other name for it)

# Files ----------------------------------------------------------------------------------------

#: words of fstab(5), mount(8), crypttab(5), kernel-command-line(7), boot menus, cron tables, backup jobs
_HARMLESS = """
UUID PARTUUID LABEL PARTLABEL ID none swap auto root user bfs ext2 ext3 ext4 xfs btrfs vfat exfat ntfs ntfs3 f2fs jfs
reiserfs iso9660 udf tmpfs proc sysfs devpts nfs nfs4 cifs ceph zfs overlay bind defaults noauto nofail ro rw discard
nodiscard noatime relatime nodiratime lazytime sync async dirsync exec noexec suid nosuid dev nodev sw pri subvol
subvolid compress zstd lzo ssd space_cache errors remount-ro continue panic data ordered writeback journal
journal_checksum barrier nobarrier commit usrquota grpquota noquota logdev logbsize rtdev inode64 largeio umask fmask
dmask uid gid utf8 iocharset codepage shortname mixed device journal_dev journal_path _netdev x-systemd.automount
x-systemd.growfs x-systemd.device-timeout x-initrd.mount luks luks2 plain cipher size hash tries initramfs keyscript
no-read-workqueue no-write-workqueue GRUB_DEVICE GRUB_CMDLINE_LINUX GRUB_CMDLINE_LINUX_DEFAULT
GRUB_CMDLINE_LINUX_RECOVERY GRUB_DISABLE_LINUX_UUID GRUB_DEFAULT kernelopts linux linuxefi linux16 initrd initrdefi
initrd16 kernel append options search set menuentry insmod resume rootfstype rootflags rootdelay rd.lvm.lv
rd.luks.uuid rd.md.uuid boot mount.usr mount.usrflags real_root cryptroot cryptdevice cryptdm quiet splash What Where
Type Options Swap Mount Unit Install Priority WantedBy MODULES FILES HOOKS BINARIES features add_drivers base scsi
virtio virtio_blk virtio_scsi virtio_pci sd_mod ata_piix ahci most dep list DEVICE ARRAY HOMEHOST MAILADDR metadata
name level num-devices spares RESUME rsync rsnapshot cp tar dd qemu-img convert virsh virtnbdbackup borg restic
rsync_long_args rsync_short_args backup cmd_rsync ExecStart ExecStartPre ExecStartPost sh bash sudo nice ionice flock
timeout sshpass env export if then else fi for do done in while && || !
"""
_WORDS = frozenset(_HARMLESS.split())
_DEVICE = re.compile(r"/dev/[\w./+\-]*")
#: what names of files are made of; a key in base64 that begins with a slash is made of something else
_PIECE = re.compile(r"[A-Z]?[a-z]*\d{0,5}|[A-Z]+\d{0,5}|\d{1,8}|\*")
_BETWEEN_PIECES = re.compile(r"[/._+\-]")
_OPTION = re.compile(r"--[a-z][a-z0-9-]{1,30}|-[A-Za-z]|-a[AEHSUXghilnoprstuvxz]{1,10}")
#: fields of a cron table and of fstab, counts
_NUMBER = re.compile(r"\d{1,2}|\*|\*/\d{1,2}")
#: what stands around a path or an option, and not amid a secret; the empty text, which is at both ends, is in either
_BEFORE, _BEHIND = " \t\"'=<>|(", " \t\"'=<>|)"
_ATOM = re.compile(r"""([^\s,;:=@%~?!^$()|&<>{}\[\]"'`\\]+)""")


#: pairs of lines that difflib compares, which takes the square of their number: some 600 against 600
_COMPARED = 400_000


class _Hunk(NamedTuple):
    """The lines from `start` up to `end` of a text become those from `new_start` up to `new_end` of another."""

    start: int
    end: int
    new_start: int
    new_end: int

    @property
    def head(self) -> str:
        old = textdiff.line_range(self.start, self.end)
        new = textdiff.line_range(self.new_start, self.new_end)
        return f"@@ -{old} +{new} @@"

    @property
    def is_line_by_line(self) -> bool:
        return self.end - self.start == self.new_end - self.new_start


def diff_files(
    before: str | None, after: str | None, path: str, like: str | None = None
) -> str:
    """Return the changed lines of the file at *path* (None: it is not there), as a unified diff without context.

    A word is shown if the edit brings it or takes it away, or if it is known to be harmless. *like* is the file that
    a new one was made from: its words do not count as brought by the edit.
    """
    before, after = before or "", after or ""
    old, new = before.splitlines(), after.splitlines()
    were = set(_ATOM.findall(before)) | set(_ATOM.findall(like or ""))
    are = set(_ATOM.findall(after))
    shown = []
    for hunk in _hunks(old, new):
        # if the numbers of lines differ, more is gone than words of the edit
        kept = are if hunk.is_line_by_line else None
        shown.append(hunk.head)
        shown += _shown("-", old[hunk.start : hunk.end], kept)
        shown += _shown("+", new[hunk.new_start : hunk.new_end], were)
    if not shown:
        return ""
    return "\n".join([f"--- {path} (before)", f"+++ {path} (after)", *shown])


def _shown(sign: str, lines: list[str], known: set[str] | None) -> list[str]:
    return [redacted(f"{sign}{_masked(line, known)}") for line in lines]


def _hunks(old: list[str], new: list[str]) -> Iterator[_Hunk]:
    """Yield the differences. Long texts are compared line by line if they have as many lines, else as one hunk."""
    if len(old) * len(new) <= _COMPARED:
        yield from _compared(old, new)
    elif len(old) == len(new):
        yield from _line_by_line(old, new)
    else:
        head, tail = textdiff.alike_at_both_ends(old, new)
        yield _Hunk(head, len(old) - tail, head, len(new) - tail)


def _compared(old: list[str], new: list[str]) -> Iterator[_Hunk]:
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    for kind, *ranges in matcher.get_opcodes():
        if kind != "equal":
            yield _Hunk(*ranges)


def _line_by_line(old: list[str], new: list[str]) -> Iterator[_Hunk]:
    for number, (old_line, new_line) in enumerate(zip(old, new, strict=True)):
        if old_line != new_line:
            yield _Hunk(number, number + 1, number, number + 1)


def words(text: str) -> str:
    """Return a command, or a line of a file, with MASK for each word that is not known to be harmless."""
    return redacted(_masked(text, None))


def _masked(text: str, known: set[str] | None) -> str:
    """Return *text* with MASK for each run of words that are in *known* (None: all are) and not harmless."""
    pieces = _ATOM.split(text)
    gaps, words_between = pieces[0::2], pieces[1::2]
    shown = [gaps[0]]
    key, secret_follows = "", False
    for number, word in enumerate(words_between):
        gap, behind = gaps[number], gaps[number + 1]
        is_value = gap == "=" and number > 0
        is_news = known is not None and word not in known
        is_secret = secret_follows or (is_value and not _is_key(key))
        is_shown = is_news or (not is_secret and _is_harmless(word, gap, behind))
        shown += [word if is_shown else MASK, behind]
        secret_follows = word.startswith("-") and names_secret(word)
        key = word if is_shown and word != MASK else ""
    return re.sub(rf"{MASK}(?:[^\w/\-]*{MASK})+", MASK, "".join(shown))


def _is_harmless(word: str, gap: str, behind: str) -> bool:
    """True if *word* is known to hold no secret, with *gap* before it and *behind* after it."""
    if word in _WORDS:
        return True
    is_amid = gap[-1:] not in _BEFORE or behind[:1] not in _BEHIND
    if is_amid:
        return False
    if _is_path(word) or _OPTION.fullmatch(word):
        return True
    is_field = not behind[:1].strip()
    return is_field and bool(_NUMBER.fullmatch(word))


def _is_path(word: str) -> bool:
    if _DEVICE.fullmatch(word):
        return True
    if not word.startswith("/"):
        return False
    return all(map(_PIECE.fullmatch, _BETWEEN_PIECES.split(word)))


def _is_key(word: str) -> bool:
    """True if *word* is a key whose value may be shown, as long as the value is harmless by itself."""
    return bool(word) and not names_secret(word)


# Definitions ----------------------------------------------------------------------------------

#: attributes that hold no secret in any element of libvirt's own (libvirt.org/formatdomain.html)
_SETTINGS = """
type bus dev index model controller target unit slot function domain cssid ssid devno device mode cache io discard
detect_zeroes discard_no_unref error_policy rerror_policy iothread iothreads queues queue_size ioeventfd event_idx
copy_on_read packed page_per_vq iommu ats snapshot sgio rawio startupPolicy order machine arch multifunction port
chassis busNr placement removable logical_block_size physical_block_size discard_granularity rotation_rate tray trans
cyls heads secs protocol transport file dir volume pool path state current check policy fallback match max cmd_per_lun
max_sectors autoport websocket cpuset present tickpolicy enabled secure readonly stateless bridge network portid
managed reg iobase irq lun wwpn wwnn max_luns metadata_cache namespace tls open
"""
_ATTRIBUTES = frozenset(_SETTINGS.split())
#: `name` is another thing in each element
_NAMED = ("driver", "feature", "timer", "alias", "target", "host", "model")
#: elements whose text is no secret; `name` and `uuid` are the domain's alone
_ELEMENTS = """
memory currentMemory vcpu iothreads emulator type on_poweroff on_reboot on_crash serial wwn vendor product kernel
initrd loader nvram model bootmenu
"""
_TEXTS = frozenset(_ELEMENTS.split())
_OF_DOMAIN = ("name", "uuid")
_WEB = ("http", "https", "ftp", "ftps")


_ATTRIBUTE = re.compile(
    r"""(?P<name>[\w.-]+)=(?P<value>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
)


def news(element: str, before: str) -> str:
    """Mask values in *element* (`NAME='VALUE'` each) that may be secrets and are in the definition *before* as well."""

    def shown(attribute: re.Match[str]) -> str:
        is_known = attribute["value"][1:-1] in before
        if is_known and attribute["name"] not in _ATTRIBUTES:
            return f"{attribute['name']}={MASK}"
        return attribute[0]

    return _ATTRIBUTE.sub(shown, element)


def value(tag: str, name: str, text: str, protocol: str | None = None) -> str:
    """Return *text* of the attribute *name* of an element *tag* if it is known to be no secret, else MASK.

    The name of a source is a path on a web server if its *protocol* is one of these, and may be a secret.
    """
    if _is_harmless_attribute(tag, name, protocol):
        return redacted(text)
    return MASK


def _is_harmless_attribute(tag: str, name: str, protocol: str | None) -> bool:
    if name in _ATTRIBUTES and not tag.startswith("{"):
        return True
    if name != "name":
        return False
    if tag == "source":
        return protocol not in _WEB
    return tag in _NAMED


def mask(element: Element) -> Element:
    """Return a copy of *element*, indented as libvirt does, in which MASK stands for anything that may be a secret."""
    shown = copy.deepcopy(element)
    for node in shown.iter():
        if isinstance(node.tag, str):
            _mask_node(node, node.tag)
        else:
            node.text = f" {MASK} "  # a comment, a processing instruction
    etree.indent(shown, space="  ")
    return shown


def _mask_node(node: Element, tag: str) -> None:
    for name, text in node.attrib.items():
        node.set(name, value(tag, str(name), str(text), node.get("protocol")))
    if _is_more_than_blanks(node.text) and not _has_harmless_text(node):
        node.text = MASK
    if _is_more_than_blanks(node.tail):
        node.tail = MASK


def _is_more_than_blanks(text: str | None) -> bool:
    return text is not None and bool(text.strip())


def _has_harmless_text(element: Element) -> bool:
    if element.tag not in _OF_DOMAIN:
        return element.tag in _TEXTS
    parent = element.getparent()
    if parent is None or parent.getparent() is not None:
        return False
    return bool(parent.tag == "domain")


def diff_elements(before: Element | None, after: Element, name: str) -> str:
    """Return the differences of two elements, with two lines of context; *before* may be None."""
    names = (f"{name} (before)", f"{name} (after)")
    return "\n".join(
        textdiff.unified(list(_lines(before)), list(_lines(after)), *names)
    )


def _lines(element: Element | None) -> Iterator[str]:
    if element is not None:
        yield from etree.tostring(
            mask(element), encoding="unicode", with_tail=False
        ).splitlines()
