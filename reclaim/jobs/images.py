"""Which images a job copies: disks of guests, the snapshots that it takes of them, the copies that it makes."""

from __future__ import annotations

import fnmatch
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from reclaim.jobs import rsync
from reclaim.jobs.steps import Copy, Snapshot
from reclaim.jobs.words import UNKNOWN, Origin, Origins, is_sure, pattern, sure_part

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
        """Is it an image of *guest*, by its name or its UUID?"""
        return bool(guest) and guest in (self.guest, self.uuid)


@dataclass(frozen=True)
class FoundImage:
    """One image that a command surely copies. `still`: it is of a snapshot, or a copy."""

    image: DiskImage
    source: str
    still: bool = False


@dataclass
class Copied:
    """What a command copies: images that are sure, and why there may be more."""

    sure: list[FoundImage] = field(default_factory=list)
    doubt: str = ""
    #: an image of a guest that nobody knows yet
    of_guests: list[str] = field(default_factory=list)
    #: the commands before that which asked a guest for its disks; None if the images are named otherwise
    asked_after: int | None = None
    #: whether these are left out cannot be told
    maybe_left_out: bool = False


@dataclass
class Map:
    """Where images lie by now: taken further by each snapshot and copy of the job."""

    images: list[DiskImage]
    origins: Origins
    #: (path, origin, is it of one moment?), the newest first
    snapshots: list[tuple[str, str, bool]] = field(default_factory=list)
    #: paths that the job itself copied images to
    copies: list[tuple[str, DiskImage | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.images = [replace(one, path=plain_device(one.path)) for one in self.images]

    def take(self, one: Snapshot) -> None:
        """The job takes a snapshot, mounts one, or moves something."""
        if one.path and len(self.snapshots) < 500:
            path, origin = plain_device(one.path), plain_device(one.origin)
            self.snapshots.insert(
                0, (path.rstrip("/") or "/", origin.rstrip("/") or "/", one.still)
            )

    def copied_to(self, target: str, found: Copied) -> None:
        """The job wrote a copy there."""
        if (
            not target
            or rsync.is_remote(target)
            or target.startswith(UNKNOWN)
            or len(self.copies) > 200
        ):
            return
        self.copies += [(target.rstrip("/"), one.image) for one in found.sure]
        if found.of_guests and not found.sure:
            self.copies.append((target.rstrip("/"), None))

    def below(self, copy: Copy, node_is_read: Callable[[str], bool]) -> Copied:
        """The images that *copy* reads."""
        found = Copied()
        if copy.of_guest is not None:
            self._of_guest(copy.of_guest, found)
        for source in copy.sources:
            self._source(source, copy, found, node_is_read)
        return found

    def _of_guest(self, guest: str, found: Copied) -> None:
        known = [one for one in self.images if one.is_of(guest)]
        found.sure += [FoundImage(one, one.path) for one in known]
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
        if origin is not None and origin.kind == "image":
            self._of_guest(origin.guest, found)
            found.asked_after = max(origin.after, found.asked_after or 0)
        elif origin is not None and origin.kind == "found" and is_sure(origin.path):
            for image in self._all_below(origin.path, copy, found, node_is_read):
                if fnmatch.fnmatchcase(
                    posixpath.basename(image.image.path), origin.name
                ):
                    found.sure.append(image)
        elif source.startswith("volume:"):
            named = [
                one for one in self.images if posixpath.basename(one.path) == source[7:]
            ]
            found.sure += [FoundImage(one, one.path) for one in named]
            found.doubt = found.doubt or (
                "" if named else "which guest's image that volume is is not known"
            )
        elif rsync.is_remote(source):
            self._elsewhere(source, found)
        elif not source.startswith("/"):
            found.doubt = found.doubt or "what it copies shows only when it runs"
        else:
            found.sure += self._all_below(source, copy, found, node_is_read)

    def _elsewhere(self, source: str, found: Copied) -> None:
        path = source.partition(":")[2].rstrip("/")
        looks = (
            _NAMES.search(path)
            or path.startswith(_FOLDERS)
            or any(_holds(path, one.path) for one in self.images)
        )
        if looks or not is_sure(source):
            found.doubt = (
                found.doubt
                or "whether the guests of the machine that it copies from hold still is not seen here"
            )
        else:
            found.doubt = (
                found.doubt
                or "whether images lie there on the other machine is not seen here"
            )

    def _all_below(
        self,
        source: str,
        copy: Copy,
        found: Copied,
        node_is_read: Callable[[str], bool],
    ) -> list[FoundImage]:
        source = plain_device(source)
        path, still = self._origin(source)
        result = []
        for image, way in _ways(path, self.images):
            is_itself = way != "below"
            if rsync.is_device(image.path) and not (
                copy.reads_devices and (is_itself or node_is_read(copy.tool))
            ):
                continue  # the node is copied, not what is on the device
            left_out = (
                copy.skips(source, source if is_itself else image.path)
                if not still
                else False
            )
            if left_out is True:
                continue
            if left_out is None:
                found.maybe_left_out = True
            elif way == "maybe" and (guests := self._named_guests(source)):
                found.of_guests += [one for one in guests if one not in found.of_guests]
            elif way == "maybe":
                found.doubt = (
                    found.doubt or "which images it copies shows only when it runs"
                )
            else:
                result.append(FoundImage(image, source, still))
        if (
            not is_sure(source)
            and not result
            and not found.doubt
            and self._may_be_copy(source)
        ):
            found.doubt = "what it copies shows only when it runs"
        if (
            not result
            and path != source
            and (path == UNKNOWN or path.startswith("/dev/"))
        ):
            found.doubt = (
                found.doubt or "which images lie on that snapshot is not known"
            )
        result += self._copies_below(source)
        if not self.images:
            found.doubt = found.doubt or "no guest's image is known here"
        return result

    def _named_guests(self, source: str) -> list[str]:
        """Guests that virsh lists and the path is named after."""
        return [
            one for one in source if (self.origins.of(one) or Origin()).kind == "guest"
        ]

    def _may_be_copy(self, source: str) -> bool:
        return any(_way(source, path) for path, _ in self.copies)

    def _copies_below(self, source: str) -> list[FoundImage]:
        """Copies that the job made before, at *source*."""
        found = []
        for path, image in self.copies:
            if image is not None and (_way(source, path) or _way(path, source)):
                found.append(
                    FoundImage(
                        DiskImage(image.path, None, image.guest, image.target),
                        source,
                        still=True,
                    )
                )
        return found[:20]

    def _origin(self, path: str) -> tuple[str, bool]:
        """*path* where it lay before the snapshots that the job took, and whether it is in one."""
        still = False
        for _ in range(_DEEPEST):
            named = _OF_A_SNAPSHOT.fullmatch(path)
            if named is not None:
                path, still = (named[1] or "") + (named[2] or "") or "/", True
                continue
            match = next(
                (
                    one
                    for one in self.snapshots
                    if path == one[0] or path.startswith(f"{one[0]}/")
                ),
                None,
            )
            if match is None:
                break
            path, still = match[1] + path[len(match[0]) :], still or match[2]
            if not path.startswith("/"):
                return UNKNOWN, still
        return path, still


def plain_device(path: str) -> str:
    """A logical volume has two names: /dev/mapper/GROUP-VOLUME, with hyphens doubled, is /dev/GROUP/VOLUME."""
    match = re.fullmatch(r"/dev/mapper/((?:[^-/]|--)+)-((?:[^-/]|--)+)", path)
    return f"/dev/{match[1]}/{match[2]}".replace("--", "-") if match else path


def _ways(source: str, images: list[DiskImage]) -> Iterator[tuple[DiskImage, str]]:
    """The images at or below *source*, and how each lies there."""
    plain = (
        "*" not in source
        and "?" not in source
        and "[" not in source
        and is_sure(source)
    )
    start = (
        posixpath.normpath(source).rstrip("/") + "/"
        if plain and source.startswith("/")
        else ""
    )
    for image in images:
        if plain and not f"{image.path}/".startswith(start):
            continue
        way = _way(source, image.path)
        if way is not None:
            yield image, way


def _way(source: str, path: str) -> str | None:
    """How *path* is at *source*: "itself", "below", "maybe" where that is not sure; None where it is not."""
    if is_sure(source):
        plain = posixpath.normpath(source) if source.startswith("/") else source
        if path == plain or (
            _fits(path, plain) and plain.count("/") == path.count("/")
        ):
            return "itself"
        return "below" if _holds(plain, path) else None
    if not source.startswith("/"):
        return None
    if not path.startswith(sure_part(source)) and not sure_part(source).startswith(
        path
    ):
        return None
    expression = pattern(source.rstrip("/"))
    if expression.fullmatch(path):
        return "maybe"
    return (
        "maybe"
        if any(expression.fullmatch(path[:end]) for end in _ends(path))
        else None
    )


def _ends(path: str) -> Iterable[int]:
    return (number for number, letter in enumerate(path) if letter == "/" and number)


def _holds(source: str, path: str) -> bool:
    """Is *path* at or below *source*, which may be a pattern?"""
    if not source.startswith("/"):
        return False
    return (
        path == source
        or path.startswith(source.rstrip("/") + "/")
        or _fits(path, source)
    )


def _fits(path: str, glob: str) -> bool:
    ours, theirs = path.split("/"), glob.split("/")
    return len(ours) >= len(theirs) and all(map(fnmatch.fnmatchcase, ours, theirs))
