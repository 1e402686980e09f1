"""The mounts that this process sees."""

from __future__ import annotations

import re
from pathlib import Path

from lab.error import LabError

_TABLE = Path("/proc/self/mountinfo")
#: a blank in a path (proc(5))
_OCTAL = re.compile(r"\\([0-7]{3})")


def below(folder: Path) -> list[str]:
    """Return the mount points that are `folder` or lie below it, in the order in which they were mounted."""
    lines = _TABLE.read_text(encoding="utf-8").splitlines()
    points = [
        _OCTAL.sub(lambda match: chr(int(match[1], 8)), one.split()[4]) for one in lines
    ]
    return [point for point in points if Path(point).is_relative_to(folder)]


def expect_none(folder: Path) -> None:
    """Raise LabError if something is mounted in *folder*: what is removed there would be the files of that."""
    if mounted := below(folder):
        raise LabError(f"still mounted, so nothing is removed there: {mounted[0]}")
