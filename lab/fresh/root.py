"""The files of a fresh machine: an archive of a minimal Debian, made once, and unpacked anew for each machine."""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab import image, mounts, paths, tools
from lab.error import LabError
from lab.fresh.settings import Settings

#: what a person needs to have for `git clone` and `make`
PACKAGES = ("ca-certificates", "git", "make")
_UNPACK_SECONDS = 300.0


def archive(suite: str, folder: Path) -> Path:
    """Return the archive of a minimal root of `suite`, made in `folder` if it is not there. Raises LabError."""
    key = hashlib.sha256(repr((suite, PACKAGES)).encode()).hexdigest()[:12]
    whole = paths.cache() / f"fresh-{suite}-{key}.tar"
    if whole.is_file():
        return whole
    beside = whole.with_name(f"making-{suite}.tar")
    try:
        # a root that is half made goes with the folder, whatever ends us
        image.bootstrap(suite, beside, PACKAGES, (), {"TMPDIR": str(folder)})
        beside.rename(whole)
    finally:
        beside.unlink(missing_ok=True)
    return whole


def unpack(packed: Path, folder: Path, settings: Settings) -> None:
    """Make the root `folder` of an archive, with the settings of this machine. Raises LabError."""
    folder.mkdir(parents=True)
    tools.call(
        ["tar", "-C", str(folder), "--numeric-owner", "-xpf", str(packed)],
        seconds=_UNPACK_SECONDS,
    )
    for name, content in settings.files.items():
        place = folder / name.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        place.write_bytes(content)


def clone(checkout: Path, folder: Path) -> str:
    """Clone the HEAD of `checkout` into `folder` and return its short name. Raises LabError."""
    tools.call(
        ["git", "clone", "--quiet", "--no-hardlinks", str(checkout), str(folder)],
        seconds=120,
    )
    git = ["git", "-C", str(folder)]
    return tools.call([*git, "rev-parse", "--short", "HEAD"], seconds=60).strip()


@contextmanager
def place(suite: str) -> Iterator[Path]:
    """Give the folder for the machine of `suite`, which nothing else uses meanwhile; all of it is removed at the end.

    Raises LabError if another run has it, or if something is still mounted in it.
    """
    folder = paths.root() / "fresh" / suite
    folder.mkdir(parents=True, exist_ok=True)
    with (paths.cache() / f"fresh-{suite}.lock").open("w", encoding="ascii") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise LabError(f"another run has the machine of {suite}") from None
        # a run that was killed left its files
        remove(folder)
        folder.mkdir()
        # apt fetches as a user of its own
        folder.chmod(0o755)
        try:
            yield folder
        finally:
            remove(folder)


def remove(folder: Path) -> None:
    """Remove a machine's files. Raises LabError if something is mounted there."""
    mounts.expect_none(folder)
    tools.call(["rm", "-rf", "--one-file-system", "--", str(folder)], seconds=600)
