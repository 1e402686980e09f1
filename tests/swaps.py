"""Somebody who may write in a folder lets a name mean another file, at any moment of a look or a change."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

NOBODY = 65534
#: what looks names up; what is done to an open file is the same whatever happens to its name
_LOOK_UPS = ("access", "link", "listdir", "lstat", "open", "readlink", "rename", "scandir", "stat", "unlink")
#: functions of ours that do so by ctypes: to a profiler these are no calls of the system's modules
_BY_CTYPES = ("_openat2", "exchange")


class Moment:
    """Counts the calls that look names up, and acts before one of them (0: before none)."""

    def __init__(self, at: int, act: Callable[[], None]) -> None:
        self._at, self._act, self.count = at, act, 0

    def _before(self, frame: FrameType, event: str, called: Any) -> None:
        by_module = event == "c_call" and getattr(called, "__module__", "") == "posix" and called.__name__ in _LOOK_UPS
        by_ctypes = event == "call" and frame.f_code.co_name in _BY_CTYPES
        if not by_module and not by_ctypes:
            return
        self.count += 1
        if self.count == self._at:
            sys.setprofile(None)
            self._act()

    @contextmanager
    def awaited(self) -> Iterator[None]:
        sys.setprofile(self._before)
        try:
            yield
        finally:
            sys.setprofile(None)


class Scene:
    """A home that belongs to another user, with a folder of files in it; and a folder of root's with the same names."""

    def __init__(self, top: Path, name: str, content: bytes) -> None:
        self.home, self.outside = top / "home", top / "outside"
        self.declared = self.home / "declared"
        self.file = self.declared / "sub" / name
        self.target = self.outside / "sub" / name
        for path, data in ((self.file, content), (self.target, content)):
            path.parent.mkdir(parents=True)
            with path.open("wb") as stream:
                stream.write(data)
                os.fsync(stream.fileno())
        self.target.chmod(0o600)
        for path in (self.home, self.declared, self.file.parent, self.file):
            os.chown(path, NOBODY, NOBODY)
        self._was = self._seen()

    def _seen(self) -> list[object]:
        """All that can be seen of what lies outside."""
        found: list[object] = []
        for path in sorted((self.outside, *self.outside.rglob("*"))):
            one = path.lstat()
            # a hard link of the other user's counts, and changes st_ctime: that is all that he may do
            found.append((str(path), one.st_ino, one.st_mode, one.st_uid, one.st_size, one.st_blocks, one.st_mtime_ns))
            found.append(path.read_bytes() if path.is_file() else None)
        return found

    def expect_untouched(self, said: str = "") -> None:
        """What lies outside is as it was, and nothing *said* names it."""
        assert self._seen() == self._was
        assert str(self.outside) not in said

    # What the other user does

    def _link(self, path: Path, to: Path) -> None:
        path.rename(path.with_name(f"{path.name}.moved"))
        path.symlink_to(to)
        os.lchown(path, NOBODY, NOBODY)

    def file_to_link(self) -> None:
        self._link(self.file, self.target)

    def folder_to_link(self) -> None:
        self._link(self.file.parent, self.target.parent)

    def declared_to_link(self) -> None:
        self._link(self.declared, self.outside)

    def home_to_link(self) -> None:
        """The parent of what was declared belongs to him too."""
        self.file_to_link()
        self._link(self.declared, self.outside)

    def file_to_hard_link(self) -> None:
        """Where fs.protected_hardlinks is 0 (proc_sys_fs(5))."""
        self.file.unlink()
        os.link(self.target, self.file)

    def file_to_pipe(self) -> None:
        self.file.rename(self.file.with_name("moved"))
        os.mkfifo(self.file)

    def file_to_another(self) -> None:
        self.file.rename(self.file.with_name("moved"))
        self.file.write_bytes(b"another")
        os.chown(self.file, NOBODY, NOBODY)

    def file_to_none(self) -> None:
        self.file.unlink()


SWAPS: list[Callable[[Scene], None]] = [
    Scene.file_to_link,
    Scene.folder_to_link,
    Scene.declared_to_link,
    Scene.home_to_link,
    Scene.file_to_hard_link,
    Scene.file_to_pipe,
    Scene.file_to_another,
    Scene.file_to_none,
]
