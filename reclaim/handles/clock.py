"""The clock of a hypervisor, in its own time zone."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

from testinfra.host import Host

from reclaim.base.errors import ProbeError
from reclaim.processes import limited

Clock = Callable[[], datetime]
#: seconds for date(1) on another machine
_SECONDS = 20
#: bytes of its answer
_MOST = 64


def clock_of(shell: Host) -> Clock:
    """Return the clock of the machine that *shell* is on. If date(1) gives no answer there, it is this machine's."""
    if shell.backend.NAME == "local":
        return this_machines
    try:
        answer = limited.output(shell, _SECONDS, _MOST, "date '+%s %z'") or ""
    except ProbeError:
        answer = ""
    match = re.fullmatch(r"(\d{1,12}) ([+-])(\d\d)([0-5]\d)\n?", answer)
    if match is None or int(match[3]) > 23:
        return this_machines
    offset = timedelta(hours=int(match[3]), minutes=int(match[4]))
    zone = timezone(-offset if match[2] == "-" else offset)
    ahead = int(match[1]) - time.time()
    return lambda: datetime.fromtimestamp(time.time() + ahead, zone)


def this_machines() -> datetime:
    return datetime.now(timezone.utc).astimezone()
