"""Which images a job copies: disks of guests, the snapshots that it takes of them, the copies that it makes."""

from __future__ import annotations

import fnmatch
import posixpath
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from reclaim.jobs import rsync
from reclaim.jobs.steps import Copy, Snapshot
from reclaim.jobs.words import UNKNOWN, Origins, is_sure, pattern, sure_part

#: names that images have
_NAMES = re.compile(r"\.(?:qcow2?|img|raw|vmdk|vdi|vhdx?|qed)$", re.IGNORECASE)
#: folders that libvirt makes for images
_FOLDERS = ("/var/lib/libvirt/images", "/var/lib/libvirt")
#: what snapper and ZFS call the folder of a snapshot
_OF_A_SNAPSHOT = re.compile(
    r"(.*?)/(?:\.snapshots/[^/]+/snapshot|\.zfs/snapshot/[^/]+)(/.*)?", re.DOTALL
)
#: snapshots of snapshots
_DEEPEST = 8


@dataclass(frozen=True)
class DiskImage:
    """An image that could be copied; `running` names the guest that writes to it now."""

    path: str
    running: str | None = None
    guest: str = ""
    target: str = ""
    uuid: str = ""

    def is_of(self, guest: str) -> bool:
        """True if it is an image of *guest*, by its name or its UUID."""
        return bool(guest) and guest in (self.guest, self.uuid)


@dataclass(frozen=True)
class FoundImage:
    """One image that a command surely copies. `still`: it is of a snapshot, or a copy."""

    image: DiskImage
    source: str
    still: bool = False


@dataclass
class Copied:
    """The images that a command surely copies, and why there may be more."""

    sure: list[FoundImage] = field(default_factory=list)
    doubt: str = ""
    #: an image of a guest that nobody knows yet
    of_guests: list[str] = field(default_factory=list)
    #: the commands before that which asked a guest for its disks; None if the images are named otherwise
    asked_after: int | None = None
    #: whether these are left out cannot be told
    maybe_left_out: bool = False

    @property
    def surely(self) -> bool:
        """True if the command copies an image, known or of a guest that is not known yet."""
        return bool(self.sure or self.of_guests)

    def wonder(self, doubt: str) -> None:
        """Keep *doubt*, unless there is one already."""
        self.doubt = self.doubt or doubt


@dataclass
class Map:
    """The places of images by now: each snapshot and copy of the job adds some."""

    images: list[DiskImage]
    origins: Origins
    #: (path, origin, is it of one moment?), the newest first
    snapshots: list[tuple[str, str, bool]] = field(default_factory=list)
    #: paths that the job itself copied images to
    copies: list[tuple[str, DiskImage | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.images = [
            replace(image, path=plain_device(image.path)) for image in self.images
        ]

    def take(self, snapshot: Snapshot) -> None:
        """Note that the job takes a snapshot, mounts one, or moves something."""
        if not snapshot.path or len(self.snapshots) >= 500:
            return
        path = plain_device(snapshot.path).rstrip("/")
        origin = plain_device(snapshot.origin).rstrip("/")
        self.snapshots.insert(0, (path or "/", origin or "/", snapshot.still))

    def copied_to(self, target: str, found: Copied) -> None:
        """Note that the job wrote a copy to *target*."""
        if not target or target.startswith(UNKNOWN):
            return
        if rsync.is_remote(target) or len(self.copies) > 200:
            return
        path = target.rstrip("/")
        for copied in found.sure:
            self.copies.append((path, copied.image))
        if found.of_guests and not found.sure:
            self.copies.append((path, None))

    def below(self, copy: Copy, node_is_read: Callable[[str], bool]) -> Copied:
        """Return the images that *copy* reads."""
        found = Copied()
        if copy.of_guest is not None:
            self._of_guest(copy.of_guest, found)
        for source in copy.sources:
            self._source(source, copy, found, node_is_read)
        return found

    def _of_guest(self, guest: str, found: Copied) -> None:
        known = []
        for image in self.images:
            if image.is_of(guest):
                known.append(FoundImage(image, image.path))
        found.sure += known
        if not known:
            found.of_guests.append(guest)

    def _source(
        self,
        source: str,
        copy: Copy,
        found: Copied,
        node_is_read: Callable[[str], bool],
    ) -> None:
        origin = self.origins.of(source)
        kind = "" if origin is None else origin.kind
        if origin is not None and kind == "image":
            self._of_guest(origin.guest, found)
            found.asked_after = max(origin.after, found.asked_after or 0)
        elif origin is not None and kind == "found" and is_sure(origin.path):
            for copied in self._all_below(origin.path, copy, found, node_is_read):
                name = posixpath.basename(copied.image.path)
                if fnmatch.fnmatchcase(name, origin.name):
                    found.sure.append(copied)
        elif source.startswith("volume:"):
            self._volume(source.removeprefix("volume:"), found)
        elif rsync.is_remote(source):
            self._elsewhere(source, found)
        elif source.startswith("/"):
            found.sure += self._all_below(source, copy, found, node_is_read)
        else:
            found.wonder("only a run shows the files that it copies")

    def _volume(self, name: str, found: Copied) -> None:
        """The images that a volume of a storage pool may be, by their file's name."""
        named = []
        for image in self.images:
            if posixpath.basename(image.path) == name:
                named.append(FoundImage(image, image.path))
        found.sure += named
        if not named:
            found.wonder("reclaim does not know which guest's image that volume is")

    def _elsewhere(self, source: str, found: Copied) -> None:
        if not is_sure(source) or self._may_be_image(source):
            found.wonder(
                "reclaim cannot see from here whether the guests of the source machine hold still"
            )
        else:
            found.wonder(
                "reclaim cannot see from here whether the other machine has images there"
            )

    def _may_be_image(self, remote: str) -> bool:
        """True if the remote path is named as images are, or holds a path of ours."""
        path = remote.partition(":")[2].rstrip("/")
        if _NAMES.search(path) or path.startswith(_FOLDERS):
            return True
        return any(_holds(path, image.path) for image in self.images)

    def _all_below(
        self,
        source: str,
        copy: Copy,
        found: Copied,
        node_is_read: Callable[[str], bool],
    ) -> list[FoundImage]:
        source = plain_device(source)
        path, still = self._origin(source)
        sure = []
        for image, way in _ways(path, self.images):
            if _copies_node_alone(image, way, copy, node_is_read):
                continue
            named = image.path if way == "below" else source
            left_out = False if still else copy.skips(source, named)
            if left_out is None:
                found.maybe_left_out = True
            elif left_out:
                continue
            elif way == "maybe":
                self._perhaps(source, found)
            else:
                sure.append(FoundImage(image, source, still))
        if not sure:
            self._doubt_none(source, path, found)
        sure += self._copies_below(source)
        if not self.images:
            found.wonder("reclaim knows no guest's image here")
        return sure

    def _perhaps(self, source: str, found: Copied) -> None:
        """Note that *source* may be an image: of the guests that it is named after, or of any."""
        guests = self._named_guests(source)
        if not guests:
            found.wonder("only a run shows the images that it copies")
        for guest in guests:
            if guest not in found.of_guests:
                found.of_guests.append(guest)

    def _doubt_none(self, source: str, path: str, found: Copied) -> None:
        """Note why images may lie at *source*, or at *path* before a snapshot, though none is known there."""
        is_unknown = not found.doubt and not is_sure(source)
        if is_unknown and self._may_be_copy(source):
            found.doubt = "only a run shows the files that it copies"
        if path == source:
            return
        if path == UNKNOWN or path.startswith("/dev/"):
            found.wonder("reclaim does not know the images on that snapshot")

    def _named_guests(self, source: str) -> list[str]:
        """Guests that virsh lists and the path is named after."""
        guests = []
        for character in source:
            origin = self.origins.of(character)
            if origin is not None and origin.kind == "guest":
                guests.append(character)
        return guests

    def _may_be_copy(self, source: str) -> bool:
        return any(_way(source, path) for path, _ in self.copies)

    def _copies_below(self, source: str) -> list[FoundImage]:
        """Copies that the job made before, at *source*."""
        copies = []
        for path, image in self.copies:
            if image is None:
                continue
            if _way(source, path) or _way(path, source):
                copy = DiskImage(image.path, None, image.guest, image.target)
                copies.append(FoundImage(copy, source, still=True))
        return copies[:20]

    def _origin(self, path: str) -> tuple[str, bool]:
        """Return *path* before the snapshots that the job took, and True if it is in one of them."""
        still = False
        for _ in range(_DEEPEST):
            named = _OF_A_SNAPSHOT.fullmatch(path)
            if named is not None:
                above, below = named.groups(default="")
                path = above + below or "/"
                still = True
                continue
            snapshot = self._snapshot_of(path)
            if snapshot is None:
                break
            folder, origin, is_still = snapshot
            path = origin.rstrip("/") + path[len(folder) :] or "/"
            still = still or is_still
            if not path.startswith("/"):
                return UNKNOWN, still
        return path, still

    def _snapshot_of(self, path: str) -> tuple[str, str, bool] | None:
        """The newest snapshot that *path* lies in, or None."""
        for snapshot in self.snapshots:
            if path == snapshot[0] or path.startswith(f"{snapshot[0]}/"):
                return snapshot
        return None


def plain_device(path: str) -> str:
    """A logical volume has two names: /dev/mapper/GROUP-VOLUME, with hyphens doubled, is /dev/GROUP/VOLUME."""
    match = re.fullmatch(r"/dev/mapper/((?:[^-/]|--)+)-((?:[^-/]|--)+)", path)
    return f"/dev/{match[1]}/{match[2]}".replace("--", "-") if match else path


def _copies_node_alone(
    image: DiskImage, way: str, copy: Copy, node_is_read: Callable[[str], bool]
) -> bool:
    """True if the image is a device of which the node is copied, not its content."""
    if not rsync.is_device(image.path):
        return False
    if not copy.reads_devices:
        return True
    return way == "below" and not node_is_read(copy.tool)


_WILDCARD = re.compile(r"[*?\[]")


def _ways(source: str, images: list[DiskImage]) -> Iterator[tuple[DiskImage, str]]:
    """The images at or below *source*, and how each lies there."""
    is_plain = is_sure(source) and not _WILDCARD.search(source)
    start = ""
    if is_plain and source.startswith("/"):
        start = posixpath.normpath(source).rstrip("/") + "/"
    for image in images:
        if not f"{image.path}/".startswith(start):
            continue
        way = _way(source, image.path)
        if way is not None:
            yield image, way


def _way(source: str, path: str) -> str | None:
    """How *path* is at *source*: "itself", "below", "maybe" if that is not sure; None if it is not there."""
    if is_sure(source):
        return _sure_way(source, path)
    if not source.startswith("/"):
        return None
    known = sure_part(source)
    if not path.startswith(known) and not known.startswith(path):
        return None
    expression = pattern(source.rstrip("/"))
    if expression.fullmatch(path):
        return "maybe"
    for end in _ends(path):
        if expression.fullmatch(path[:end]):
            return "maybe"
    return None


def _sure_way(source: str, path: str) -> str | None:
    if source.startswith("/"):
        source = posixpath.normpath(source)
    if path == source:
        return "itself"
    is_as_deep = source.count("/") == path.count("/")
    if is_as_deep and _fits(path, source):
        return "itself"
    return "below" if _holds(source, path) else None


def _ends(path: str) -> Iterator[int]:
    """The places of the slashes in *path*, but for the first character."""
    end = path.find("/", 1)
    while end > 0:
        yield end
        end = path.find("/", end + 1)


def _holds(source: str, path: str) -> bool:
    """True if *path* is at or below *source*, which may be a pattern."""
    if not source.startswith("/"):
        return False
    if path == source or path.startswith(source.rstrip("/") + "/"):
        return True
    return _fits(path, source)


def _fits(path: str, glob: str) -> bool:
    """True if the names of *path*, from its start on, fit those of *glob*."""
    names, globs = path.split("/"), glob.split("/")
    if len(names) < len(globs):
        return False
    return all(map(fnmatch.fnmatchcase, names, globs))
