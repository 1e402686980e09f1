"""Points at which a run can be cut: every call by which it changes a file below one folder, or a guest.

`install` wraps the calls in this process. A first run counts them by label; a later one is killed at one of them,
or has it fail with an error of the operating system. A point is named by label and number (the fifth `fsync
journal.jsonl`), so that a change of the code elsewhere does not move it.
"""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import libvirt

#: names that differ from run to run: of runs, of temporary files
_RUN = re.compile(r"\d{8}T\d{6}Z-(audit|plan|fix)(-\d+)?")
_TEMPORARY = re.compile(r"(?<=reclaim[-.])[A-Za-z0-9_]{6,}(?=$|\.|/)|(?<=\.)\d+(?=(\.raw)?\.new$)")
#: calls with one path that change something, by the module `os`
_ONE_PATH = ("unlink", "remove", "rmdir", "mkdir", "truncate")
_TWO_PATHS = ("rename", "replace", "link", "symlink")
_BY_DESCRIPTOR = ("fsync", "fdatasync", "ftruncate", "fchmod", "fchown")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
#: calls that change a guest, or may
OF_CONNECTION = ("defineXML", "defineXMLFlags")
OF_DOMAIN = (
    "create",
    "createWithFlags",
    "shutdown",
    "shutdownFlags",
    "destroy",
    "destroyFlags",
    "updateDeviceFlags",
    "attachDeviceFlags",
    "detachDeviceFlags",
    "undefine",
    "undefineFlags",
)


#: what fails from then on where an error stays: a full disk, one that is read-only, a table of open files that is full
_FAILS = {
    "ENOSPC": ("open", "write", "pwrite", "fsync", "mkdir", "symlink", "link"),
    "EROFS": ("open", *_ONE_PATH, *_TWO_PATHS),
    "EMFILE": ("open", "run"),
    "EIO": ("write", "pwrite", "fsync"),
}


@dataclass(frozen=True)
class Cut:
    """What happens at one point: `act` is "kill" or the name of an errno; `when` before, after or in the half of it.

    `stays`: everything that writes fails from there on, as on a disk that is full.
    """

    label: str
    number: int
    when: str = "before"
    act: str = "kill"
    stays: bool = False

    def __str__(self) -> str:
        return f"{self.act} {self.when} {self.label} {self.number}"


@dataclass
class Watch:
    """Counts the points of this process, and cuts at one of them."""

    root: str
    cut: Cut | None = None
    counts: Counter[str] = field(default_factory=Counter)
    seen: list[tuple[str, int]] = field(default_factory=list)
    _failing: bool = False

    def pass_by(self, label: str | None, call: Callable[[], Any], half: Callable[[], Any] | None = None) -> Any:
        """Do *call*, which is the point *label*; `None`: it is none."""
        if label is None:
            return call()
        self.counts[label] += 1
        number = self.counts[label]
        self.seen.append((label, number))
        cut = self.cut
        hit = cut is not None and (cut.label, cut.number) == (label, number)
        if self._failing and cut is not None and label.startswith(_FAILS.get(cut.act, ())):
            self._act()
        if cut is None or not hit:
            return call()
        if cut.when == "half" and half is not None:
            half()
        if cut.when != "after":
            self._act()
        try:
            return call()
        finally:  # a call that fails is a point too: many an unlink finds nothing
            if cut.when == "after":
                self._act()

    def _act(self) -> None:
        assert self.cut is not None
        if self.cut.act == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.cut.act == "libvirt":
            raise hung_up()
        self._failing = self.cut.stays
        number = getattr(errno, self.cut.act)
        raise OSError(number, os.strerror(number))

    def label(self, call: str, path: Any, folder: int | None = None) -> str | None:
        """The name of *call* on *path*, which may be a descriptor; None outside of the folder."""
        shown = self._within(path, folder)
        return f"{call} {shown}" if shown else None

    def _within(self, path: Any, folder: int | None = None) -> str | None:
        try:
            text = os.readlink(f"/proc/self/fd/{path}") if isinstance(path, int) else os.fsdecode(path)
            if folder is not None and not os.path.isabs(text):
                text = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), text)
        except OSError:
            return None
        text = os.path.abspath(text)
        if text != self.root and not text.startswith(self.root + "/"):
            return None
        text = text.removeprefix(self.root).removesuffix(" (deleted)").lstrip("/") or "."
        if re.search(r"#\d+$", text):
            text = re.sub(r"#\d+$", "#unnamed", text)
        return normal(text)


def hung_up() -> libvirt.libvirtError:
    """What libvirt's binding raises once its daemon is gone."""
    error = libvirt.libvirtError("Cannot write data: Broken pipe")
    words = "Cannot write data: Broken pipe"
    error.err = (libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_FROM_RPC, words, 2, words, None, None, errno.EPIPE, -1)
    return error


def normal(text: str) -> str:
    """*text* without what differs from run to run."""
    return _TEMPORARY.sub("*", _RUN.sub(r"RUN-\1", text))


def install(watch: Watch, persist: Callable[[Any], None] | None = None) -> None:
    """Wrap the calls. *persist* is given the connection after each definition that was made."""
    _wrap_os(watch)
    _wrap_streams(watch)
    _wrap_libvirt(watch, persist)
    _wrap_programs(watch)


def _wrap_os(watch: Watch) -> None:
    for name in _ONE_PATH:
        _replace(os, name, _one_path(watch, name, getattr(os, name)))
    for name in _TWO_PATHS:
        _replace(os, name, _two_paths(watch, name, getattr(os, name)))
    for name in _BY_DESCRIPTOR:
        _replace(os, name, _by_descriptor(watch, name, getattr(os, name)))
    opened, write, pwrite = os.open, os.write, os.pwrite

    def open_(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        label = watch.label("open", path, dir_fd) if flags & _WRITES else None
        return int(watch.pass_by(label, lambda: opened(path, flags, mode, dir_fd=dir_fd)))

    def write_(descriptor: int, data: Any) -> int:
        half = bytes(data)[: len(data) // 2]
        label = watch.label("write", descriptor)
        return int(watch.pass_by(label, lambda: write(descriptor, data), lambda: write(descriptor, half)))

    def pwrite_(descriptor: int, data: Any, offset: int) -> int:
        half = bytes(data)[: len(data) // 2]
        label = watch.label("pwrite", descriptor)
        return int(
            watch.pass_by(label, lambda: pwrite(descriptor, data, offset), lambda: pwrite(descriptor, half, offset))
        )

    os.open, os.write, os.pwrite = open_, write_, pwrite_


def _replace(module: Any, name: str, call: Callable[..., Any]) -> None:
    setattr(module, name, call)


def _one_path(watch: Watch, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(path: Any, *more: Any, dir_fd: int | None = None, **named: Any) -> Any:
        given = named if dir_fd is None else {**named, "dir_fd": dir_fd}
        return watch.pass_by(watch.label(name, path, dir_fd), lambda: call(path, *more, **given))

    return wrapped


def _two_paths(watch: Watch, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(one: Any, other: Any, *more: Any, **named: Any) -> Any:
        folder = named.get("dst_dir_fd", named.get("dir_fd"))
        return watch.pass_by(watch.label(name, other, folder), lambda: call(one, other, *more, **named))

    return wrapped


def _by_descriptor(watch: Watch, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(descriptor: int, *more: Any) -> Any:
        return watch.pass_by(watch.label(name, descriptor), lambda: call(descriptor, *more))

    return wrapped


def _wrap_streams(watch: Watch) -> None:
    """Let every file that is opened for writing below the folder write by a call that is counted."""
    plain = io.open

    class Counted(io.FileIO):
        def write(self, data: Any) -> int:
            size = len(data)
            done = watch.pass_by(
                watch.label("write", self.fileno()),
                lambda: super(Counted, self).write(data),
                lambda: super(Counted, self).write(bytes(data)[: size // 2]),
            )
            return int(done)

    def opened(file: Any, mode: str = "r", *more: Any, **named: Any) -> Any:
        label = watch.label("open", file) if set(mode) & set("wax+") else None
        if label is None:
            return plain(file, mode, *more, **named)
        return _counted(Counted, watch, label, file, mode, *more, **named)

    builtins.open = io.open = opened


def _counted(  # noqa: PLR0917 (as open has them)
    kind: type[io.FileIO],
    watch: Watch,
    label: str,
    file: Any,
    mode: str,
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,  # noqa: FBT001, FBT002 (as open has it)
    opener: Any = None,
) -> Any:
    binary = mode.replace("b", "").replace("t", "")
    descriptor = isinstance(file, int)
    raw = watch.pass_by(None if descriptor else label, lambda: kind(file, binary, closefd=closefd, opener=opener))
    if buffering == 0:
        return raw
    buffered = io.BufferedRandom(raw) if "+" in binary else io.BufferedWriter(raw)
    if "b" in mode:
        return buffered
    return io.TextIOWrapper(buffered, encoding, errors, newline)


def _wrap_libvirt(watch: Watch, persist: Callable[[Any], None] | None) -> None:
    for name in OF_CONNECTION:
        _replace(libvirt.virConnect, name, _of_libvirt(watch, name, getattr(libvirt.virConnect, name), persist))
    for name in OF_DOMAIN:
        _replace(libvirt.virDomain, name, _of_libvirt(watch, name, getattr(libvirt.virDomain, name), None))


def _of_libvirt(
    watch: Watch, name: str, call: Callable[..., Any], persist: Callable[[Any], None] | None
) -> Callable[..., Any]:
    def wrapped(handle: Any, *more: Any) -> Any:
        def really() -> Any:
            done = call(handle, *more)
            if persist is not None:
                persist(handle)
            return done

        return watch.pass_by(f"libvirt {name}", really)

    return wrapped


def _wrap_programs(watch: Watch) -> None:
    """Programs that are run may change files: a run can die before they start, and beside them."""
    start = subprocess.Popen.__init__

    def wrapped(self: Any, *more: Any, **named: Any) -> None:
        watch.pass_by("run a program", lambda: start(self, *more, **named))

    _replace(subprocess.Popen, "__init__", wrapped)
    from reclaim.files import holes  # noqa: PLC0415 (only where it is cut)

    punch = holes.punch
    _replace(holes, "punch", lambda *more: watch.pass_by(watch.label("fallocate", more[0]), lambda: punch(*more)))


def persisting(path: Path) -> Callable[[Any], None]:
    """What keeps the definitions of libvirt's test driver in the file that it read them from: it forgets them else."""
    opened, write, rename, fdopen = os.open, os.write, os.rename, os.close

    def persist(connection: Any) -> None:
        text = node_of(connection).encode()
        beside = f"{path}.beside"
        descriptor = opened(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        write(descriptor, text)
        fdopen(descriptor)
        rename(beside, path)

    return persist


def node_of(connection: Any) -> str:
    """The definitions of all guests as a file of the test driver, each as it is off."""
    flags = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
    state = "<test:runstate xmlns:test='http://libvirt.org/schemas/domain/test/1.0'>5</test:runstate></domain>"
    found = sorted(connection.listAllDomains(0), key=lambda domain: str(domain.name()))
    domains = [str(domain.XMLDesc(flags)).replace("</domain>", state) for domain in found]
    return f"<node>{''.join(domains)}</node>"


def told(watch: Watch) -> str:
    """The points of a run that was only counted, as JSON."""
    return json.dumps(watch.seen)


def cut_of(values: dict[str, Any] | None) -> Cut | None:
    return Cut(**values) if values else None


def to_json(cut: Cut | None) -> dict[str, Any] | None:
    return asdict(cut) if cut else None
