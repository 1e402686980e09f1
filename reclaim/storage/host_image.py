"""A disk's image as the hypervisor sees it: a file or a device, its first bytes, and the storage that it lies on.

The hypervisor's shell runs one script, so that another machine answers like this one. Sizes in bytes.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from weakref import WeakKeyDictionary

from reclaim.base.errors import NotAssessable, ProbeError
from reclaim.handles.node import Node
from reclaim.processes import limited, shell_script
from reclaim.storage import qcow2
from reclaim.storage.qcow2 import Qcow2

#: seconds for one script: a dead network mount never answers
_SECONDS = 60
_MAX_SNAPSHOT_TABLE = 65_536
#: snapshots that are named
_NAMED = 5


@dataclass(frozen=True)
class HostImage:
    """An image as the hypervisor sees it.

    `device` tells filesystems apart; for a block device (`is_device`) it is the device itself.
    `allocated` is held by the filesystem (`st_blocks` * 512), for a thin volume by its pool; None for other devices.
    """

    path: str
    is_device: bool
    device: str
    length: int
    allocated: int | None
    filesystem: str = ""
    #: sysfs queue/discard_max_bytes and discard_granularity of a device; None if sysfs does not have it
    discard_max: int | None = None
    discard_granularity: int | None = None
    #: the device mapper's targets of a device, those of the devices below, and its owner (its uuid's prefix); empty
    #: for others
    targets: tuple[str, ...] = ()
    below: tuple[str, ...] = ()
    mapper: str = ""
    head: bytes = b""
    #: the path without symbolic links
    real: str = ""

    @property
    def inside(self) -> int | None:
        """Return `allocated`, less the bytes that a filesystem holds behind the end of the file.

        XFS allocates ahead of a file that grows, as much again as it has (xfs(5), allocsize).
        """
        if self.is_device or self.allocated is None:
            return self.allocated
        return min(self.allocated, self.length)

    @property
    def folder(self) -> str:
        """Return the folder that the file lies in, on its own filesystem."""
        return str(PurePosixPath(self.real or self.path).parent)


#: stat's %s|%b|%B are decimal, its %D|%t|%T hexadecimal (stat(1)); of a size that a file can have
_COUNTS = re.compile(
    r"(?:[0-9]{1,19}\|){3}[0-9a-f]{1,16}\|[0-9a-f]{1,8}\|[0-9a-f]{1,8}"
)

#: stat's hexadecimal numbers, sysfs of the device or of the disk that a partition lies on, the device mapper
_LOOK = (
    shell_script.HEAD
    + shell_script.SAY
    + r"""
below() {
    for name in "$1"/slaves/*/dm/name; do
        [ -r "$name" ] || continue
        dmsetup table -- "$(cat "$name")"
        below "${name%/dm/name}"
    done
}
status=$(stat -L -c '%F|%s|%b|%B|%D|%t|%T' -- "$1" 2>&1) || { say error "$status"; exit 0; }
say stat "$status"
say real "$(readlink -f -- "$1")"
case $status in
regular*) say filesystem "$(stat -L -f -c %T -- "$1")" ;;
'block special'*)
    numbers=${status#*|*|*|*|*|}
    sys=/sys/dev/block/$((0x${numbers%|*})):$((0x${numbers#*|}))
    say sectors "$(cat "$sys/size")"
    queue=$sys/queue
    [ -d "$queue" ] || queue=$sys/../queue
    say max "$(cat "$queue/discard_max_bytes")"
    say granularity "$(cat "$queue/discard_granularity")"
    if [ -r "$sys/dm/name" ]; then
        say mapper "$(cat "$sys/dm/uuid")"
        say table "$(dmsetup table -- "$(cat "$sys/dm/name")")"
        say below "$(below "$sys")"
        say status "$(dmsetup status -- "$(cat "$sys/dm/name")")"
    fi ;;
*) exit 0 ;;
esac 2>/dev/null
printf 'head '
{ head -c 112 -- "$1" | base64 | tr -d '\n'; } 2>/dev/null
printf '\n'
"""
)


def look(hypervisor: Node, path: str) -> HostImage:
    """Return the image at *path*. Raises ProbeError if it cannot be looked at, NotAssessable if there is none."""
    seen = _run(hypervisor, path, _LOOK, path)
    if problem := seen.get("error"):
        message = " ".join(_text(problem).split())[:300] or f"{path}: stat failed"
        # a pool that is not mounted, an image that was moved: nothing is wrong with looking
        if message.endswith("No such file or directory"):
            raise NotAssessable(message)
        raise ProbeError(message)
    fields = _text(seen.get("stat", b"")).split("|")
    if len(fields) != 7 or not _COUNTS.fullmatch("|".join(fields[1:])):
        raise ProbeError(f"{path}: the output of stat cannot be parsed")
    kind = fields[0]
    if kind.startswith("regular"):
        return _file(path, fields, seen)
    if kind == "block special file":
        return _device(path, fields, seen)
    raise NotAssessable(f"{path}: a {kind}, not an image")


def _file(path: str, fields: list[str], seen: dict[str, bytes]) -> HostImage:
    """Return the image file at *path*, from the *fields* of stat and the other answers of `_LOOK`."""
    _, length, blocks, unit, device, _, _ = fields
    real = seen.get("real", b"").decode("utf-8", errors="surrogateescape")
    return HostImage(
        path,
        False,
        device,
        int(length),
        int(blocks) * int(unit),
        _text(seen.get("filesystem", b"")),
        head=seen.get("head", b""),
        real=real,
    )


def _device(path: str, fields: list[str], seen: dict[str, bytes]) -> HostImage:
    """Return the block device at *path*, from the *fields* of stat and the other answers of `_LOOK`."""
    major, minor = fields[-2:]
    return HostImage(
        path,
        True,
        f"{major}:{minor}",
        (_number(seen, "sectors") or 0) * 512,
        thin_bytes(_text(seen.get("status", b""))),
        discard_max=_number(seen, "max"),
        discard_granularity=_number(seen, "granularity"),
        targets=_targets(seen, "table"),
        below=_targets(seen, "below"),
        mapper=_text(seen.get("mapper", b"")).partition("-")[0],
        head=seen.get("head", b""),
    )


def _targets(seen: dict[str, bytes], name: str) -> tuple[str, ...]:
    """Return the targets in the output of `dmsetup table`: the third word of each line."""
    lines = (line.split() for line in _text(seen.get(name, b"")).splitlines())
    return tuple(columns[2] for columns in lines if len(columns) > 2)


def thin_bytes(status: str) -> int | None:
    """Return the bytes that the pool holds for a thin volume, by `dmsetup status`; None for any other device.

    Its words: start, length, `thin`, mapped sectors, highest mapped sector (Linux's thin-provisioning.rst).
    """
    columns = status.split()
    if columns[2:3] != ["thin"]:
        return None
    mapped = "".join(columns[3:4])
    return int(mapped) * 512 if re.fullmatch(r"[0-9]{1,18}", mapped) else None


def header(hypervisor: Node, image: HostImage) -> Qcow2:
    """Return the qcow2 header of *image*. Raises NotAssessable if it has none, or a broken one."""
    if not image.head:
        raise NotAssessable(f"{image.path}: its header cannot be read")
    if not image.head.startswith(qcow2.MAGIC):
        raise NotAssessable(
            f"{image.path}: it is defined as qcow2 and does not begin like one"
        )

    def read(offset: int, length: int) -> bytes:
        if offset + length <= len(image.head) or offset == 0:
            return image.head[offset : offset + length]
        return read_bytes(hypervisor, image.path, offset, length)

    return qcow2.parse(read, None if image.is_device else image.length, image.path)


def snapshots(hypervisor: Node, image: HostImage, head: Qcow2) -> list[str]:
    """Return the names of a few of its internal snapshots."""
    if not head.snapshots:
        return []
    table = read_bytes(hypervisor, image.path, head.snapshots_at, _MAX_SNAPSHOT_TABLE)
    return qcow2.snapshot_names(head, table, _NAMED)


_READ = r"""
printf 'bytes '
{ tail -c "+$(($2 + 1))" -- "$1" | head -c "$3" | base64 | tr -d '\n'; } 2>/dev/null
printf '\n'
"""


def read_bytes(hypervisor: Node, path: str, offset: int, length: int) -> bytes:
    """Return bytes of an image; fewer if it ends before.

    Raises ProbeError, and NotAssessable for an impossible offset.
    """
    if not 0 <= offset < 2**62:
        raise NotAssessable(f"{path}: broken qcow2 header: it points behind any file")
    return _run(hypervisor, path, _READ, path, str(offset), str(length)).get(
        "bytes", b""
    )


# The storage below ----------------------------------------------------------------------------

_WRITTEN, _PIECE = 1024 * 1024, 64 * 1024
#: A file of ours in the image's folder: made anew (noclobber opens it with O_EXCL), and without a name before
#: anything is written, so that nothing of it is left whatever happens. Random bytes: zeros or text would be compressed.
_PUNCH = (
    shell_script.HEAD
    + shell_script.SAY
    + r"""
command -v fallocate >/dev/null || { say unseen 'fallocate is not installed there (util-linux)'; exit 0; }
name=$(mktemp -u -- "$1/.reclaim-probe.XXXXXXXXXX") || exit 1
trap 'rm -f -- "$name"' EXIT
trap 'exit 1' HUP INT TERM
set -C
exec 3>"$name"
rm -f -- "$name"
ours=/proc/self/fd/3
held() { sync "$ours" 2>/dev/null; stat -L -c %b "$ours"; }
head -c "$2" /dev/urandom >&3 || exit 1
written=$(held)
say written "$written"
said=$(fallocate -p -o 0 -l "$3" "$ours" 2>&1) || { say refused "${said##*: }"; exit 0; }
say piece "$(held)"
fallocate -p -o 0 -l "$2" "$ours" || exit 1
# ZFS counts what it freed when its transaction group is written, after some seconds
for second in 1 2 3 4 5 6 7 8 9 10; do
    [ $(((written - $(held)) * 1024)) -ge "$2" ] && break
    sleep 1
done
say rest "$(held)"
"""
)


@dataclass(frozen=True)
class Punch:
    """The result of holes punched in a file of ours: bytes held before, after a piece of 64 KiB, and after the rest.

    `refused` is the filesystem's error instead.
    """

    written: int = 0
    piece: int = 0
    rest: int = 0
    refused: str = ""

    @property
    def frees(self) -> bool:
        """True if it gave blocks back."""
        # not measured by the rest: XFS holds more than was written, for later writes
        return not self.refused and self.written - self.rest >= _WRITTEN // 2

    @property
    def frees_pieces(self) -> bool:
        """True if it gave back a hole of one cluster."""
        return self.frees and self.written - self.piece >= _PIECE // 2


_probed: WeakKeyDictionary[Node, dict[str, Punch | NotAssessable]] = WeakKeyDictionary()


def punched(hypervisor: Node, image: HostImage) -> Punch:
    """Return how the filesystem of *image* takes holes; each is asked once. Raises NotAssessable."""
    known = _probed.setdefault(hypervisor, {})
    if image.device not in known:
        try:
            known[image.device] = _punch(hypervisor, image.folder)
        except NotAssessable as exc:
            known[image.device] = exc
    outcome = known[image.device]
    if isinstance(outcome, NotAssessable):
        raise NotAssessable(str(outcome))
    return outcome


def _punch(hypervisor: Node, folder: str) -> Punch:
    problem = f"{folder}: reclaim cannot test whether its filesystem frees holes"
    try:
        seen = _run(hypervisor, folder, _PUNCH, folder, str(_WRITTEN), str(_PIECE))
    except ProbeError as exc:
        raise NotAssessable(f"{problem}: {exc}") from exc
    if unseen := seen.get("unseen"):
        raise NotAssessable(f"{problem}: {_text(unseen)}")
    written = (_number(seen, "written") or 0) * 512
    refused = _text(seen.get("refused", b""))
    if refused:
        # its own words for EOPNOTSUPP
        if not re.search("not supported|unsupported", refused, re.IGNORECASE):
            raise NotAssessable(f"{problem}: {refused}")
        return Punch(written, refused=f"fallocate says {refused}")
    piece, rest = _number(seen, "piece"), _number(seen, "rest")
    if written < _WRITTEN // 2 or piece is None or rest is None:
        raise NotAssessable(f"{problem}: it does not count blocks")
    return Punch(written, piece * 512, rest * 512)


# Asking ---------------------------------------------------------------------------------------


def _run(hypervisor: Node, path: str, script: str, *arguments: str) -> dict[str, bytes]:
    """Return the answers of *script*: lines of a name and base64. Raises ProbeError if it fails or does not end."""
    result = limited.run_script(hypervisor.shell, _SECONDS, script, *arguments)
    if result.rc != 0:
        raise ProbeError(f"{path}: {limited.why_failed(result, _SECONDS)}")
    return answers(
        result.stdout, f"{path}: the answer of the hypervisor's shell cannot be parsed"
    )


def answers(output: str, problem: str) -> dict[str, bytes]:
    """Parse lines of a name and base64. Raises ProbeError with *problem* if there are others."""
    parsed: dict[str, bytes] = {}
    for line in output.splitlines():
        name, _, data = line.partition(" ")
        try:
            parsed[name] = base64.b64decode(data, validate=True)
        except (binascii.Error, ValueError) as exc:
            raise ProbeError(problem) from exc
    return parsed


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="replace").strip()


def _number(seen: dict[str, bytes], name: str) -> int | None:
    text = _text(seen.get(name, b""))
    return int(text) if re.fullmatch(r"[0-9]{1,20}", text) else None
