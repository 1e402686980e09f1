"""The folder of reclaim on a hypervisor: its lock, its jobs, and files that are there as a whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import stat
import tempfile
from typing import Any

LOCK = "lock"
JOBS = "jobs"
#: marks of the hypervisors that a rollout is done with
ROLLOUTS = "rollouts"
#: the link to the environment that is used
CURRENT = "current"
#: the beginning of an environment's name
VENV = "venv-"
ENVIRONMENT = re.compile(VENV + r"[0-9a-f]{16}")
#: the file that makes a folder ours: what has the names above in another one is somebody else's
MARKER = ".reclaim-fleet"
PRIVATE = 0o700


class Busy(Exception):
    """A job runs. Its name is the argument."""


def make(path: str) -> None:
    """Make the folder *path* for its owner alone. Raises OSError, also if others could write into it."""
    os.makedirs(path, mode=PRIVATE, exist_ok=True)
    expect_safe(path)


def expect_safe(path: str) -> None:
    """Raise OSError if others than this user and root could write into the folder *path*."""
    status = os.stat(path)
    others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if status.st_uid not in (0, os.getuid()) or others:
        raise OSError(
            errno.EPERM, "others can write there, and could change what is run", path
        )


def is_ours(folder: str) -> bool:
    """Return whether `claim` made *folder*, or an environment of ours is in use there."""
    current = os.path.join(folder, CURRENT)
    if os.path.islink(current) and ENVIRONMENT.fullmatch(os.readlink(current)):
        return True
    return os.path.isfile(os.path.join(folder, MARKER))


def claim(folder: str, *, check: bool = False) -> bool:
    """Make *folder* reclaim's own, unless *check*. Return whether that changes something.

    Raises OSError if others could write into it, or if it is there with anything of somebody else in it.
    """
    is_new = not is_ours(folder)
    if is_new and os.path.isdir(folder) and os.listdir(folder):
        raise OSError(
            errno.ENOTEMPTY,
            "it is not empty, and reclaim did not make it: name a folder that is reclaim's own (reclaim_folder)",
            folder,
        )
    if check:
        return is_new
    make(folder)
    if os.stat(folder).st_uid == os.getuid():
        os.chmod(folder, PRIVATE)
    if is_new:
        write(os.path.join(folder, MARKER), "the folder of reclaim.fleet\n")
    return is_new


def lock(folder: str) -> int:
    """Return the locked descriptor of the folder's lock. Raises Busy with the name of the job that holds it."""
    path = os.path.join(folder, LOCK)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        name = os.pread(descriptor, 200, 0).decode("utf-8", "replace")
        os.close(descriptor)
        if exc.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise Busy(name) from exc
        raise
    return descriptor


def name_holder(descriptor: int, name: str) -> None:
    """Write the *name* of the job that holds the lock into it, for those who find it taken."""
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, name.encode("utf-8"), 0)


def write(path: str, text: str) -> None:
    """Write *text* to *path*, whole or not at all, for its owner alone."""
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path))
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def write_json(path: str, document: dict[str, Any]) -> None:
    """Write *document* to *path* as JSON."""
    write(path, json.dumps(document, indent=2, sort_keys=True) + "\n")


def read_json(path: str) -> dict[str, Any] | None:
    """Return the JSON object at *path*; None if there is no whole one."""
    try:
        with open(path, encoding="utf-8") as stream:
            document = json.load(stream)
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None
