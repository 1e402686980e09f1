"""Diffs that show what changes and nothing that could be a secret.

Whatever is not known to be harmless is shown as MASK: of a file's changed lines each word that was there before, of a
definition each attribute and text. A list of what is secret would never be complete; this one may be incomplete.
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

#: stands for what may be a secret
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
rd.luks.uuid rd.md.uuid quiet splash What Where Type Options Swap Mount Unit Install Priority WantedBy MODULES FILES
HOOKS BINARIES features add_drivers base scsi virtio virtio_blk virtio_scsi virtio_pci sd_mod ata_piix ahci most dep
list DEVICE ARRAY HOMEHOST MAILADDR metadata name level num-devices spares RESUME rsync rsnapshot cp tar dd qemu-img
convert virsh virtnbdbackup borg restic rsync_long_args rsync_short_args backup cmd_rsync ExecStart ExecStartPre
ExecStartPost sh bash sudo nice ionice flock timeout sshpass env export if then else fi for do done in while && || !
"""
_WORDS = frozenset(_HARMLESS.split())
_DEVICE = re.compile(r"/dev/[\w./+\-]*")
#: what names of files are made of; a key in base64 that begins with a slash is made of something else
_PIECE = re.compile(r"[A-Z]?[a-z]*\d{0,5}|[A-Z]+\d{0,5}|\d{1,8}|\*")
_BETWEEN_PIECES = re.compile(r"[/._+\-]")
_OPTION = re.compile(r"--[a-z][a-z0-9-]{1,30}|-[A-Za-z]|-a[AEHSUXghilnoprstuvxz]{1,10}")
#: fields of a cron table and of fstab, counts
_NUMBER = re.compile(r"\d{1,2}|\*|\*/\d{1,2}")
#: what stands around a path or an option, and not amid a secret
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
        return f"@@ -{_range(self.start, self.end)} +{_range(self.new_start, self.new_end)} @@"

    @property
    def is_line_by_line(self) -> bool:
        return self.end - self.start == self.new_end - self.new_start


def diff_files(
    before: str | None, after: str | None, path: str, like: str | None = None
) -> str:
    """The changed lines of the file at *path* (None: it is not there), as a unified diff without context.

    A word is shown if the edit brings it or takes it away, or if it is known to be harmless. *like* is the file that
    a new one was made from: the edit does not bring what that holds.
    """
    old, new = (before or "").splitlines(), (after or "").splitlines()
    were = set(_ATOM.findall(before or "")) | set(_ATOM.findall(like or ""))
    are = set(_ATOM.findall(after or ""))
    shown = [f"--- {path} (before)", f"+++ {path} (after)"]
    for hunk in _hunks(old, new):
        kept = (
            are if hunk.is_line_by_line else None
        )  # else more is gone than words of the edit
        shown.append(hunk.head)
        shown += [
            redacted(f"-{_masked(line, kept)}") for line in old[hunk.start : hunk.end]
        ]
        shown += [
            redacted(f"+{_masked(line, were)}")
            for line in new[hunk.new_start : hunk.new_end]
        ]
    return "\n".join(shown) if len(shown) > 2 else ""


def _hunks(old: list[str], new: list[str]) -> Iterator[_Hunk]:
    """Where the texts differ. Of long ones line by line or, if their lengths differ, from the first to the last."""
    if len(old) * len(new) <= _COMPARED:
        for kind, *places in difflib.SequenceMatcher(
            None, old, new, autojunk=False
        ).get_opcodes():
            if kind != "equal":
                yield _Hunk(*places)
    elif len(old) == len(new):
        yield from (
            _Hunk(at, at + 1, at, at + 1)
            for at in range(len(old))
            if old[at] != new[at]
        )
    else:
        most = min(len(old), len(new))
        head = next((at for at in range(most) if old[at] != new[at]), most)
        tail = next(
            (at for at in range(most - head) if old[-1 - at] != new[-1 - at]),
            most - head,
        )
        yield _Hunk(head, len(old) - tail, head, len(new) - tail)


def _range(start: int, end: int) -> str:
    """As diff(1) has it: no line at all is named by the one before."""
    if end - start == 1:
        return str(start + 1)
    return f"{start + (end > start)},{end - start}"


def words(text: str) -> str:
    """A command, or a line of a file, as far as its words are known to be harmless."""
    return redacted(_masked(text, None))


def _masked(text: str, known: set[str] | None) -> str:
    """*text* with MASK for each run of words that the other side has as well (None: all), and are not harmless."""
    pieces = _ATOM.split(text)  # what is between the words, and the words, by turns
    shown: list[str] = []
    key, secret_follows = "", False
    for number, piece in enumerate(pieces):
        if number % 2 == 0:
            shown.append(piece)
            continue
        gap, behind = pieces[number - 1], pieces[number + 1]
        is_value = gap == "=" and number > 1
        whole = (not gap or gap[-1] in _BEFORE) and (not behind or behind[0] in _BEHIND)
        alone = whole and (not behind or behind[0].isspace())
        news = known is not None and piece not in known
        harmless = _is_harmless(piece, whole=whole, alone=alone) and not secret_follows
        harmless = harmless and (not is_value or _is_key(key))
        shown.append(piece if news or harmless else MASK)
        secret_follows = piece.startswith("-") and names_secret(piece)
        key = piece if shown[-1] != MASK else ""
    return re.sub(rf"{MASK}(?:[^\w/\-]*{MASK})+", MASK, "".join(shown))


def _is_harmless(word: str, *, whole: bool, alone: bool) -> bool:
    if word in _WORDS or (whole and (_is_path(word) or _OPTION.fullmatch(word))):
        return True
    return alone and bool(_NUMBER.fullmatch(word))


def _is_path(word: str) -> bool:
    if _DEVICE.fullmatch(word):
        return True
    return word.startswith("/") and all(
        map(_PIECE.fullmatch, _BETWEEN_PIECES.split(word))
    )


def _is_key(word: str) -> bool:
    """May the value that *word* is set to be shown, if it is harmless by itself?"""
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


def news(words: str, before: str) -> str:
    """*words* on an element, `NAME='VALUE'` each: values that the definition *before* had as well only if harmless."""

    def shown(one: re.Match[str]) -> str:
        is_known = one["value"][1:-1] in before and one["name"] not in _ATTRIBUTES
        return f"{one['name']}={MASK}" if is_known else one[0]

    return _ATTRIBUTE.sub(shown, words)


def value(tag: str, name: str, text: str, protocol: str | None = None) -> str:
    """*text* of the attribute *name* of an element *tag* if it is known to be no secret, else MASK.

    The name of a source is a path on a web server if its *protocol* is one of these, and may be a secret.
    """
    if name in _ATTRIBUTES and not tag.startswith("{"):
        return redacted(text)
    if name == "name" and (tag in _NAMED or (tag == "source" and protocol not in _WEB)):
        return redacted(text)
    return MASK


def mask(element: Element) -> Element:
    """A copy of *element*, indented as libvirt does, in which MASK stands for what may be a secret."""
    shown = copy.deepcopy(element)
    for one in shown.iter():
        if not isinstance(one.tag, str):
            one.text = f" {MASK} "  # a comment, a processing instruction
            continue
        for name, text in one.attrib.items():
            one.set(name, value(one.tag, str(name), str(text), one.get("protocol")))
        if one.text and one.text.strip() and not _has_harmless_text(one):
            one.text = MASK
        if one.tail and one.tail.strip():
            one.tail = MASK
    etree.indent(shown, space="  ")
    return shown


def _has_harmless_text(element: Element) -> bool:
    parent = element.getparent()
    if element.tag in _OF_DOMAIN:
        return (
            parent is not None and parent.getparent() is None and parent.tag == "domain"
        )
    return element.tag in _TEXTS


def diff_elements(before: Element | None, after: Element, name: str) -> str:
    """What is different between two elements, with two lines around it; *before* may not be there."""
    names = (f"{name} (before)", f"{name} (after)")
    return "\n".join(
        textdiff.unified(list(_lines(before)), list(_lines(after)), *names)
    )


def _lines(element: Element | None) -> Iterator[str]:
    if element is not None:
        yield from etree.tostring(
            mask(element), encoding="unicode", with_tail=False
        ).splitlines()
