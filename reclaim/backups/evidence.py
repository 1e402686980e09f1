"""The words for the bytes that a copy takes: those that it needs, and the causes of the others."""

from __future__ import annotations

from reclaim.backups.backup import Backup, pinned_by, tolerated
from reclaim.base.text import size
from reclaim.files.holes import Scan


def in_words(backup: Backup, scan: Scan) -> str:
    """Return the bytes that the copy takes and needs, and the parts that can come back if they are too many."""
    text = f"{backup.file}: takes {size(scan.allocated)}, needs {size(scan.needed)}{backup.shorter()}"
    if scan.packed:
        text += f" ({size(scan.packed)} are zeros that the filesystem has compressed)"
    if scan.excess > tolerated(scan.needed):
        excess = size(scan.excess - scan.pinned)
        text += f": {excess} can come back: {', '.join(_causes(backup, scan))}"
    if backup.left:
        text += f"; a rewrite that died left {', '.join(backup.left)}: undo of that run removes it"
    return text


def _causes(backup: Backup, scan: Scan) -> list[str]:
    """Return the kinds of the blocks that the copy does not need, with their bytes."""
    causes = []
    written = scan.zeros - scan.packed
    if written:
        causes.append(f"{size(written)} are zeros that were written")
    if scan.unwritten:
        causes.append(f"{size(scan.unwritten)} are extents never written")
    if scan.pinned:
        causes.append(f"{size(scan.pinned)} of that are pinned by {pinned_by(backup)}")
    return causes
