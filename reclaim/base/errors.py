"""What can go wrong, one class for each way a run has to react to it."""


class ReclaimError(Exception):
    """A problem told to the user in one line: what, where, what to do."""


class ProbeError(ReclaimError):
    """Something could not be read. Never a pass, never a finding, never the start of a fixer."""


class NoAccess(ProbeError):
    """One of the ways into a guest is closed; what opens it is said."""


class AgentAbsent(NoAccess):
    """No agent answers: no channel, or nothing in the guest listens on it."""


class AgentBlocked(NoAccess):
    """The agent answers, but its administrator has disabled the command."""


class AgentFrozen(ProbeError):
    """Somebody froze the guest's filesystems through the agent, which allows little until they are thawed."""


class NotLinux(ProbeError):
    """Somebody answers, in a system that reclaim does not look into; `words` name it."""

    def __init__(self, guest: str, words: str) -> None:
        self.words = words
        super().__init__(f"{guest}: {words}")


class NotLinuxButWindows(NotLinux):
    """That system is Windows."""


class ChangeFailed(ReclaimError):
    """A change was not applied, and what it had begun was taken back."""


class ChangedSince(ChangeFailed):
    """What is to be taken back is no longer as the run left it; `diff` tells from what it left to what is there now."""

    def __init__(self, words: str, diff: str = "") -> None:
        super().__init__(words)
        self.diff = diff


class NotYet(ChangeFailed):
    """It can be taken back once the guest runs on the hardware as it was; what stands works on either."""


class Untrusted(ReclaimError):
    """A file or folder that is not obeyed: others own it, or can write it. Which, why, and what to do."""

    def __init__(self, path: str, wrong: str, way_out: str) -> None:
        super().__init__(f"{path} {wrong}; {way_out}")
        self.path, self.wrong, self.way_out = path, wrong, way_out


class Refused(ChangeFailed):
    """libvirt does not do it, and nothing has changed; another way may do."""


class StillRunning(ChangeFailed):
    """A guest was asked to shut down and did not: it runs as before, and may yet go off."""


class PowerCycleFailed(ChangeFailed):
    """A guest did not come back as it was; the definition that booted is in force again, where libvirt takes it."""


class JournalLost(ReclaimError):
    """The journal cannot be written: what it does not hold is not done."""


class NotApplicable(Exception):
    """Raised by a check: the requirement says nothing about this guest or disk, and why."""


class NotAssessable(Exception):
    """Raised by a check: nobody could look, and why."""


class Withheld(Exception):
    """Raised by a fixer: no change is proposed, and why or what to do by hand."""


class Pending(Exception):
    """Raised by a fixer: the change is made and waits for a power cycle."""
