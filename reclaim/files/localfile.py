"""A text file of this machine read and replaced by descriptors: for declared jobs, in whoever's folder they lie."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from reclaim.base.errors import ChangeFailed, NotAssessable, ProbeError
from reclaim.files import replace
from reclaim.files.beneath import File, Folder, file_id, open_in
from reclaim.files.holes import Identity
from reclaim.files.replace import HeldFile

_CHANGED = "the file has changed since it was read; nothing was changed"
_EXISTS = "the file exists by now; nothing was changed"


def read(path: str, most: int) -> bytes:
    """Return the first *most* bytes of the file at *path*. Raises ProbeError, NotAssessable if it is no file."""
    try:
        descriptor = File.at(path).open(label=path)
    except FileNotFoundError as exc:
        raise ProbeError(f"{path}: no such file") from exc
    except OSError as exc:
        raise ProbeError(f"{path}: {exc.strerror}") from exc
    try:
        return _bytes_of(descriptor, most)
    except OSError as exc:
        raise ProbeError(f"{path}: {exc.strerror}") from exc
    finally:
        os.close(descriptor)


def _bytes_of(descriptor: int, most: int) -> bytes:
    data = bytearray()
    while len(data) < most and (
        piece := os.pread(descriptor, most - len(data), len(data))
    ):
        data += piece
    return bytes(data)


def holds(path: str, content: bytes | None) -> bool:
    """True if the file at *path* holds *content* (None: there is none). Raises ProbeError if that cannot be seen."""
    if content is not None:
        try:
            return read(path, len(content) + 1) == content
        except (ProbeError, NotAssessable):
            return False
    try:
        with _folder_of(path) as (folder, name):
            return replace.called(folder, name) is None
    except OSError as exc:
        raise ProbeError(f"{path}: {exc.strerror}") from exc


def write(path: str, expected: bytes | None, wanted: bytes | None) -> None:
    """Let the file at *path*, which holds *expected* (None: there is none), hold *wanted* (None: be gone).

    A crash leaves the old file or the new one; who has the old one open keeps it. Owner, mode, access lists and labels
    are those of the old file. Raises ChangeFailed, with the file as it was.
    """
    try:
        if expected is None:
            _make(path, wanted)
            return
        with _held(path) as held:
            if _bytes_of(held.descriptor, len(expected) + 1) != expected:
                raise ChangeFailed(_CHANGED)
            _remove(held) if wanted is None else _replace(held, wanted)
    except OSError as exc:
        raise ChangeFailed(f"{exc.strerror}; the file is as it was") from exc
    except (ProbeError, NotAssessable) as exc:
        raise ChangeFailed(
            f"{str(exc).removeprefix(f'{path}: ')}; nothing was changed"
        ) from exc


def left_beside(path: str) -> list[str]:
    """Return the paths of the files that a killed `write` left beside the file. Empty if the folder cannot be read."""
    try:
        with _folder_of(path) as (folder, name):
            names = [
                other
                for other in os.listdir(folder)
                if replace.beside_of(other) == replace.cut(name)
            ]
    except (OSError, ProbeError):
        return []
    return [os.path.join(os.path.dirname(path), other) for other in sorted(names)]


def sweep(path: str, *contents: bytes | None) -> None:
    """Remove the file that a killed `write` left beside the file: one by that name with one of *contents*.

    Raises ChangeFailed.
    """
    try:
        with _folder_of(path) as (folder, name):
            for left in os.listdir(folder):
                if replace.beside_of(left) == replace.cut(name) and _is_one_of(
                    folder, left, contents
                ):
                    os.unlink(left, dir_fd=folder)
    except (OSError, ProbeError) as exc:
        raise ChangeFailed(
            f"{path}: the file left beside it cannot be removed: {exc}"
        ) from exc


def _is_one_of(folder: int, name: str, contents: tuple[bytes | None, ...]) -> bool:
    try:
        descriptor = open_in(folder, name, name)
    except (ProbeError, NotAssessable):
        return False
    try:
        return any(
            content is not None and _bytes_of(descriptor, len(content) + 1) == content
            for content in contents
        )
    finally:
        os.close(descriptor)


@contextmanager
def _held(path: str) -> Iterator[HeldFile]:
    try:
        file = File.at(path)
    except OSError as exc:
        raise ChangeFailed(f"the file cannot be read: {exc.strerror}") from exc
    with file.parent() as (folder, name):
        descriptor = open_in(folder, name, path)
        read = Identity.of(os.fstat(descriptor))

        def still_ours() -> None:
            if Identity.of(os.fstat(descriptor)) != read:
                raise ChangeFailed(_CHANGED)

        try:
            yield HeldFile(descriptor, folder, name, still_ours)
        finally:
            os.close(descriptor)


@contextmanager
def _folder_of(path: str) -> Iterator[tuple[int, str]]:
    """Yield the folder of a file that need not be there, open, and its name. Raises OSError, ProbeError."""
    try:
        place = File.at(path).parent()
    except FileNotFoundError:
        above, name = os.path.split(path)
        place = File(Folder.at(above), name).parent()
    with place as (folder, name):
        yield folder, name


def _replace(held: HeldFile, wanted: bytes) -> None:
    before = os.fstat(held.descriptor)
    spare = replace.beside(held.name, before.st_ino)
    new = replace.made_beside(held.folder, spare)
    try:
        _fill(new, wanted)
        replace.take_over(held.descriptor, new, before)
        os.fsync(new)
        replace.put_in_place(held, new, spare)
    finally:
        replace.drop(new, held.folder, spare)
        os.close(new)


def _remove(held: HeldFile) -> None:
    if replace.called(held.folder, held.name) != file_id(os.fstat(held.descriptor)):
        raise ChangeFailed(_CHANGED)
    os.unlink(held.name, dir_fd=held.folder)
    os.fsync(held.folder)


def _make(path: str, wanted: bytes | None) -> None:
    with _folder_of(path) as (folder, name):
        if replace.called(folder, name) is not None:
            raise ChangeFailed(_EXISTS)
        if wanted is None:
            return
        spare = replace.beside(name, 0)
        new = replace.made_beside(folder, spare)
        try:
            _fill(new, wanted)
            os.fchmod(new, stat.S_IRUSR | stat.S_IWUSR | stat.S_IRGRP | stat.S_IROTH)
            os.fsync(new)
            try:
                os.link(
                    f"/proc/self/fd/{new}",
                    name,
                    dst_dir_fd=folder,
                    follow_symlinks=True,
                )
            except FileExistsError as exc:
                raise ChangeFailed(_EXISTS) from exc
            os.fsync(folder)
        finally:
            replace.drop(new, folder, spare)
            os.close(new)


def _fill(new: int, content: bytes) -> None:
    written = 0
    while written < len(content):
        written += os.pwrite(new, content[written:], written)
