from __future__ import annotations

from typing import TYPE_CHECKING

from fixers.backup_job import keep_holes
from reclaim.base.errors import NotAssessable
from reclaim.requirement import requirement

if TYPE_CHECKING:
    from reclaim.backups.job import Job


@requirement(
    "backup-job",
    "The job copies images with their holes, and shares with snapshots",
    stage="backup",
    fixer=keep_holes,
    reference="https://download.samba.org/pub/rsync/rsync.1#opt--sparse",
)
def check_backup_job(job: Job) -> str:
    """A copy without `--sparse` is as large as the disk each time; one that is replaced shares nothing with snapshots.

    Before rsync 3.3.0 `--sparse` with `--inplace` can leave other data in the copy. The copy of an image that a
    running guest writes to is torn.
    """
    from reclaim.backups.job import iter_lines  # noqa: PLC0415 (start-up)

    assessment = job.assess()
    left = (
        f"an edit that died left {', '.join(job.left)}: undo of that run removes it"
        if job.left
        else ""
    )
    assert not assessment.findings, "; ".join(
        [
            *iter_lines(assessment.findings),
            *(f"not judged: {finding}" for finding in assessment.unclear),
            *filter(None, [left]),
        ]
    )
    beside = f"; {left}" if left else ""
    if assessment.unclear:
        raise NotAssessable(f"{job.path}: {'; '.join(assessment.unclear)}{beside}")
    if not assessment.good:
        raise NotAssessable(
            f"{job.path}: no command in it copies a guest's image{beside}"
        )
    return f"{job.path}: {'; '.join(assessment.good)}{beside}"
