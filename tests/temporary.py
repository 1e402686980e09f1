"""One folder for all temporary files of a session of tests, which goes with it.

Processes that tests kill leave theirs behind: the folder of a run's sockets, chromium's profile. A session that was
killed itself leaves its folder to the next one, which knows by the lock that nobody is in it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

PREFIX = "reclaim-tests-"
_LOCK = ".lock"
_LONGEST = 40
#: where pytest keeps the folders of failed tests, as it would without us
_PYTEST = "PYTEST_DEBUG_TEMPROOT"


class Session:
    """The folder, and the lock that shows that its session lives."""

    def __init__(self, place: Path) -> None:
        made = Path(tempfile.mkdtemp(prefix=f".{PREFIX}", dir=place))
        # as /tmp is: other users whom tests run as go through it
        made.chmod(0o1777)
        self._lock = (made / _LOCK).open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        # under a name that is swept only now that it is locked
        self.folder = made.rename(place / made.name.removeprefix("."))

    def end(self) -> None:
        """Remove the folder with all that is in it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()


def begin() -> Session | None:
    """Have this process and its children put temporary files into a folder of the session's own; None in a session."""
    place = Path(tempfile.gettempdir())
    if place.name.startswith(PREFIX):
        return None
    sweep(place)
    session = Session(place)
    os.environ.setdefault(_PYTEST, str(place))
    os.environ["TMPDIR"] = tempfile.tempdir = str(session.folder)
    return session


def short_place() -> Path:
    """Return the folder for temporary files, or /tmp if its name is too long for sockets below it (unix(7))."""
    place = tempfile.gettempdir()
    return Path(place if len(place) <= _LONGEST else "/tmp")


def sweep(place: Path) -> list[Path]:
    """Remove the folders that killed sessions of this user left in *place*; return them."""
    removed = []
    for folder in place.glob(f"{PREFIX}*"):
        if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
            continue
        try:
            with (folder / _LOCK).open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue  # somebody is in it, or it is just being made
        shutil.rmtree(folder, ignore_errors=True)
        removed.append(folder)
    return removed
