from fixers.fstrim_timer import schedule_trim
from reclaim.base.errors import NotApplicable, NotAssessable
from reclaim.handles.guest import Guest
from reclaim.inside.trim_schedule import (
    timer_reach,
    trimmable,
    trimmed,
    untrimmed,
    untrimmed_pools,
    why_not_by_schedule,
)
from reclaim.requirement import requirement

WINDOWS = (
    "Windows trims by its task ScheduledDefrag: `Get-ScheduledTask ScheduledDefrag` in PowerShell should show Ready; "
    "`Optimize-Volume -DriveLetter C -ReTrim -Verbose` trims now"
)


@requirement(
    "fstrim-timer",
    "Trim is scheduled and covers every filesystem that can be trimmed",
    stage="inside",
    fixer=schedule_trim,
    after=("guest-access",),
    reference="https://man7.org/linux/man-pages/man8/fstrim.8.html",
)
def check_fstrim_timer(guest: Guest) -> str:
    """A discard happens only when the guest asks for it: by fstrim.timer, cron, or the mount option `discard`."""
    if guest.is_windows:
        raise NotApplicable(WINDOWS)
    facts = guest.facts
    if not trimmable(facts) and not facts.autotrim:
        raise NotApplicable("no filesystem is mounted that can be trimmed")
    missed = untrimmed(facts)
    named = ", ".join(map(str, missed))
    problem = why_not_by_schedule(facts)
    assert not (missed and problem), f"{problem}: nothing trims {named}"
    if missed and timer_reach(facts) is None:
        raise NotAssessable(
            f"fstrim.service was changed to run {'; '.join(facts.fstrim_commands)}: "
            "reclaim does not know which filesystems that trims"
        )
    assert not missed, f"fstrim.timer does not cover {named}"
    pools = untrimmed_pools(facts)
    assert not pools, (
        f"autotrim is off on {', '.join(pools)}, and fstrim does not know ZFS"
    )
    return f"every filesystem that can be trimmed is trimmed: {trimmed(facts)}"
