"""Commands that are printed to be typed."""

from __future__ import annotations

import shlex
from pathlib import Path

from reclaim.base.text import printable


def undo(folder: Path) -> str:
    return shlex.join(["python", "-m", "reclaim", "undo", printable(str(folder))])
