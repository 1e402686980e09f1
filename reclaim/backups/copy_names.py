"""Names of copies: the image that a file is called after, and whether it holds blocks of that at all."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import PurePosixPath

#: the endings that images have
_ENDINGS = (".qcow2", ".qcow", ".img", ".raw")
#: what stands between the parts that people add to a name
_BETWEEN = re.compile(r"[-_.~@ +:,()\[\]]+")
_DAYS = "mon|tue|wed|thu|fri|sat|sun"
_MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|sept|oct|nov|dec"
#: one added part: a date or time, a number, the kind of copy, a day, a month, a week
_ADDED = re.compile(
    r"\d+(?:t\d+)?z?|t\d+z?|\d+h\d*m?|v\d+|"
    r"(?:bak|bkp|bkup|bk|backup|copy|clone|old|orig|original|save|saved|sav|full|inc|incr|incremental|diff|base|"
    r"snap|snapshot|hourly|daily|weekly|monthly|yearly|nightly|today|yesterday|latest|last|current|previous|prev|"
    r"kw|cw|w(?=\d)|week|day|month|gen|rev|version|good|"
    rf"{_DAYS}|monday|tuesday|wednesday|thursday|friday|saturday|sunday|"
    rf"{_MONTHS}|january|february|march|april|june|july|august|september|october|november|december)\d*",
    re.IGNORECASE,
)
#: "web-before-upgrade": the part after one of these can be any word
_OCCASION = re.compile(r"before|after|pre|post", re.IGNORECASE)


@dataclass(frozen=True)
class Stream:
    """A kind of copy that is no image: zeros take nothing in it. `restore`: whether a restore comes back sparse."""

    words: str
    restore: str


_DENSE = "unpack it through `dd of=IMAGE bs=1M conv=sparse` into a new file, or every zero is written"
_SPARSE = "{0} FILE` leaves zeros out; unpacked into a pipe it writes every zero"
_ARCHIVE = Stream(
    "an archive by tar",
    "a restore has holes if the archive was made with `tar --sparse`",
)
_VMA = Stream("a Proxmox archive (vma)", "Proxmox restores it")
_GZIP = Stream("compressed by gzip", _DENSE)
#: by ending; what restores was measured with gzip 1.12, bzip2 1.0.8, xz 5.4, zstd 1.5, lz4 1.9, lzop 1.04, 7z 16.02
_STREAMS = {
    ".gz": _GZIP,
    ".bz2": Stream("compressed by bzip2", _DENSE),
    ".lzo": Stream("compressed by lzop", _DENSE),
    ".7z": Stream(
        "an archive by 7z",
        "7z writes every zero: dig the holes afterwards by `fallocate --dig-holes`",
    ),
    ".zip": Stream(
        "an archive by zip",
        "unzip writes every zero: dig the holes afterwards by `fallocate --dig-holes`",
    ),
    ".xz": Stream("compressed by xz", "`xz -d` leaves zeros out"),
    ".zst": Stream("compressed by zstd", _SPARSE.format("`zstd -d")),
    ".lz4": Stream("compressed by lz4", _SPARSE.format("`lz4 -d")),
    ".tar": _ARCHIVE,
    ".tgz": _ARCHIVE,
    ".vma": _VMA,
    ".gpg": Stream("encrypted by gpg", _DENSE),
    ".age": Stream("encrypted by age", _DENSE),
    ".enc": Stream("encrypted", _DENSE),
}
#: virtnbdbackup: vda.full.data, vda.inc.virtnbdbackup.1.data, vda.copy.data
_VIRTNBD = Stream(
    "a backup by virtnbdbackup",
    "virtnbdrestore writes a new image with the data of the backup",
)
_VIRTNBD_NAME = re.compile(
    r"(?P<disk>.+?)\.(?:full|copy|(?:inc|diff)\.virtnbdbackup\.\d+)\.data"
)


def stream(path: str) -> Stream | None:
    """Return the kind of the file at *path* if by its name it is no image but a stream made of one; else None."""
    name = PurePosixPath(path).name.lower()
    if _VIRTNBD_NAME.fullmatch(name):
        return _VIRTNBD
    streams = _peeled(name)[1]
    if not streams:
        return None
    return streams[-1]


def looks_like_an_image(path: str) -> bool:
    """True if the name ends as images do, or as a copy of one."""
    name = PurePosixPath(path).name
    base, streams = _peeled(name)
    if _VIRTNBD_NAME.fullmatch(name.lower()):
        return True
    return _VMA in streams or stem(path) != base


def stem(path: str) -> str:
    """Return the name of the file at *path* without the ending that images have, and without the parts behind that."""
    name = PurePosixPath(path).name
    by_virtnbd = _VIRTNBD_NAME.fullmatch(name)
    if by_virtnbd:
        return by_virtnbd["disk"]
    name = _peeled(name)[0]
    lower = name.lower()
    places = []
    for ending in _ENDINGS:
        start = lower.rfind(ending)
        if start > 0:
            places.append((start + len(ending), start))
    for end, start in sorted(places, reverse=True):
        if is_added(name[end:]):
            return name[:start]
    return name


def is_called(called: str, name: str) -> bool:
    """True if *called* is this name, or this name with the parts that people add to that of a copy."""
    if not called.startswith(name):
        return False
    return is_added(called[len(name) :])


def is_called_behind(called: str, name: str) -> bool:
    """True if *called* is this name with such parts in front of it ("backup-web"), maybe behind it too.

    A name that is such a part itself cannot be told from one: "2026-11-01" is of no guest that is called "01".
    """
    if _is_front(name):
        return False
    start = called.find(name, 1)
    while start > 0:
        front, behind = called[:start], called[start + len(name) :]
        is_parted = _BETWEEN.match(front[-1])
        if is_parted and _is_front(front) and is_added(behind):
            return True
        start = called.find(name, start + 1)
    return False


def _is_front(text: str) -> bool:
    """True if *text* consists of parts that people add, at least one of them. "copy of" is such a front."""
    parts = _parts(text)
    of = [part for part in parts if part.lower() == "of"]
    added = list(filter(_ADDED.fullmatch, parts))
    return bool(added) and len(added) + len(of) == len(parts)


def _parts(text: str) -> list[str]:
    return [part for part in _BETWEEN.split(text) if part]


def is_added(text: str) -> bool:
    """True if *text* consists of the parts that people add to the name of a copy, each behind a mark. "" does."""
    if not text:
        return True
    if not _BETWEEN.match(text):
        return False
    before = ""
    parts = _parts(text)
    for part, behind in zip_longest(parts, parts[1:], fillvalue=""):
        is_occasion = _OCCASION.fullmatch(part) and behind
        is_of_occasion = _OCCASION.fullmatch(before) and part.isalnum()
        before = part
        if is_occasion or is_of_occasion:
            continue
        if not _ADDED.fullmatch(part):
            return False
    return True


def _peeled(name: str) -> tuple[str, list[Stream]]:
    """*name* without the endings of streams, and the streams, the outermost first. "web.img.tar.gz" has two."""
    streams: list[Stream] = []
    while True:
        base, dot, ending = name.rpartition(".")
        kind = _STREAMS.get(dot + ending.lower())
        if kind is None or not base:
            return name, streams
        name = base
        streams.append(kind)
