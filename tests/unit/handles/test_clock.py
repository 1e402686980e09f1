"""The clock of a hypervisor: this machine's, or that of the one that its shell is on."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest

from reclaim.base.errors import ProbeError
from reclaim.handles.clock import clock_of, this_machines


class _Remote:
    """A shell on another machine, where date(1) prints *answer*."""

    backend = SimpleNamespace(NAME="ssh")

    def __init__(self, answer: str | ProbeError) -> None:
        self.answer = answer

    def run(self, command: str) -> Any:
        assert "date '+%s %z'" in command
        if isinstance(self.answer, ProbeError):
            raise self.answer
        return SimpleNamespace(rc=0, stdout=self.answer, stdout_bytes=self.answer.encode())


def _difference(moment: datetime) -> float:
    return abs((moment - datetime.now(timezone.utc)).total_seconds())


def test_the_clock_of_this_machine_has_its_zone() -> None:
    shell: Any = SimpleNamespace(backend=SimpleNamespace(NAME="local"))
    assert clock_of(shell) is this_machines
    now = this_machines()
    assert _difference(now) < 60
    assert now.utcoffset() is not None


@pytest.mark.parametrize(("zone", "hours"), [("+0000", 0.0), ("+1345", 13.75), ("-0930", -9.5)])
def test_another_machines_clock_goes_on_in_its_zone(zone: str, hours: float) -> None:
    ahead = 86_400
    shell: Any = _Remote(f"{int(time.time()) + ahead} {zone}\n")
    clock = clock_of(shell)
    moment = clock()
    assert moment.utcoffset() == timedelta(hours=hours)
    assert _difference(moment - timedelta(seconds=ahead)) < 60


@pytest.mark.parametrize("answer", ["", "x", "1 +9900", "1 +0060", "1" * 13 + " +0000", "1 UTC", ProbeError("ssh: no")])
def test_without_an_answer_it_is_this_machines(answer: str | ProbeError) -> None:
    shell: Any = _Remote(answer)
    assert clock_of(shell) is this_machines
