"""The steps of a job: copies, holds that keep guests still, and releases that end these."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from reclaim.jobs.calls import Branch, Call
from reclaim.jobs.rsync import Line

#: "run": the guest does not run; "overlay": it writes to another file; "frozen": the host's filesystem is frozen
Way = Literal["run", "overlay", "frozen"]


@dataclass(frozen=True)
class Wrong:
    """One fault of a command, whatever it copies, and the advice for mending it by hand."""

    text: str
    by_hand: str


def _nothing(source: str, path: str) -> bool | None:
    return False


@dataclass(frozen=True)
class Copy:
    """One command that copies files.

    `sources` and `target` are absolute as far as that is known; a remote one has its host before it. `reads_devices`:
    of a device node the content is copied, not the node. `skips(source, path)`: True if it leaves out a path below a
    source, None if that cannot be told. `at_once`: the copy is of one moment. `locks`: a guest that runs locks
    it out. `store`: why it cannot be judged how the copy is kept.
    """

    call: Call
    tool: str
    sources: tuple[str, ...]
    target: str = ""
    wrong: tuple[Wrong, ...] = ()
    good: str = ""
    store: str = ""
    reads_devices: bool = False
    one_filesystem: bool = False
    largest: int | None = None
    at_once: bool = False
    locks: bool = False
    skips: Callable[[str, str], bool | None] = _nothing
    rsync: Line | None = None
    #: what it writes is whole when it ends: if the job copies that on, that copy is judged in its place
    is_whole: bool = False
    #: it copies a guest's image, whatever its words say
    of_guest: str | None = None


@dataclass(frozen=True)
class Hold:
    """From here on guests do not write to the copied images. `guests`: their names; all if it is empty."""

    call: Call
    guests: tuple[str, ...]
    way: Way
    doubt: str = ""
    #: targets of disks that go on being written to
    spared: tuple[str, ...] = ()
    #: of the paths below this one alone
    path: str = ""


@dataclass(frozen=True)
class Release:
    """From here on they write again."""

    call: Call
    guests: tuple[str, ...]
    ways: tuple[Way, ...]


@dataclass(frozen=True)
class Snapshot:
    """`path` holds what `origin` held at one moment; not `still`: it is another name of it, as by a bind mount."""

    call: Call
    origin: str
    path: str
    still: bool = True


@dataclass(frozen=True)
class TrimStep:
    """The guests give back the blocks that they freed: `virsh domfstrim`. `guests`: their names or UUIDs."""

    call: Call
    guests: tuple[str, ...]


@dataclass(frozen=True)
class Wait:
    """The commands in the background have ended."""

    call: Call


@dataclass(frozen=True)
class NotUnderstood:
    """Something that could copy an image, and could also hold a guest still."""

    text: str
    branch: Branch = ()
    may_hold: bool = True


Step = Copy | Hold | Release | Snapshot | TrimStep | Wait | NotUnderstood


@dataclass
class Steps:
    """The steps of a job in their order."""

    all: list[Step] = field(default_factory=list)
    links_generations: bool = False
