from fixers.guest_access import add_agent_channel
from reclaim.base.errors import NoAccess, NotAssessable, ProbeError
from reclaim.changes.preconditions import why_not_started
from reclaim.handles.guest import OFF, UNSTARTED, Guest
from reclaim.requirement import requirement


@requirement(
    "guest-access",
    "The guest can be looked into",
    stage="access",
    fixer=add_agent_channel,
    reference="https://libvirt.org/formatdomain.html#channel",
)
def check_guest_access(guest: Guest) -> str:
    """Half of the layers lie inside the guest: without its agent, or ssh, reclaim cannot see whether they work."""
    if guest.why_not_inside() == OFF and (
        reason := why_not_started(guest, lately=True)
    ):
        raise NotAssessable(f"{UNSTARTED}{reason}")
    answer = guest.inside()
    assert not isinstance(answer, NoAccess), str(answer)
    if isinstance(answer, ProbeError):
        raise answer
    confined = (
        f"; SELinux confines them ({answer.confined}): reclaim changes nothing inside"
        if answer.confined
        else ""
    )
    refused = f"; {guest.ssh_problem}" if guest.ssh_problem else ""
    return (
        f"{guest.way_in} runs commands for reclaim: {answer.os_name}{confined}{refused}"
    )
