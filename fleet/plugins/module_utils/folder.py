"""The folder of reclaim on a hypervisor: its lock, its jobs, and files that are there as a whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import json
import os
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
PRIVATE = 0o700


class Busy(Exception):
    """A job runs. Its name is the argument."""


def make(path: str) -> None:
    """Make the folder *path* for its owner alone. Raises OSError, also if others could write into it."""
    os.makedirs(path, mode=PRIVATE, exist_ok=True)
    status = os.stat(path)
    others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if status.st_uid not in (0, os.getuid()) or others:
        raise OSError(
            errno.EPERM, "others can write there, and could change what is run", path
        )


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
