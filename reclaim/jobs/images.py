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
#: snapshots and copies that are kept apart
_MOST_SNAPSHOTS = 500
_MOST_COPIES = 200


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

    @property
    def writer(self) -> str:
        """Return the guest that writes to it while it is copied, or ""."""
        if self.still or not self.image.running:
            return ""
        return self.image.running


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

    @property
    def are_still(self) -> bool:
        """True if no guest writes to any image that the command surely copies."""
        return all(image.still for image in self.sure)

    def wonder(self, doubt: str) -> None:
        """Keep *doubt*, unless there is one already."""
        if not self.doubt:
            self.doubt = doubt


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
        if not snapshot.path or len(self.snapshots) >= _MOST_SNAPSHOTS:
            return
        path = _plain_folder(snapshot.path)
        origin = _plain_folder(snapshot.origin)
        self.snapshots.insert(0, (path, origin, snapshot.still))

    def copied_to(self, target: str, images_read: Copied) -> None:
        """Note that the job wrote a copy to *target*."""
        if not target or target.startswith(UNKNOWN):
            return
        if rsync.is_remote(target):
            return
        if len(self.copies) > _MOST_COPIES:
            return
        images: list[DiskImage | None] = [copied.image for copied in images_read.sure]
        if images_read.of_guests and not images:
            images = [None]
        path = target.rstrip("/")
        for image in images:
            self.copies.append((path, image))

    def below(self, copy: Copy, node_is_read: Callable[[str], bool]) -> Copied:
        """Return the images that *copy* reads."""
        images_read = Copied()
        if copy.of_guest is not None:
            self._of_guest(copy.of_guest, images_read)
        for source in copy.sources:
            self._source(source, copy, images_read, node_is_read)
        return images_read

    def _of_guest(self, guest: str, images_read: Copied) -> None:
        images = [image for image in self.images if image.is_of(guest)]
        images_read.sure += map(_by_its_path, images)
        if not images:
            images_read.of_guests.append(guest)

    def _source(
        self,
        source: str,
        copy: Copy,
        images_read: Copied,
        node_is_read: Callable[[str], bool],
    ) -> None:
        origin = self.origins.of(source)
        if origin is not None and origin.kind == "image":
            self._of_guest(origin.guest, images_read)
            images_read.asked_after = max(origin.after, images_read.asked_after or 0)
            return
        if origin is not None and origin.lies_below_a_path:
            for copied in self._all_below(origin.path, copy, images_read, node_is_read):
                name = posixpath.basename(copied.image.path)
                if fnmatch.fnmatchcase(name, origin.name):
                    images_read.sure.append(copied)
            return
        if source.startswith("volume:"):
            self._volume(source.removeprefix("volume:"), images_read)
        elif rsync.is_remote(source):
            self._elsewhere(source, images_read)
        elif source.startswith("/"):
            images_read.sure += self._all_below(source, copy, images_read, node_is_read)
        else:
            images_read.wonder("only a run shows the files that it copies")

    def _volume(self, name: str, images_read: Copied) -> None:
        """The images that a volume of a storage pool may be, by their file's name."""
        named = []
        for image in self.images:
            if posixpath.basename(image.path) == name:
                named.append(image)
        images_read.sure += map(_by_its_path, named)
        if not named:
            images_read.wonder(
                "reclaim does not know which guest's image that volume is"
            )

    def _elsewhere(self, source: str, images_read: Copied) -> None:
        if not is_sure(source) or self._may_be_image(source):
            images_read.wonder(
                "reclaim cannot see from here whether the guests of the source machine hold still"
            )
        else:
            images_read.wonder(
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
        images_read: Copied,
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
                images_read.maybe_left_out = True
            elif left_out:
                continue
            elif way == "maybe":
                self._perhaps(source, images_read)
            else:
                sure.append(FoundImage(image, source, still))
        if not sure:
            self._doubt_none(source, path, images_read)
        sure += self._copies_below(source)
        if not self.images:
            images_read.wonder("reclaim knows no guest's image here")
        return sure

    def _perhaps(self, source: str, images_read: Copied) -> None:
        """Note that *source* may be an image: of the guests that it is named after, or of any."""
        guests = self._named_guests(source)
        if not guests:
            images_read.wonder("only a run shows the images that it copies")
        for guest in guests:
            if guest not in images_read.of_guests:
                images_read.of_guests.append(guest)

    def _doubt_none(self, source: str, path: str, images_read: Copied) -> None:
        """Note why images may lie at *source*, or at *path* before a snapshot, though none is known there."""
        is_unknown = not images_read.doubt and not is_sure(source)
        if is_unknown and self._may_be_copy(source):
            images_read.doubt = "only a run shows the files that it copies"
        if path == source:
            return
        if path.startswith((UNKNOWN, "/dev/")):
            images_read.wonder("reclaim does not know the images on that snapshot")

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
            is_there = _way(source, path) or _way(path, source)
            if is_there:
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
            folder = f"{snapshot[0]}/"
            if f"{path}/".startswith(folder):
                return snapshot
        return None


def _by_its_path(image: DiskImage) -> FoundImage:
    """*image* as it is copied if the command names it itself, or its guest."""
    return FoundImage(image, image.path)


def plain_device(path: str) -> str:
    """A logical volume has two names: /dev/mapper/GROUP-VOLUME, with hyphens doubled, is /dev/GROUP/VOLUME."""
    match = re.fullmatch(r"/dev/mapper/((?:[^-/]|--)+)-((?:[^-/]|--)+)", path)
    if match is None:
        return path
    group, volume = match.groups()
    return f"/dev/{group}/{volume}".replace("--", "-")


def _plain_folder(path: str) -> str:
    """*path* by one name, without a slash at its end."""
    return plain_device(path).rstrip("/") or "/"


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


def is_plain(path: str) -> bool:
    """True if the path is absolute, all of it is known, and it is no pattern."""
    if not path.startswith("/") or not is_sure(path):
        return False
    return _WILDCARD.search(path) is None


def _ways(source: str, images: list[DiskImage]) -> Iterator[tuple[DiskImage, str]]:
    """The images at or below *source*, and how each lies there."""
    start = ""
    if is_plain(source):
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
    if _holds(source, path):
        return "below"
    return None


def _ends(path: str) -> Iterator[int]:
    """The end of *path*, then the places of the slashes in it, but for the first character."""
    yield len(path)
    end = path.find("/", 1)
    while end > 0:
        yield end
        end = path.find("/", end + 1)


def _holds(source: str, path: str) -> bool:
    """True if *path* is at or below *source*, which may be a pattern."""
    if not source.startswith("/"):
        return False
    if path == source:
        return True
    if path.startswith(source.rstrip("/") + "/"):
        return True
    return _fits(path, source)


def _fits(path: str, glob: str) -> bool:
    """True if the names of *path*, from its start on, fit those of *glob*."""
    names, globs = path.split("/"), glob.split("/")
    if len(names) < len(globs):
        return False
    return all(map(fnmatch.fnmatchcase, names, globs))
