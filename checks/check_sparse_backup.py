from __future__ import annotations

from typing import TYPE_CHECKING

from fixers.sparse_backup import give_back_zeros
from reclaim.base.errors import NotApplicable, NotAssessable
from reclaim.base.text import size
from reclaim.requirement import requirement

if TYPE_CHECKING:
    from reclaim.backups.backup import Backup


@requirement(
    "sparse-backup",
    "The copy takes no more than its image needs",
    stage="backup",
    fixer=give_back_zeros,
    reference="https://man7.org/linux/man-pages/man2/fallocate.2.html",
)
def check_sparse_backup(backup: Backup) -> str:
    """A copy made without holes holds every zero that the guest has freed: it is as large as the disk.

    Counted by `st_blocks`: to SEEK_HOLE an extent that was allocated and never written looks like a hole.
    """
    from reclaim.backups.backup import stale_words, tolerated  # noqa: PLC0415 (start-up)
    from reclaim.backups.evidence import in_words  # noqa: PLC0415 (start-up)

    if guest := backup.user():
        raise NotApplicable(f"{backup.file}: it is no copy: the guest {guest} uses it")
    if kind := backup.stream:
        raise NotAssessable(
            f"{backup.file}: it is {kind.words}, no image: zeros take next to nothing in it, and the restore decides: "
            f"{kind.restore}"
        )
    backup.image()
    scan = backup.scan()
    evidence, most = in_words(backup, scan), tolerated(scan.needed)
    assert scan.excess <= most, evidence
    stale = backup.stale()
    assert stale <= most, f"{evidence}; {stale_words(stale)}"
    if since := backup.discarded_since():
        evidence += f"; the image has given back {size(since)} since: they go with the next backup"
    return evidence
