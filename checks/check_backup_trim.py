from __future__ import annotations

from typing import TYPE_CHECKING

from fixers.backup_trim import trim_before_copies
from reclaim.base.errors import NotAssessable
from reclaim.base.text import printable
from reclaim.requirement import requirement

if TYPE_CHECKING:
    from reclaim.backups.job import Job


@requirement(
    "backup-trim",
    "The job trims the guests whose images it copies",
    stage="backup",
    fixer=trim_before_copies,
    policy="trim_before_backup",
    reference="https://www.libvirt.org/manpages/virsh.html#domfstrim",
)
def check_backup_trim(job: Job) -> str:
    """A full copy takes everything that the guests have freed and not trimmed since."""
    untrimmed = job.untrimmed()
    named = ", ".join(
        f"{printable(guest)} ({call.where})" for guest, call in untrimmed.copies
    )
    assert not untrimmed.copies, (
        f"{job.path}: it copies the images of these guests without a trim before: {named}"
    )
    if untrimmed.doubts:
        raise NotAssessable(f"{job.path}: {'; '.join(dict.fromkeys(untrimmed.doubts))}")
    if not untrimmed.trimmed:
        raise NotAssessable(
            f"{job.path}: reclaim knows of no running guest whose image it copies"
        )
    return f"{job.path}: it trims before it copies: {', '.join(map(printable, untrimmed.trimmed))}"
