"""A job that makes backups, as declared in the inventory: its commands, and whether its copies stay sparse."""

from __future__ import annotations

import base64
import binascii
import errno
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from reclaim.backups import job_files
from reclaim.base.errors import NotAssessable, ProbeError
from reclaim.base.text import last_words, printable
from reclaim.definition.domain import Definition
from reclaim.files import localfile
from reclaim.handles.guest import Guest
from reclaim.handles.hypervisor import Hypervisor
from reclaim.inventory import BackupNotes
from reclaim.jobs import rsync
from reclaim.jobs.images import DiskImage, Map
from reclaim.jobs.judging import Assessment, Finding, Judge, Untrimmed, edited
from reclaim.jobs.shell import Unreadable
from reclaim.jobs.tools import steps_of
from reclaim.jobs.words import is_sure, sure_part
from reclaim.storage import btrfs

__all__ = [
    "Assessment",
    "Finding",
    "Job",
    "daemon_reload",
    "declared",
    "edited",
    "iter_lines",
    "why_not_edited",
]

#: bytes of a job's file that are read; a larger one is no cron line, unit or script
_MOST_BYTES = 512 * 1024
#: files that a job starts and that are read too
_MOST_FILES = 20
#: paths that are asked for at once
_AT_ONCE = 100
#: folders of programs that root runs anyway
_OF_THE_SYSTEM = tuple(
    f"{above}/{name}"
    for above in ("", "/usr", "/usr/local")
    for name in ("bin", "sbin")
)


@dataclass(eq=False)
class Job:
    """One declared job: a file on the hypervisor."""

    hypervisor: Hypervisor
    path: str
    notes: tuple[BackupNotes, ...]

    def source(self) -> bytes:
        """The file as it is now. Raises ProbeError, NotAssessable for a file too large to be a job."""
        data = (
            localfile.read(self.path, _MOST_BYTES + 1)
            if self.hypervisor.is_local
            else self._read_by_shell()
        )
        if len(data) > _MOST_BYTES:
            raise NotAssessable(
                f"{self.path}: more than {_MOST_BYTES} bytes: no cron table, unit or script"
            )
        if b"\0" in data:
            raise NotAssessable(
                f"{self.path}: a program, not a text that reclaim could read"
            )
        return data

    @property
    def left(self) -> list[str]:
        """Return the files that a killed edit left beside it. Only on this machine edits are made beside."""
        return localfile.left_beside(self.path) if self.hypervisor.is_local else []

    def _read_by_shell(self) -> bytes:
        command = "test -f %s && head -c %s -- %s | base64 -w 0"
        result = self.hypervisor.shell.run(
            command, self.path, str(_MOST_BYTES + 1), self.path
        )
        if result.rc != 0 or result.stderr.strip():
            words = last_words(result.stderr, most=1, silent="no such file")
            raise ProbeError(f"{self.path}: {words.rpartition(': ')[2]}")
        try:
            return base64.b64decode(result.stdout, validate=True)
        except binascii.Error as exc:
            raise ProbeError(f"{self.path}: it cannot be read") from exc

    def assess(self) -> Assessment:
        """Read the file, find the copies of images, judge each command. Raises ProbeError, NotAssessable."""
        return self._judge().judged()

    def untrimmed(self) -> Untrimmed:
        """The guests whose images it copies before they are trimmed. Raises ProbeError, NotAssessable."""
        names = {
            key: guest.name
            for guest in self.hypervisor.guests
            for key in (guest.uuid, guest.name)
        }
        return self._judge().untrimmed(names)

    def _judge(self) -> Judge:
        source = self.source()
        machine = _Machine(self)
        script = job_files.read(self.path, source, machine)
        is_rsnapshot = job_files.format_of(self.path, source) == "rsnapshot"
        images = Map(_images(self), script.origins)
        return Judge(
            steps_of(script),
            images,
            machine,
            is_rsnapshot=is_rsnapshot,
            whole=script.whole,
            asked=frozenset(script.asked),
        )


def declared(hypervisor: Hypervisor, notes: Iterable[BackupNotes]) -> list[Job]:
    """Return every declared job once, with all that is declared about it."""
    by_path: dict[str, list[BackupNotes]] = {}
    for declaration in notes:
        if declaration.job is not None:
            by_path.setdefault(str(declaration.job), []).append(declaration)
    jobs = []
    for path, declarations in by_path.items():
        jobs.append(Job(hypervisor, path, tuple(declarations)))
    return jobs


# What the commands are judged against ---------------------------------------------------------


def _images(job: Job) -> list[DiskImage]:
    """Return the images that could be copied: those that the inventory names, and the disks of all guests."""
    images = [DiskImage(path) for notes in job.notes for path in notes.images]
    for guest in job.hypervisor.guests:
        live = guest.live
        persistent = guest.persistent if guest.is_persistent else None
        _add_disks(images, guest, live, runs=True)
        _add_disks(images, guest, persistent, runs=False)
    return images + list(_by_other_names(job.hypervisor, images))


def _add_disks(
    images: list[DiskImage], guest: Guest, definition: Definition | None, *, runs: bool
) -> None:
    """Add the disks of one definition to *images*, but for those that a guest is known to write to."""
    if not definition:
        return
    for disk in definition.disks:
        path = disk.path
        if not path or any(path == image.path and image.running for image in images):
            continue
        running = guest.name if runs and not disk.readonly else None
        images.append(DiskImage(path, running, guest.name, disk.target, guest.uuid))


def _by_other_names(
    hypervisor: Hypervisor, images: list[DiskImage]
) -> Iterator[DiskImage]:
    """Yield the same images by the paths that symbolic links lead to."""
    named = [image for image in images if image.path.isprintable()]
    if hypervisor.is_local:
        for image in named:
            yield from _at(image, os.path.realpath(image.path))
        return
    for start in range(0, len(named), _AT_ONCE):
        some = named[start : start + _AT_ONCE]
        command = " ".join(("realpath -m --", *["%s"] * len(some)))
        output = hypervisor.shell.run(command, *(image.path for image in some)).stdout
        paths = output.splitlines()
        if len(paths) != len(some):
            continue
        for image, path in zip(some, paths, strict=True):
            yield from _at(image, path)


def _at(image: DiskImage, path: str) -> Iterator[DiskImage]:
    """Yield *image* at *path*, if that is another one."""
    if path != image.path:
        yield replace(image, path=path)


@dataclass
class _Machine:
    """The hypervisor that the job runs on."""

    job: Job
    _texts: dict[str, bytes | str] = field(default_factory=dict)
    _devices: dict[str, bool] = field(default_factory=dict)
    _mounts: dict[str, str] = field(default_factory=dict)
    _versions: dict[str, rsync.Version | None] = field(default_factory=dict)

    def read(self, path: str) -> bytes:
        """A script that the job starts. Raises Unreadable."""
        if path not in self._texts:
            self._texts[path] = self._read(path)
        text = self._texts[path]
        if isinstance(text, str):
            raise Unreadable(text)
        return text

    def _read(self, path: str) -> bytes | str:
        read = [text for text in self._texts.values() if isinstance(text, bytes)]
        if len(read) >= _MOST_FILES or len(self._texts) > 200:
            return "too many files"
        if not path.isprintable() or len(path) > 1000:
            return "no name of a file"
        try:
            return Job(self.job.hypervisor, path, ()).source()
        except (ProbeError, NotAssessable) as exc:
            return str(exc).removeprefix(f"{path}: ")

    def rsync_version(self, command: str) -> rsync.Version | None:
        """Return the version of the rsync that the job calls.

        None also if it is not the system's own: a job may be a user's, whose programs root does not run.
        """
        if not is_sure(command):
            return None
        folder, separator, _ = command.rpartition("/")
        if separator and folder not in _OF_THE_SYSTEM:
            return None
        if command not in self._versions:
            output = self.job.hypervisor.shell.run("%s --version", command).stdout
            self._versions[command] = rsync.version(output)
        return self._versions[command]

    def snapshots(self, target: str) -> str | None:
        """Return why the target shares blocks with snapshots; None if it does not or that cannot be told."""
        declared = [notes.snapshots for notes in self.job.notes]
        if True in declared:
            return "the target keeps snapshots (inventory)"
        if False in declared or not target.startswith("/"):
            return None
        path = sure_part(target).rpartition("/")[0] or "/"
        shell = self.job.hypervisor.shell
        if btrfs.mount_of(shell, path)[0] != "btrfs":
            return None
        names = btrfs.snapshots(shell, target if is_sure(target) else path)
        if not names:
            return None
        some = ", ".join(map(printable, names[:3]))
        return f"the target is on btrfs with snapshots ({some})"

    def real(self, path: str) -> str:
        """Return the path that symbolic links lead to; *path* itself if that cannot be told."""
        if not path.isprintable():
            return path
        if self.job.hypervisor.is_local:
            return os.path.realpath(path)
        return (
            self.job.hypervisor.shell.run("realpath -m -- %s", path).stdout.rstrip("\n")
            or path
        )

    def same_filesystem(self, one: str, other: str) -> bool:
        return self._mount(sure_part(one)) == self._mount(other)

    def _mount(self, path: str) -> str:
        if path not in self._mounts:
            self._mounts[path] = btrfs.mount_of(self.job.hypervisor.shell, path)[1]
        return self._mounts[path]

    def size(self, path: str) -> int | None:
        output = self.job.hypervisor.shell.run(
            "LC_ALL=C stat --dereference --format=%%s -- %s", path
        ).stdout.strip()
        return int(output) if output.isdecimal() else None

    def is_block_device(self, path: str) -> bool:
        if not is_sure(path) or not path.isprintable():
            return False
        if path not in self._devices:
            shell = self.job.hypervisor.shell
            local = self.job.hypervisor.is_local
            self._devices[path] = (
                _is_block_device(path)
                if local
                else shell.run("test -b %s", path).rc == 0
            )
        return self._devices[path]


def _is_block_device(path: str) -> bool:
    """True if that is a block device of this machine. Raises ProbeError if it cannot be looked at."""
    try:
        return stat.S_ISBLK(Path(path).stat().st_mode)
    except OSError as exc:
        if exc.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
            return False
        raise ProbeError(f"{printable(path)}: {exc.strerror}") from exc


def iter_lines(findings: Iterable[Finding]) -> Iterator[str]:
    """Yield the findings as they are printed, each once."""
    yield from dict.fromkeys(map(str, findings))


def why_not_edited(path: str) -> str | None:
    """Return why the file is not to be edited, or None."""
    if path.startswith(("/usr/lib/", "/lib/")):
        return f"{path} belongs to a package, and an update would undo the edit: copy it to /etc and declare the copy"
    return None


def daemon_reload(job: Job) -> str | None:
    """Return the command that makes systemd read the edited unit; None if systemd has not read it before."""
    return (
        "systemctl daemon-reload"
        if job.path.startswith(("/etc/systemd/", "/run/systemd/"))
        else None
    )
