from fixers.guest_access import add_agent_channel
from reclaim.agent import AgentAbsent, AgentBlocked
from reclaim.errors import ProbeError
from reclaim.guest import Guest
from reclaim.requirement import requirement


@requirement(
    "guest-access",
    "The guest can be looked into",
    stage="access",
    fixer=add_agent_channel,
    reference="https://libvirt.org/formatdomain.html#channel",
)
def check_guest_access(guest: Guest) -> str:
    """Half of the layers lie inside the guest: without its agent nobody can tell whether they work."""
    answer = guest.inside()
    assert not isinstance(answer, AgentAbsent | AgentBlocked), str(answer)
    if isinstance(answer, ProbeError):
        raise answer
    confined = f"; SELinux confines them ({answer.confined}): mending inside may be refused" if answer.confined else ""
    return f"its agent runs commands for us: {answer.os_name}{confined}"
