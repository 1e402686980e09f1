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
    found = backup.scan()
    words = f"{backup.file}: takes {size(found.allocated)}, needs {size(found.needed)}{backup.shorter()}"
    if found.packed:
        words += f" ({size(found.packed)} are zeros that the filesystem has compressed)"
    if found.excess > tolerated(found.needed):
        causes = [
            f"{size(count)} are {what}"
            for count, what in (
                (found.zeros - found.packed, "zeros that were written"),
                (found.unwritten, "extents never written"),
            )
            if count
        ]
        if found.pinned:
            causes.append(
                f"{size(found.pinned)} of that are pinned by {pinned_by(backup)}"
            )
        words = f"{words}: {size(found.excess - found.pinned)} can come back: {', '.join(causes)}"
    if backup.left:
        words += f"; a rewrite that died left {', '.join(backup.left)}: undo of that run removes it"
    assert found.excess <= tolerated(found.needed), words
    stale = backup.stale()
    assert stale <= tolerated(found.needed), f"{words}; {stale_words(stale)}"
    if since := backup.discarded_since():
        words += f"; the image has given back {size(since)} since: they go with the next backup"
    return words
