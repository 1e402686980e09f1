"""Runs of reclaim as the client of the lab's hosts, and their records."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.netns import processes
from lab.netns.fleet import Fleet
from lab.netns.site import TMP, Site
from tests.command import FOREIGN, Outcome, document_of, runs

#: seconds that only a run that hangs takes
LIMIT = 240.0
#: seconds until what ends by itself has ended
SOON = 30.0
Row = dict[str, Any]


def command(fleet: Fleet, reports: Path, *options: str, names: Iterable[str] = ()) -> list[str]:
    """Return the command line of a run over the hosts *names*, or all."""
    hosts = ",".join(f"ssh://root@{name}" for name in names or [host.name for host in fleet.hosts])
    return [*_python(), "-m", "pytest", "checks/", "--hosts", hosts, "--reports", str(reports), *options]


def _python() -> list[str]:
    # a foreign setting that is unset cannot come with the environment
    return ["env", *(word for name in FOREIGN for word in ("-u", name)), "COLUMNS=160", sys.executable]


def audit(fleet: Fleet, reports: Path, *options: str, names: Iterable[str] = (), seconds: float = LIMIT) -> Outcome:
    """Run over the hosts *names*, or all; all of it has to end within *seconds*."""
    done = fleet.site.run(command(fleet, reports, *options, names=names), seconds=seconds)
    return Outcome(done.returncode, done.stdout, done.stderr, reports)


@dataclass
class Running:
    """A run that goes on beside the test."""

    fleet: Fleet
    process: subprocess.Popen[bytes]
    log: Path
    reports: Path

    def stop(self, number: signal.Signals) -> None:
        """Send a signal: SIGINT to all of its processes, as a terminal does, and others to the first alone."""
        first = processes.only_child(self.process.pid)
        assert first is not None
        if number == signal.SIGINT:
            # it leads a session, and so a group, of its own
            os.killpg(first, number)
        else:
            os.kill(first, number)

    def ended(self, seconds: float = LIMIT) -> Outcome:
        """Return how it ended. Raises TimeoutExpired after *seconds*."""
        status = self.process.wait(seconds)
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return Outcome(status, text, "", self.reports)


@contextmanager
def running(fleet: Fleet, reports: Path, *options: str, names: Iterable[str] = ()) -> Iterator[Running]:
    """A run over the hosts *names*, or all, which is ended with the context at the latest."""
    log = reports.with_suffix(".log")
    with log.open("wb") as output:
        process = fleet.site.start(command(fleet, reports, *options, names=names), output=output.fileno())
    try:
        yield Running(fleet, process, log, reports)
    finally:
        if process.poll() is None:
            fleet.site.end_all()
            process.wait(SOON)


def rows(outcome: Outcome) -> dict[str, list[Row]]:
    """Return the rows of a run by the names of the hypervisors' folders."""
    found: dict[str, list[Row]] = {}
    for run in runs(outcome.reports):
        assert run.parent.name not in found, "two runs"
        found[run.parent.name] = document_of(run)["results"]
    return found


def verdicts(some: Sequence[Row]) -> list[tuple[str, str | None, str]]:
    """Return the requirement, the guest and the verdict of each row."""
    return sorted((row["requirement"], row["guest"] or "", row["verdict"]) for row in some)


def expect_unreached(some: Sequence[Row], name: str) -> str:
    """Assert that a host has the one row of those that cannot be reached; return its reason."""
    (row,) = some
    assert (row["requirement"], row["verdict"]) == ("reach-hypervisor", "error")
    reason: str = row["reason"]
    assert name in reason
    assert "\n" not in reason
    assert "@@@" not in reason
    return reason


def nothing_left(site: Site) -> bool:
    """True if soon no process of the client runs, and it has no temporary file."""
    end = time.monotonic() + SOON
    while (left := site.left()) and time.monotonic() < end:
        time.sleep(0.05)
    assert left == []
    assert list(site.path(TMP).iterdir()) == []
    return True
