"""Figures for Prometheus' textfile collector. No label names a guest: their number has no bound."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from reclaim.base.verdict import Verdict
from reclaim.files import whole
from reclaim.record.record import Record
from reclaim.report import summary
from reclaim.report.summary import Standing


def write(path: Path | None, records: Sequence[Record]) -> None:
    """Write the figures of *records* to *path*, whole or not at all. Raises OSError.

    node_exporter reads the file as another user, so its mode is 0644 under any umask. It holds numbers and slugs.
    """
    if path is not None:
        whole.write(path, [generate_latest(registry(records)).decode()], mode=0o644)


def registry(records: Sequence[Record]) -> CollectorRegistry:
    registered = CollectorRegistry()
    gauges = _Gauges(registered)
    for record in records:
        gauges.take(record)
    return registered


class _Gauges:
    """The figures of the last run, each with the hypervisor's name as its first label."""

    def __init__(self, registered: CollectorRegistry) -> None:
        gauge = partial(_gauge, registered)
        self.guests = gauge(
            "guests", "Guests by their standing after the last run", "standing"
        )
        self.results = gauge("results", "Rows of the last run by verdict", "verdict")
        self.findings = gauge(
            "findings",
            "Rows of the last run that do not hold, by requirement",
            "requirement",
        )
        self.power = gauge(
            "guests_waiting_for_power_cycle",
            "Guests whose running QEMU differs from the definition",
        )
        self.spare = gauge(
            "reclaimable_bytes",
            "Bytes that the host holds beyond the need of the guests, if it is known",
        )
        self.came = gauge(
            "reclaimed_bytes", "Bytes that the last run freed on the host"
        )
        self.ended = gauge(
            "last_run_timestamp_seconds",
            "When the last run ended; its age is time() minus this",
            "mode",
        )
        self.whole = gauge(
            "last_run_whole",
            "1 if the last run judged every guest and all that decides whether it returns freed space, else 0: "
            "then there is no reclaim_guests",
        )
        self.took = gauge("last_run_duration_seconds", "How long the last run took")
        self.about = gauge(
            "info", "The version of reclaim that made the last run", "version"
        )

    def take(self, record: Record) -> None:
        """Set the figures of *record*'s hypervisor."""
        name, run = record.hypervisor.name, record.run
        figures = summary.figures([record])
        self.whole.labels(name).set(figures.is_whole)
        for standing in Standing if figures.is_whole else ():
            count = figures.standings[standing]
            self.guests.labels(name, standing.name.lower()).set(count)
        for verdict in Verdict:
            self.results.labels(name, str(verdict)).set(figures.verdicts[verdict])
        broken: Counter[str] = Counter()
        for row in record.results:
            broken[row.requirement] += row.verdict.outcome == "failed"
        for requirement, count in broken.items():
            self.findings.labels(name, requirement).set(count)
        self.power.labels(name).set(figures.waiting_for_power)
        if figures.reclaimable is not None:
            self.spare.labels(name).set(figures.reclaimable)
        self.came.labels(name).set(figures.reclaimed)
        self.ended.labels(name, run.mode).set(run.ended.timestamp())
        self.took.labels(name).set((run.ended - run.started).total_seconds())
        self.about.labels(name, run.version).set(1)


def _gauge(registered: CollectorRegistry, name: str, says: str, *labels: str) -> Gauge:
    return Gauge(f"reclaim_{name}", says, ["hypervisor", *labels], registry=registered)
