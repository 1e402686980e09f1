from fixers.sparse_backup import give_back_zeros
from reclaim.backups.backup import Backup, pinned_by, stale_words, tolerated
from reclaim.base.errors import NotApplicable, NotAssessable
from reclaim.base.text import size
from reclaim.requirement import requirement


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
    if guest := backup.user():
        raise NotApplicable(f"{backup.file}: it is no copy: the guest {guest} uses it")
    if kind := backup.stream:
        raise NotAssessable(
            f"{backup.file}: it is {kind.words}, no image: zeros take next to nothing in it, and the restore decides: "
            f"{kind.restore}"
        )
    backup.image()
    scan = backup.scan()
    evidence = f"{backup.file}: takes {size(scan.allocated)}, needs {size(scan.needed)}{backup.shorter()}"
    if scan.packed:
        evidence += (
            f" ({size(scan.packed)} are zeros that the filesystem has compressed)"
        )
    if scan.excess > tolerated(scan.needed):
        causes = [
            f"{size(count)} are {kind_of_block}"
            for count, kind_of_block in (
                (scan.zeros - scan.packed, "zeros that were written"),
                (scan.unwritten, "extents never written"),
            )
            if count
        ]
        if scan.pinned:
            causes.append(
                f"{size(scan.pinned)} of that are pinned by {pinned_by(backup)}"
            )
        evidence = f"{evidence}: {size(scan.excess - scan.pinned)} can come back: {', '.join(causes)}"
    if backup.left:
        evidence += f"; a rewrite that died left {', '.join(backup.left)}: undo of that run removes it"
    assert scan.excess <= tolerated(scan.needed), evidence
    stale = backup.stale()
    assert stale <= tolerated(scan.needed), f"{evidence}; {stale_words(stale)}"
    if since := backup.discarded_since():
        evidence += f"; the image has given back {size(since)} since: they go with the next backup"
    return evidence
