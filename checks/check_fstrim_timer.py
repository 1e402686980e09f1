from fixers.fstrim_timer import schedule_trim
from reclaim.errors import NotAssessable
from reclaim.guest import Guest
from reclaim.requirement import requirement
from reclaim.schedule import uncovered


@requirement(
    "fstrim-timer",
    "Trim is scheduled and covers every filesystem that can be trimmed",
    stage="inside",
    fixer=schedule_trim,
    after=("guest-access",),
    reference="https://man7.org/linux/man-pages/man8/fstrim.8.html",
)
def check_fstrim_timer(guest: Guest) -> str:
    """A discard happens only when the guest asks for it: by fstrim.timer, or by the mount option `discard`."""
    facts = guest.facts
    if "systemctl" not in facts.tools:
        raise NotAssessable(f"{facts.os_name} has no systemd: how it schedules trim is not known to reclaim")
    timer, service = facts.fstrim_timer, facts.fstrim_service
    missed = uncovered(facts)
    assert timer.get("LoadState") == "loaded", f"fstrim.timer is {timer.get('LoadState') or 'unknown to systemd'}"
    assert timer.get("UnitFileState") == "enabled", f"fstrim.timer is {timer.get('UnitFileState') or 'not enabled'}"
    assert timer.get("ActiveState") == "active", f"fstrim.timer is enabled but {timer.get('ActiveState')}"
    assert service.get("Result") == "success", f"the last run of fstrim.service failed: {service.get('Result')}"
    assert not missed, f"fstrim.timer covers what is in fstab, and not {', '.join(missed)}"
    return "fstrim.timer is enabled and active, its last run did not fail, every trimmable mount is covered"
