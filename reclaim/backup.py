"""Copies of disk images: where they are, of which disk, what they take, and what may be done to them."""

from __future__ import annotations

import fnmatch
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import libvirt

from reclaim import btrfs, holes, image
from reclaim.errors import ChangeFailed, NotAssessable, ProbeError, ReclaimError
from reclaim.guest import Disk, Guest
from reclaim.holes import Scan
from reclaim.image import Image
from reclaim.inventory import BackupNotes
from reclaim.text import printable, size

if TYPE_CHECKING:
    from reclaim.hypervisor import Hypervisor

#: what an image is called by those who look at its name
_ENDINGS = (".qcow2", ".qcow", ".img", ".raw")
#: what people add to a name when they copy: a date, a number, "bak"
_ADDED = re.compile(
    # no mark is part of a word: there is one way to read a name, and a long one takes no longer
    r"(?:[-_.~@ ]+(?:\d[\dT:]*Z?|v\d+|bak|backup|copy|old|orig|full|save|sav)(?![^-_.~@ ]))+[-_.]*$|~$",
    re.IGNORECASE,
)
#: files below one folder; more is no folder of images
_MOST_FILES = 100_000
#: backing files above one another
_DEEPEST = 32
#: bytes that come and go: extent trees, the 1 MiB pieces that QEMU asks of xfs, zeros that were compressed
_SLACK = 4 * 1024 * 1024


@dataclass(eq=False)
class Backup:
    """One copy of a disk image; or a guest's disk of which no copy was found, and why (`absent`)."""

    hypervisor: Hypervisor
    path: str | None
    guest: Guest | None = None
    disk: Disk | None = None
    absent: str = ""
    _scan: Scan | None = None
    _scanned: os.stat_result | None = None

    def image(self) -> Image:
        """Its format. Raises NotAssessable, ProbeError."""
        descriptor, found = image.open_image(self.file)
        os.close(descriptor)
        return found

    @property
    def file(self) -> str:
        """Its path. Raises NotAssessable where there is no copy, or it is on another machine."""
        if self.path is None:
            raise NotAssessable(self.absent)
        return self.path

    def scan(self) -> Scan:
        """What it takes. Read anew when anything about the file has changed."""
        try:
            now = os.stat(self.file)
        except OSError as exc:
            raise ProbeError(f"{self.file}: {exc.strerror}") from exc
        if self._scan is None or self._scanned is None or _changed(self._scanned, now):
            self._scan = holes.scan(self.file, self.hypervisor.progress)
            self._scanned = os.stat(self.file)
        return self._scan

    def stale(self) -> int:
        """Bytes of a qcow2 that hold data which its disk no longer has, as far as that can be told."""
        descriptor, found = image.open_image(self.file)
        try:
            if found.qcow2 is None:
                return 0
            mapped = image.mapped(descriptor, found, self.file)
        finally:
            os.close(descriptor)
        return 0 if mapped is None else max(0, self.scan().needed - mapped - found.qcow2.tables)

    def user(self) -> str | None:
        """The guest whose definition uses this very file, with what it depends on; None for a copy."""
        try:
            return users_lately(self.hypervisor).get(_file_id(os.stat(self.file)))
        except OSError as exc:
            raise ProbeError(f"{self.file}: {exc.strerror}") from exc

    def shorter(self) -> str:
        """Words for a copy whose disk is smaller than that of its image; empty where it is not, or nobody can tell."""
        if self.disk is None or self.disk.path is None:
            return ""
        try:
            copy, live = _virtual(self.file), _virtual(self.disk.path, raw=self.disk.driver.get("type") == "raw")
        except (ProbeError, NotAssessable):
            return ""
        if copy >= live:
            return ""
        return f"; it has {size(copy)} of the {size(live)} of its image: truncated, or made before the image grew"

    def discarded_since(self) -> int:
        """Bytes that the image itself holds less than this copy needs: its guest gave them back since."""
        if self.disk is None or self.disk.path is None or self.disk.view.type != "file":
            return 0
        try:
            held = os.stat(self.disk.path).st_blocks * 512
        except OSError:
            return 0  # the image is not on this machine
        return max(0, self.scan().needed - held)


def _changed(before: os.stat_result, after: os.stat_result) -> bool:
    return any(
        getattr(before, name) != getattr(after, name)
        for name in ("st_dev", "st_ino", "st_size", "st_blocks", "st_mtime_ns", "st_ctime_ns")
    )


def _virtual(path: str, *, raw: bool = False) -> int:
    """Bytes of the disk in the image at *path*; *raw* where its guest's definition says so."""
    descriptor, found = image.open_image(path)
    try:
        return os.fstat(descriptor).st_size if raw or found.qcow2 is None else found.qcow2.virtual
    finally:
        os.close(descriptor)


def tolerated(needed: int) -> int:
    """Bytes that a copy may take beyond *needed*: a twentieth, at least 4 MiB."""
    return max(_SLACK, needed // 20)


# Images of defined guests ---------------------------------------------------------------------

_NO_VOLUME = (libvirt.VIR_ERR_NO_STORAGE_POOL, libvirt.VIR_ERR_NO_STORAGE_VOL, libvirt.VIR_ERR_OPERATION_INVALID)

FileId = tuple[int, int]


def _file_id(status: os.stat_result) -> FileId:
    return status.st_dev, status.st_ino


#: seconds for which a look at all definitions serves the checks; before a change they are read anew
_FRESH = 10.0
_looked: WeakKeyDictionary[Hypervisor, tuple[float, dict[FileId, str]]] = WeakKeyDictionary()


def users_lately(hypervisor: Hypervisor) -> dict[FileId, str]:
    """`users`, as they were a moment ago."""
    seen = _looked.get(hypervisor)
    if seen is None or time.monotonic() - seen[0] > _FRESH:
        seen = _looked[hypervisor] = (time.monotonic(), users(hypervisor))
    return seen[1]


def users(hypervisor: Hypervisor, besides: Guest | None = None) -> dict[FileId, str]:
    """Every file of this machine that a defined guest uses (but for one of them), and the guest's name.

    Its disks, as defined and as they run, and the backing files below them.
    """
    found: dict[FileId, str] = {}
    for guest in hypervisor.guests:
        if guest is besides:
            continue
        for path in _sources(guest):
            _follow(path, guest.name, found)
    return found


def _sources(guest: Guest) -> set[str]:
    """The files that a guest's definitions name. A guest that went away uses none."""
    guest.forget(inside=False)
    try:
        roots = [one.root for one in (guest.persistent if guest.is_persistent else None, guest.live) if one is not None]
    except libvirt.libvirtError as exc:
        if exc.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return set()
        raise
    attributes = ("file", "dev", "dataStore")
    named = (str(source.get(name) or "") for root in roots for source in root.iter("source") for name in attributes)
    texts = (
        str(one.text or "")
        for root in roots
        for tag in ("nvram", "kernel", "initrd", "loader")
        for one in root.iter(tag)
    )
    volumes = (
        _volume(guest.hypervisor, str(source.get("pool")), str(source.get("volume") or ""))
        for root in roots
        for source in root.iter("source")
        if source.get("pool")
    )
    return {path for path in (*named, *texts, *volumes) if path.startswith("/")}


def _volume(hypervisor: Hypervisor, pool: str, volume: str) -> str:
    """The path of a volume; "" where libvirt has none, or its pool is not active: no guest starts on that."""
    try:
        return str(hypervisor.connection.storagePoolLookupByName(pool).storageVolLookupByName(volume).path())
    except libvirt.libvirtError as exc:
        if exc.get_error_code() in _NO_VOLUME:
            return ""
        raise


def _follow(path: str, guest: str, found: dict[FileId, str]) -> None:
    """Add the file at *path* and the backing files that it names; they are the guest's, and were made here."""
    for _ in range(_DEEPEST):
        try:
            status = os.stat(path)
            found[_file_id(status)] = guest
            if not stat.S_ISREG(status.st_mode):
                return
            descriptor, one = image.open_image(path)
        except (OSError, ProbeError, NotAssessable):
            return  # not on this machine, or nothing that could name another
        os.close(descriptor)
        backing = one.qcow2.backing if one.qcow2 else None
        if backing is None or ":" in backing.partition("/")[0]:
            return
        path = str(PurePosixPath(path).parent / backing)


# Finding copies -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """What was found for one hypervisor: its copies, and those that fit none of its disks."""

    backups: list[Backup] = field(default_factory=list)
    strangers: list[Backup] = field(default_factory=list)


def find(hypervisor: Hypervisor, declared: Iterable[BackupNotes], guests: Iterable[Guest]) -> Found:
    """The copies in every declared place, matched to the disks of *guests* by path and name.

    A disk without a copy has a row of its own. Nothing where no place is declared.
    """
    places = [one for one in declared if one.path is not None]
    found = Found()
    if not places:
        return found
    disks = [disk for guest in hypervisor.guests for disk in _disks(guest) if disk.path and not disk.view.readonly]
    wanted = candidates(disks)
    chosen = set(guests)
    copied: set[tuple[Guest, str]] = set()
    seen: set[FileId] = set()
    for notes in places if hypervisor.is_local else ():
        meant = [one for one in wanted if _is_meant(one, notes)]
        for path in _files(notes):
            if (known := _known(path)) is not None and known in seen:
                continue  # a hard link to a copy that is judged already
            disk = match(path, meant)
            if disk is None and not _looks_like_an_image(path, notes):
                continue
            seen.update([known] if known else [])
            one = Backup(hypervisor, path, disk.guest if disk else None, disk)
            if disk is None:
                found.strangers.append(one)
                continue
            copied.add((disk.guest, disk.name))
            if disk.guest in chosen:
                found.backups.append(one)
    where = ", ".join(dict.fromkeys(str(one.path) for one in places))
    why = (
        f"no copy of it was found in {where}"
        if hypervisor.is_local
        else f"copies are looked at on the machine they are on: run reclaim on {hypervisor.name}"
    )
    for disk in disks:
        if disk.guest in chosen and (disk.guest, disk.name) not in copied:
            found.backups.append(Backup(hypervisor, None, disk.guest, disk, why))
    return found


def _disks(guest: Guest) -> list[Disk]:
    try:
        return guest.disks
    except (libvirt.libvirtError, ProbeError):
        return []  # its definition cannot be read: the rows of the guest itself say so


def _is_meant(one: Candidate, notes: BackupNotes) -> bool:
    """Does the user say, or leave open, that copies in this place are of this disk?"""
    by_guest = not notes.guests or any(fnmatch.fnmatchcase(one.disk.guest.name, glob) for glob in notes.guests)
    return by_guest and (not notes.images or one.path in notes.images)


def _known(path: str) -> FileId | None:
    try:
        return _file_id(os.stat(path))
    except OSError:
        return None


def _files(notes: BackupNotes) -> Iterator[str]:
    """The file at the declared path, or every file below it; symbolic links lead to what is found anyway.

    Raises ReclaimError for more files than a folder of images has.
    """
    top = str(notes.path)
    if not os.path.isdir(top):
        yield top
        return
    count = 0
    for folder, folders, names in os.walk(top):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)
            if os.path.islink(path) or not os.path.isfile(path):
                continue
            count += 1
            if count > _MOST_FILES:
                raise ReclaimError(f"{printable(top)}: more than {_MOST_FILES} files: give the folder of the images")
            yield path


def _looks_like_an_image(path: str, notes: BackupNotes) -> bool:
    return str(notes.path) == path or _stem(path) != os.path.basename(path)


def _stem(path: str) -> str:
    """The name without the ending that images have, and without what is added behind that."""
    name = os.path.basename(path)
    for candidate in (name, _ADDED.sub("", name)):
        for ending in _ENDINGS:
            if candidate.lower().endswith(ending):
                return candidate[: -len(ending)]
    return name


def _is_called(stem: str, name: str) -> bool:
    """Is *stem* this name, or the name and what is added to a copy's?"""
    return stem == name or (stem.startswith(name) and _ADDED.fullmatch(stem, len(name)) is not None)


@dataclass(frozen=True)
class Candidate:
    """A disk that a copy may be of, with all that its name is compared by."""

    disk: Disk
    path: str
    #: the names of the path, the last one first
    names: tuple[str, ...]
    stem: str
    #: what a copy may be called after the guest
    called: tuple[str, ...]
    is_only: bool

    @classmethod
    def of(cls, disk: Disk, path: str) -> Candidate:
        stem, guest = _stem(path), disk.guest.name
        called = tuple(f"{guest}{mark}{disk.name}" for mark in "-_.")
        is_only = len(_disks(disk.guest)) == 1
        return cls(disk, path, PurePosixPath(path).parts[::-1], stem, called, is_only)


def candidates(disks: Iterable[Disk]) -> list[Candidate]:
    """What copies are compared with: every disk that has a path."""
    return [Candidate.of(disk, path) for disk in disks if (path := disk.path) is not None]


def match(path: str, wanted: Iterable[Candidate]) -> Disk | None:
    """The disk that the file at *path* is a copy of, or None where no disk fits or several fit alike.

    Told by the most names that both paths end with (rsync --relative, rsnapshot), then by the file's
    name, then by "guest" or "guest-target" where the name has only that in it.
    """
    names, stem = PurePosixPath(path).parts[::-1], _stem(path)
    best, found = 0, dict[str, Disk]()
    for one in wanted:
        rank = 10_000 if path == one.path else _likeness(names, stem, one)
        if rank > best:
            best, found = rank, {}
        if rank and rank == best:
            found.setdefault(one.path, one.disk)
    return next(iter(found.values())) if len(found) == 1 else None


def _likeness(names: tuple[str, ...], stem: str, one: Candidate) -> int:
    """How well the names fit; 0 where they do not."""
    guest = one.disk.guest.name
    same = 0
    while same < min(len(names), len(one.names)) and names[same] == one.names[same]:
        same += 1
    in_folder = guest in names
    if same:
        return 1000 + same * 10 + in_folder
    if stem == one.stem:
        return 900 + in_folder
    if _is_called(stem, one.stem):  # the longer of "db" and "db-01" where both fit
        return 300 + 2 * len(one.stem) + in_folder
    if any(_is_called(stem, name) for name in one.called):
        return 200
    if one.is_only and _is_called(stem, guest):
        return 100
    if in_folder and _is_called(stem, one.disk.name):
        return 50
    return 0


# What may be done -----------------------------------------------------------------------------


def pinned_by(path: str, hypervisor: Hypervisor) -> str:
    """Who shares the zeros of the copy at *path*: the snapshots and reflinks by name, where btrfs tells."""
    with holes.opened(path) as descriptor:
        inode = os.fstat(descriptor).st_ino
        extent = holes.first_shared(descriptor, holes.zero_spans(descriptor, os.fstat(descriptor).st_size))
    if btrfs.mount_of(hypervisor.shell, path)[0] != "btrfs":
        return "a reflink"
    found = btrfs.sharers(hypervisor.shell, path, inode, extent.physical) if extent else []
    return ", ".join(found) or "a snapshot or reflink"


def stale_words(stale: int) -> str:
    """What is said of a qcow2 that keeps *stale* bytes which its disk no longer has."""
    return f"{size(stale)} are data that the disk in the image no longer has"


def obstacle(backup: Backup) -> str | None:
    """Why the copy must not be written to now, or None. It is opened for writing, and nothing is written."""
    try:
        with holes.opened(backup.file, os.O_RDWR) as descriptor, holes.alone_with(descriptor, backup.file):
            return None
    except (ProbeError, ChangeFailed) as exc:
        return str(exc)


def punches(backup: Backup) -> bool:
    """Does the copy's filesystem punch holes? Raises ProbeError where that cannot be tried."""
    folder = os.path.dirname(os.path.realpath(backup.file))
    try:
        return holes.can_punch(folder)
    except OSError as exc:
        raise ProbeError(f"{folder}: {exc.strerror}") from exc


def is_better_rewritten(backup: Backup) -> bool:
    """Is it on btrfs, with extents of its own, and room for another? A hole within an extent frees nothing there."""
    if btrfs.mount_of(backup.hypervisor.shell, backup.file)[0] != "btrfs" or room_for_rewrite(backup):
        return False
    with holes.opened(backup.file) as descriptor:
        return not holes.shares_any(descriptor)


def room_for_rewrite(backup: Backup) -> str | None:
    """Why the copy cannot be written anew beside itself, or None where it can."""
    status, room = os.stat(backup.file), os.statvfs(backup.file)
    if status.st_nlink > 1:
        return f"it has {status.st_nlink} names (hard links): a rewrite would part them"
    wanted, free = backup.scan().needed + _SLACK, room.f_bavail * room.f_frsize
    if free < wanted:
        return f"a rewrite needs {size(wanted)} where {size(free)} are free"
    return None
