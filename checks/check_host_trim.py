from fixers.host_trim import trim_from_host
from reclaim.base.errors import AgentBlocked, NotApplicable, NotAssessable, ProbeError
from reclaim.changes.domfstrim import schedule_of
from reclaim.handles.guest import Guest
from reclaim.inside.facts import Facts
from reclaim.requirement import requirement

TRIM = "guest-fstrim"


@requirement(
    "host-trim",
    "The hypervisor trims a guest whose agent runs no commands",
    stage="inside",
    fixer=trim_from_host,
    policy="trim_from_host",
    reference="https://www.libvirt.org/manpages/virsh.html#domfstrim",
)
def check_host_trim(guest: Guest) -> str:
    """An agent may allow guest-fstrim and no commands: then a timer of the hypervisor is the only one that is known."""
    answer = guest.inside()
    if isinstance(answer, Facts):
        raise NotApplicable(
            "it can be looked into: fstrim-timer judges its own schedule"
        )
    if not isinstance(answer, AgentBlocked):
        raise NotAssessable(
            f"{str(answer).removeprefix(f'{guest.name}: ')} (see guest-access)"
        )
    if not guest.agent.allows(TRIM):
        raise NotAssessable(
            f"its agent allows neither commands nor {TRIM} (see guest-access)"
        )
    try:
        schedule = schedule_of(guest)
    except ProbeError as exc:
        raise NotAssessable(str(exc)) from exc
    if schedule.doubt:
        raise NotAssessable(schedule.doubt)
    assert not schedule.problem, (
        f"{schedule.problem}, and reclaim cannot see whether it trims itself"
    )
    return schedule.works
