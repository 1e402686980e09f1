"""Remembers between runs what the initramfs of each guest holds, so that an audit does not read it again.

Listing an initramfs is the slowest part of looking inside. An initramfs with the same inode, size and times has the
same content. A run that changes something looks for itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reclaim.base.errors import Untrusted
from reclaim.engine.part import Part
from reclaim.files import trust, whole
from reclaim.handles.guest import Guest
from reclaim.inside.facts import Kernel

#: beside the runs of a hypervisor
NAME = ".initramfs.json"
#: bytes of the file that are read: a fleet of 10,000 guests fits
_MOST = 64 * 1024 * 1024
#: kernels of one guest, modules and devices of one kernel that are kept
_MOST_KERNELS = 20
_MOST_NAMES = 100

_Name = Annotated[str, Field(max_length=300)]
_Names = Annotated[list[_Name], Field(max_length=_MOST_NAMES)]


class _MemoryPart(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class _Initramfs(_MemoryPart):
    stamp: Annotated[str, Field(pattern=r"^\d+:\d+:\d+:\d+$", max_length=100)]
    release: _Name
    initramfs: _Names
    lacking: _Names
    waits: _Names


class _Memory(_MemoryPart):
    schema_: Literal[1] = Field(default=1, alias="schema")
    #: by the UUID of the guest
    guests: dict[str, Annotated[list[_Initramfs], Field(max_length=_MOST_KERNELS)]]


def recall(part: Part) -> None:
    """Give the guests of *part* the kernels that earlier runs read. Without a file that is trusted they know none."""
    known = _read(part.folder.parent / NAME).guests
    for guest in part.guests:
        guest.known_kernels = tuple(map(_kernel, known.get(guest.uuid, ())))


def keep(part: Part) -> None:
    """Write down the kernels of the guests of *part*, and leave out guests that are gone.

    Raises OSError if the file cannot be written.
    """
    if part.unreached:
        return  # which guests are gone is not known
    path = part.folder.parent / NAME
    before = _read(path).guests
    here = {guest.uuid for guest in part.hypervisor.guests}
    after = {uuid: kernels for uuid, kernels in before.items() if uuid in here}
    for guest in part.guests:
        if guest.known_kernels:
            after[guest.uuid] = list(_entries(guest))
    if after != before:
        memory = _Memory(guests=after)
        whole.write(path, [memory.model_dump_json(by_alias=True)])


def _read(path: Path) -> _Memory:
    """Return the memory at *path*. Whatever is no memory, or could be another user's, is none."""
    with suppress(OSError, Untrusted, ValidationError):
        return _Memory.model_validate_json(trust.read(path, _MOST))
    return _Memory(guests={})


def _entries(guest: Guest) -> Iterator[_Initramfs]:
    for kernel in guest.known_kernels[:_MOST_KERNELS]:
        with suppress(ValidationError):  # a guest may print any names
            yield _Initramfs(
                stamp=kernel.stamp,
                release=kernel.release,
                initramfs=sorted(kernel.initramfs),
                lacking=sorted(kernel.lacking),
                waits=sorted(kernel.waits),
            )


def _kernel(entry: _Initramfs) -> Kernel:
    return Kernel(
        release=entry.release,
        builtin=frozenset(),
        initramfs=frozenset(entry.initramfs),
        problem=None,
        stamp=entry.stamp,
        lacking=frozenset(entry.lacking),
        waits=frozenset(entry.waits),
    )
