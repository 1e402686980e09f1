"""Errors of reclaim, one class for each way in which a run has to react."""


class ReclaimError(Exception):
    """A problem, reported to the user in one line: the fault, its place, and the way out."""


class Mistakes(ReclaimError):
    """Mistakes in a file of the user, all at once: a line for each, fit to be shown."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


class Unreachable(ReclaimError):
    """A hypervisor cannot be reached. It has a row of its own in a run over several."""


class ProbeError(ReclaimError):
    """Something could not be read. Never a pass, never a finding, never the start of a fixer."""


class TimedOut(ProbeError):
    """A command did not end within its time."""


class NoAccess(ProbeError):
    """One of the ways into a guest is closed. The message names what opens it."""


class AgentAbsent(NoAccess):
    """No agent answers: there is no channel, or no agent in the guest listens on it."""


class AgentBlocked(NoAccess):
    """The agent answers, but its administrator has disabled the command."""


class AgentFrozen(ProbeError):
    """The guest's filesystems are frozen through the agent, which allows few commands until they are thawed."""


class AgentGarbled(ProbeError):
    """The agent's answer to a call is not what QEMU's schema allows."""


class NotLinux(ProbeError):
    """A system answers that reclaim does not look into; `words` name it."""

    def __init__(self, guest: str, words: str) -> None:
        self.words = words
        super().__init__(f"{guest}: {words}")


class NotLinuxButWindows(NotLinux):
    """That system is Windows."""


class ChangeFailed(ReclaimError):
    """A change was not applied, and what it had begun was taken back."""


class ChangedSince(ChangeFailed):
    """The thing to be undone is no longer as the run left it. `diff` is from the state that it left to the one now."""

    def __init__(self, words: str, diff: str = "") -> None:
        super().__init__(words)
        self.diff = diff


class NotYet(ChangeFailed):
    """The change can be undone once the guest runs on its old hardware. Until then the changed file works on either."""


class Untrusted(ReclaimError):
    """A file or folder that reclaim does not obey: others own it or can write it. The message has the way out."""

    def __init__(self, path: str, wrong: str, way_out: str) -> None:
        super().__init__(f"{path} {wrong}; {way_out}")
        self.path, self.wrong, self.way_out = path, wrong, way_out


class Refused(ChangeFailed):
    """libvirt refuses the change, and nothing has changed. Another way may work."""


class StillRunning(ChangeFailed):
    """A guest was asked to shut down and did not: it runs as before, and may yet go off."""


class PowerCycleFailed(ChangeFailed):
    """A guest did not come back as it was. The definition that booted is in force again, if libvirt accepts it."""


class JournalLost(ReclaimError):
    """The journal cannot be written: reclaim makes no change that is not in it."""


class NotApplicable(Exception):
    """Raised by a check: the requirement does not concern this guest or disk, for the reason in the message."""


class NotAssessable(Exception):
    """Raised by a check: reclaim could not look, for the reason in the message."""


class Withheld(Exception):
    """Raised by a fixer: it proposes no change. The message has the reason or the steps to take by hand."""


class Pending(Exception):
    """Raised by a fixer: the change is made and waits for a power cycle."""
