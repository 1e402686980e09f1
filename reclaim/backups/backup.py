"""Copies of disk images: their places, disks and sizes, and whether they may be changed."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from weakref import WeakKeyDictionary

import libvirt

from reclaim.backups import copy_names
from reclaim.base.errors import ChangeFailed, NotAssessable, ProbeError
from reclaim.base.text import counted, printable, size
from reclaim.files import holes, replace
from reclaim.files.beneath import File, FileId, Folder, file_id
from reclaim.files.holes import Scan
from reclaim.handles.guest import Disk, Guest
from reclaim.handles.hypervisor import Hypervisor
from reclaim.inventory import BackupNotes
from reclaim.storage import btrfs, image_users, local_image
from reclaim.storage.local_image import Image

#: files below one folder; more is no folder of images
_MOST_FILES = 100_000
#: extents of a copy of which it is asked who shares them
_ASKED = 8
#: bytes that come and go: extent trees, the 1 MiB pieces that QEMU asks of xfs, zeros that were compressed
_SLACK = 4 * 1024 * 1024


@dataclass(eq=False)
class Backup:
    """One copy of a disk image; or a guest's disk of which no copy was found, and why (`absent`).

    The file's place (field `where`) and identity (`known`) are those of the moment in which it was found. reclaim looks
    at that file later and mends that, or none. `left` are files beside it, left by a rewrite that was killed.
    """

    hypervisor: Hypervisor
    path: str | None
    guest: Guest | None = None
    disk: Disk | None = None
    absent: str = ""
    where: File | None = None
    known: FileId | None = None
    left: tuple[str, ...] = ()
    _scan: Scan | None = None
    _scanned: os.stat_result | None = None

    @property
    def file(self) -> str:
        """Return its path. Raises NotAssessable if there is no copy, or it is on another machine."""
        if self.path is None:
            raise NotAssessable(self.absent)
        return self.path

    @property
    def stream(self) -> copy_names.Stream | None:
        """The kind of the copy if it is no image but a stream made of one."""
        return copy_names.stream(self.path) if self.path else None

    @property
    def located(self) -> File:
        """Its name below the folder that was declared. Raises NotAssessable, ProbeError."""
        if self.where is None:
            try:
                self.where = File.at(self.file)
            except OSError as exc:
                raise ProbeError(f"{self.file}: {exc.strerror}") from exc
        return self.where

    @contextmanager
    def opened(self, flags: int = os.O_RDONLY) -> Iterator[int]:
        """Open the file that was found. Raises NotAssessable, and ProbeError if another has taken its place."""
        if self.known is not None:
            self.known = _rewritten.get(self.hypervisor, {}).get(self.known, self.known)
        descriptor = self.located.open(flags, self.file, self.known)
        try:
            self.known = file_id(os.fstat(descriptor))
            yield descriptor
        except OSError as exc:
            raise ProbeError(f"{self.file}: {exc.strerror}") from exc
        finally:
            os.close(descriptor)

    def image(self) -> Image:
        """Its format. Raises NotAssessable, ProbeError."""
        with self.opened() as descriptor:
            return self._identified(descriptor)

    def _identified(self, descriptor: int) -> Image:
        return local_image.identify(
            descriptor, self.file, declared=format_of_copy(self.file, self.disk)
        )

    def scan(self) -> Scan:
        """Return the bytes that it takes. They are read anew when anything about the file has changed."""
        with self.opened() as descriptor:
            now = os.fstat(descriptor)
            if (
                self._scan is None
                or self._scanned is None
                or _changed(self._scanned, now)
            ):
                self._scan = holes.scan_open(
                    descriptor, self.file, self.hypervisor.progress
                )
                self._scanned = os.fstat(descriptor)
            return self._scan

    def stale(self) -> int:
        """Return the bytes of a qcow2 that hold data which its disk no longer has, as far as that can be told."""
        with self.opened() as descriptor:
            image = self._identified(descriptor)
            if image.qcow2 is None:
                return 0
            mapped = local_image.mapped(descriptor, image, self.file)
        if mapped is None:
            return 0
        stale = self.scan().needed - mapped - image.qcow2.tables
        return max(0, stale)

    def user(self) -> str | None:
        """Return the guest whose definition uses this very file, itself or as a backing file; None for a copy."""
        with self.opened() as descriptor:
            status = os.fstat(descriptor)
        for use in image_users.users_of(self.hypervisor, status, lately=True):
            return use.guest
        return None

    def shorter(self) -> str:
        """Return words for a copy whose disk is smaller than its image's; "" if it is not, or that cannot be told."""
        if self.disk is None or self.disk.path is None:
            return ""
        try:
            with self.opened() as descriptor:
                copy = _virtual(descriptor, self._identified(descriptor))
            declared = "raw" if self.disk.driver.get("type", "raw") == "raw" else None
            with local_image.opened_image(self.disk.path, declared) as (
                descriptor,
                image,
            ):
                live = _virtual(descriptor, image)
        except (ProbeError, NotAssessable):
            return ""
        if copy >= live:
            return ""
        return f"; it has {size(copy)} of the {size(live)} of its image: truncated, or made before the image grew"

    def discarded_since(self) -> int:
        """Return the bytes that the image itself holds less than this copy needs: its guest gave them back since."""
        if self.disk is None or self.disk.path is None:
            return 0
        if self.disk.view.type != "file":
            return 0
        try:
            held = os.stat(self.disk.path).st_blocks * 512
        except OSError:
            return 0  # the image is not on this machine
        return max(0, self.scan().needed - held)


#: copies that this run has written anew: which file each was, and which it is
_rewritten: WeakKeyDictionary[Hypervisor, dict[FileId, FileId]] = WeakKeyDictionary()


def rewritten(hypervisor: Hypervisor, before: FileId, after: FileId) -> None:
    """Note that a copy was written anew: the file *after* was found as *before*."""
    known = _rewritten.setdefault(hypervisor, {})
    known[before] = after
    known.pop(after, None)  # an inode number that is free is given again


def _changed(before: os.stat_result, after: os.stat_result) -> bool:
    return any(
        getattr(before, name) != getattr(after, name)
        for name in (
            "st_dev",
            "st_ino",
            "st_size",
            "st_blocks",
            "st_mtime_ns",
            "st_ctime_ns",
        )
    )


def format_of_copy(path: str, disk: Disk | None) -> str | None:
    """Return the format of a copy of *disk*, if something better than its own first bytes tells it.

    Into a raw disk its guest writes any header. Its copy is raw, unless somebody made a qcow2 of it and called it so.
    """
    if disk is None or disk.driver.get("type", "raw") != "raw":
        return None
    if not local_image.is_called_qcow2(path):
        return "raw"
    return "raw" if local_image.is_called_qcow2(disk.path or "") else None


def _virtual(descriptor: int, image: Image) -> int:
    """Bytes of the disk in an image."""
    return os.fstat(descriptor).st_size if image.qcow2 is None else image.qcow2.virtual


def tolerated(needed: int) -> int:
    """Bytes that a copy may take beyond *needed*: a twentieth, at least 4 MiB."""
    return max(_SLACK, needed // 20)


# Finding copies -------------------------------------------------------------------------------


@dataclass(frozen=True)
class FoundCopy:
    """The copies found for one hypervisor, and those that fit none of its disks."""

    backups: list[Backup] = field(default_factory=list)
    strangers: list[Backup] = field(default_factory=list)


def find(
    hypervisor: Hypervisor, declared: Iterable[BackupNotes], guests: Iterable[Guest]
) -> FoundCopy:
    """Return the copies in every declared place, matched to the disks of *guests* by path and name.

    A disk without a copy has a row of its own. Nothing if no place is declared.
    """
    places = [notes for notes in declared if notes.path is not None]
    copies = FoundCopy()
    if not places:
        return copies
    disks = _copied_disks(hypervisor)
    search = _Search(hypervisor, candidates(disks))
    chosen = set(guests)
    copied: set[tuple[Guest, str]] = set()
    for copy in search.copies(places if hypervisor.is_local else []):
        if copy.guest is None or copy.disk is None:
            copies.strangers.append(copy)
            continue
        copied.add((copy.guest, copy.disk.name))
        if copy.guest in chosen:
            copies.backups.append(copy)
    why = _why_absent(hypervisor, places, search.crowded)
    for disk in disks:
        if disk.guest in chosen and (disk.guest, disk.name) not in copied:
            copies.backups.append(Backup(hypervisor, None, disk.guest, disk, why))
    return copies


def _copied_disks(hypervisor: Hypervisor) -> list[Disk]:
    """The disks of all guests that a copy can be of."""
    disks = []
    for guest in hypervisor.guests:
        for disk in _disks(guest):
            if disk.path and not disk.view.readonly:
                disks.append(disk)
    return disks


def _why_absent(
    hypervisor: Hypervisor, places: list[BackupNotes], crowded: list[str]
) -> str:
    if not hypervisor.is_local:
        return f"reclaim judges copies only on the machine that holds them: run reclaim on {hypervisor.name}"
    paths = ", ".join(dict.fromkeys(str(notes.path) for notes in places))
    return "; ".join([f"no copy of it was found in {paths}", *crowded])


@dataclass
class _Search:
    """A look at the declared places for files that are copies of disks."""

    hypervisor: Hypervisor
    wanted: list[Candidate]
    #: why files of a place were not looked at
    crowded: list[str] = field(default_factory=list)
    _seen: set[FileId] = field(default_factory=set)

    def copies(self, places: Iterable[BackupNotes]) -> Iterator[Backup]:
        """Yield each copy once, with its disk; without one if it looks like an image and fits none."""
        for notes in places:
            meant = [disk for disk in self.wanted if _is_meant(disk, notes)]
            for file in _files(self.hypervisor, notes, self.crowded):
                if self._is_copy(file, notes, meant):
                    yield file

    def _is_copy(
        self, file: Backup, notes: BackupNotes, meant: list[Candidate]
    ) -> bool:
        """True if the file is a copy that was not seen. Its guest and disk are set then."""
        if file.known is not None and file.known in self._seen:
            return False  # a hard link to a copy that is judged already
        if file.stream and not _looks_like_an_image(file.file, notes):
            return False  # an archive of anything
        disk = match(file.file, meant)
        if disk is None and not _looks_like_an_image(file.file, notes):
            return False
        if file.known:
            self._seen.add(file.known)
        if disk is not None:
            file.guest, file.disk = disk.guest, disk
        return True


def _disks(guest: Guest) -> list[Disk]:
    try:
        return guest.disks
    except (libvirt.libvirtError, ProbeError):
        return []  # its definition cannot be read: the rows of the guest itself say so


def _is_meant(candidate: Candidate, notes: BackupNotes) -> bool:
    """True if the user declares, or leaves open, that copies in this place are of this disk."""
    if notes.images and candidate.path not in notes.images:
        return False
    if not notes.guests:
        return True
    guest = candidate.disk.guest.name
    return any(fnmatch.fnmatchcase(guest, glob) for glob in notes.guests)


def _files(
    hypervisor: Hypervisor, notes: BackupNotes, crowded: list[str]
) -> Iterator[Backup]:
    """Yield the file at the declared path, or every file below it; symbolic links lead to files that are found anyway.

    Of more files than a folder of images has none is judged: *crowded* gets the reason. Others may write there: it
    ends no run.
    """
    top = str(notes.path)
    try:
        folder = Folder.at(top)
    except OSError:
        yield _alone(hypervisor, top)
        return
    unread: list[str] = []
    try:
        files = _listed(folder, unread)
    except ProbeError:
        yield _alone(hypervisor, top)  # something took its place just now
        return
    if files is None:
        reason = (
            f"{printable(top)} has more than {_MOST_FILES} files, so none was judged"
        )
        crowded.append(f"{reason}: give the folder of the images")
        return
    if unread:
        more = (
            f", and {counted(len(unread) - 1, 'more folder')}"
            if len(unread) > 1
            else ""
        )
        crowded.append(
            f"{printable(unread[0])}{more}: reclaim could not read it, so its files are not judged"
        )
    yield from _with_left(hypervisor, files)


def _listed(folder: Folder, unread: list[str]) -> list[tuple[File, FileId]] | None:
    """The files below *folder*; None if they are too many. Raises ProbeError."""
    files: list[tuple[File, FileId]] = []
    for file, status in folder.files(unread=unread):
        if len(files) == _MOST_FILES:
            return None
        files.append((file, file_id(status)))
    return files


def _with_left(
    hypervisor: Hypervisor, files: list[tuple[File, FileId]]
) -> Iterator[Backup]:
    """Yield each file with those that a killed rewrite of it left beside it."""
    left: dict[str, list[str]] = {}
    for file, _ in files:
        beside = replace.beside_of(file.name)
        if beside:
            left.setdefault(beside, []).append(file.path)
    for file, known in files:
        paths = tuple(left.get(replace.cut(file.name), ()))
        yield Backup(hypervisor, file.path, where=file, known=known, left=paths)


def _alone(hypervisor: Hypervisor, path: str) -> Backup:
    """The file at *path*, or nothing that can be opened: its row says so."""
    copy = Backup(hypervisor, path)
    with suppress(ProbeError, NotAssessable), copy.opened():
        pass  # from now on it is this file
    return copy


def _looks_like_an_image(path: str, notes: BackupNotes) -> bool:
    return str(notes.path) == path or copy_names.looks_like_an_image(path)


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
        stem, guest = copy_names.stem(path), disk.guest.name
        called = tuple(f"{guest}{mark}{disk.name}" for mark in "-_.")
        is_only = len(_disks(disk.guest)) == 1
        return cls(disk, path, PurePosixPath(path).parts[::-1], stem, called, is_only)


def candidates(disks: Iterable[Disk]) -> list[Candidate]:
    """Return the candidates that copies are compared with: every disk that has a path."""
    wanted = []
    for disk in disks:
        path = disk.path
        if path is not None:
            wanted.append(Candidate.of(disk, path))
    return wanted


def match(path: str, wanted: Iterable[Candidate]) -> Disk | None:
    """Return the disk that the file at *path* is a copy of, or None if no disk fits or several fit alike.

    Told by the most names that both paths end with (rsync --relative, rsnapshot), then by the file's
    name, then by "guest" or "guest-target" if the name has only that in it.
    """
    names, stem = PurePosixPath(path).parts[::-1], copy_names.stem(path)
    best = 0
    disks: dict[str, Disk] = {}
    for candidate in wanted:
        rank = 10_000
        if path != candidate.path:
            rank = _likeness(names, stem, candidate)
        if rank > best:
            best, disks = rank, {}
        if rank and rank == best:
            disks.setdefault(candidate.path, candidate.disk)
    if len(disks) != 1:
        return None
    return next(iter(disks.values()))


def _likeness(names: tuple[str, ...], stem: str, candidate: Candidate) -> int:
    """Return how well the names fit; 0 if they do not."""
    guest = candidate.disk.guest.name
    image = candidate.stem
    in_folder = guest in names
    same = _common(names, candidate.names)
    if same:
        return 1000 + same * 10 + in_folder
    if stem == image:
        return 900 + in_folder
    # the longer of "db" and "db-01" if both fit
    if copy_names.is_called(stem, image):
        return 300 + 2 * len(image) + in_folder
    if copy_names.is_called_behind(stem, image):
        return 210 + min(len(image), 80)
    if any(copy_names.is_called(stem, name) for name in candidate.called):
        return 200
    if candidate.is_only:
        if copy_names.is_called(stem, guest):
            return 100
        if copy_names.is_called_behind(stem, guest):
            return 90
    if in_folder and copy_names.is_called(stem, candidate.disk.name):
        return 50
    return 0


def _common(names: tuple[str, ...], others: tuple[str, ...]) -> int:
    """The number of names that both begin with."""
    same = 0
    for name, other in zip(names, others, strict=False):
        if name != other:
            break
        same += 1
    return same


# What may be done -----------------------------------------------------------------------------


def pinned_by(backup: Backup) -> str:
    """Return who shares the zeros of the copy: the snapshots and reflinks by name, if btrfs reports them."""
    sharers = _sharers(backup)
    if sharers is None:
        return "a reflink"
    return btrfs.named(sharers) or "a snapshot or reflink"


def snapshots_that_pin(backup: Backup) -> str:
    """Return the snapshots that share the zeros of the copy.

    "" if anything else shares them too, or that cannot be told.
    """
    sharers = _sharers(backup)
    if not sharers:
        return ""
    if not all(sharer.is_snapshot for sharer in sharers):
        return ""
    return btrfs.named(sharers)


def _sharers(backup: Backup) -> list[btrfs.Sharer] | None:
    """Return who shares zeros of the copy, asked of some of its extents from end to end.

    None if it is not on btrfs.
    """
    with backup.opened() as descriptor, backup.located.parent() as (folder, _):
        if not holes.is_on_btrfs(descriptor):
            return None
        zeros = holes.zero_spans(descriptor, os.fstat(descriptor).st_size)
        extents = holes.shared_extents(descriptor, zeros)
        addresses = [extent.physical for extent in extents]
        step = -(-len(addresses) // _ASKED) or 1
        some = addresses[::step][:_ASKED] + addresses[-1:]
        shell = backup.hypervisor.shell
        sharers: list[btrfs.Sharer] = []
        for address in dict.fromkeys(some):
            sharers += btrfs.sharers(shell, descriptor, folder, address)
    return list(dict.fromkeys(sharers))


def stale_words(stale: int) -> str:
    """Return the words for a qcow2 that keeps *stale* bytes which its disk no longer has."""
    return f"{size(stale)} are data that the disk in the image no longer has"


def why_not_written_to(backup: Backup) -> str | None:
    """Return why the copy must not be written to now, or None. It is opened for writing, and nothing is written."""
    try:
        with (
            backup.opened(os.O_RDWR) as descriptor,
            holes.alone_with(descriptor, backup.file),
        ):
            return None
    except (ProbeError, ChangeFailed) as exc:
        return str(exc)


def punches(backup: Backup) -> bool:
    """True if the copy's filesystem punches holes. Raises ProbeError if that cannot be tried."""
    with backup.located.parent() as (folder, _):
        try:
            return holes.can_punch(folder)
        except OSError as exc:
            raise ProbeError(f"{os.path.dirname(backup.file)}: {exc.strerror}") from exc


def is_better_rewritten(backup: Backup) -> bool:
    """True if it is on btrfs, with extents of its own, and room for another.

    A hole within an extent frees nothing there.
    """
    with backup.opened() as descriptor:
        if not holes.is_on_btrfs(descriptor) or holes.shares_any(descriptor):
            return False
    return why_not_rewritten(backup) is None


def why_not_rewritten(backup: Backup) -> str | None:
    """Return why the copy cannot be written anew beside itself, or None if it can."""
    with backup.opened() as descriptor:
        status, room = os.fstat(descriptor), os.fstatvfs(descriptor)
    if status.st_nlink > 1:
        return f"it has {status.st_nlink} names (hard links): a rewrite would separate them"
    wanted, free = backup.scan().needed + _SLACK, room.f_bavail * room.f_frsize
    if free < wanted:
        return f"a rewrite needs {size(wanted)}, and {size(free)} are free"
    return None
