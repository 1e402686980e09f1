from __future__ import annotations

from typing import TYPE_CHECKING

from reclaim.base.errors import Withheld
from reclaim.changes.change import Change
from reclaim.changes.file_change import FileChange

if TYPE_CHECKING:
    from reclaim.backups.job import Job


def keep_holes(job: Job) -> list[Change]:
    """Add and drop rsync's options in the declared file, and touch nothing else in it."""
    from reclaim.backups.job import (  # noqa: PLC0415 (start-up)
        daemon_reload,
        edited,
        why_not_edited,
    )

    assessment = job.assess()
    if reason := why_not_edited(job.path):
        raise Withheld(reason)
    source = job.source()
    wanted = edited(source, assessment.findings)
    if wanted == source:
        raise Withheld(
            "; ".join(dict.fromkeys(finding.advice for finding in assessment.findings))
        )
    before, after = (
        text.decode("utf-8", errors="surrogateescape") for text in (source, wanted)
    )
    return [
        FileChange(
            job.hypervisor.name, job.path, before, after, then=daemon_reload(job)
        )
    ]
