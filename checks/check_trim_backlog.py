from fixers.trim_backlog import trim_now
from reclaim.base.errors import NotApplicable, NotAssessable
from reclaim.base.text import size
from reclaim.handles.guest import Disk
from reclaim.handles.scsi import why_not_judged
from reclaim.requirement import requirement
from reclaim.space.backlog import backlog, tolerated


@requirement(
    "trim-backlog",
    "The host holds no more for the disk than the guest uses",
    stage="inside",
    fixer=trim_now,
    after=("disk-discard", "live-definition", "disc-max"),
    reference="https://qemu.readthedocs.io/en/latest/interop/qemu-ga-ref.html#qapidoc-34",
)
def check_trim_backlog(disk: Disk) -> str:
    """Space that the guest has freed and never trimmed still fills the host."""
    if reason := why_not_judged(disk):
        raise NotApplicable(reason)
    held = backlog(disk)
    most = tolerated(held.used)
    assert held.reclaimable <= most, f"{held.come} can come back: {held.words}"
    if held.reclaimable + held.perhaps > most:
        raise NotAssessable(
            f"between {size(held.reclaimable)} and {size(held.reclaimable + held.perhaps)} can come back, "
            f"and reclaim cannot see in which file the host holds them: {held.words}"
        )
    return held.words
