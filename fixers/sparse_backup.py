from __future__ import annotations

from typing import TYPE_CHECKING

from reclaim.base.errors import Withheld
from reclaim.changes.change import Change
from reclaim.changes.punch import HolePunch, SparseRewrite

if TYPE_CHECKING:
    from reclaim.backups.backup import Backup


def give_back_zeros(backup: Backup) -> list[Change]:
    """Punch the zeros out in place. If that frees nothing, write the copy sparsely beside and rename.

    Zeros that snapshots share come back once these are gone, if the copy itself no longer has them by then.
    """
    from reclaim.backups.backup import (  # noqa: PLC0415 (start-up)
        is_better_rewritten,
        pinned_by,
        punches,
        snapshots_that_pin,
        stale_words,
        tolerated,
        why_not_rewritten,
        why_not_written_to,
    )

    scan = backup.scan()
    if scan.excess <= tolerated(scan.needed):
        raise Withheld(
            f"{stale_words(backup.stale())}: qemu-img convert -O qcow2 leaves it out, and makes another file"
        )
    if reason := why_not_written_to(backup):
        raise Withheld(reason)
    if scan.pinned > tolerated(scan.needed) and (
        snapshots := snapshots_that_pin(backup)
    ):
        if reason := why_not_rewritten(backup):
            raise Withheld(
                f"the copy and {snapshots} share them: only a rewrite separates these, and {reason}"
            )
        return [SparseRewrite.of(backup.located, scan, held_by=snapshots)]
    if scan.excess <= scan.pinned:
        raise Withheld(f"only the end of {pinned_by(backup)} frees them")
    if is_better_rewritten(backup):
        return [SparseRewrite.of(backup.located, scan)]
    if punches(backup):
        return [HolePunch.of(backup.located, scan)]
    if scan.pinned:
        raise Withheld(
            "this filesystem punches no holes, and a rewrite would no longer share the blocks of a reflink"
        )
    if reason := why_not_rewritten(backup):
        raise Withheld(f"this filesystem punches no holes, and {reason}")
    return [SparseRewrite.of(backup.located, scan)]
