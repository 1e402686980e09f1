"""Figures for Prometheus' textfile collector. No label names a guest: their number has no bound."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from reclaim.base.verdict import Verdict
from reclaim.files import whole
from reclaim.record.record import Record
from reclaim.report import summary
from reclaim.report.summary import Standing


def write(path: Path | None, records: Sequence[Record]) -> None:
    """Write the figures of *records* to *path*, whole or not at all. Raises OSError.

    node_exporter reads it as another user: its mode is 0644, whatever the umask. It holds numbers and slugs.
    """
    if path is not None:
        whole.write(path, [generate_latest(registry(records)).decode()], mode=0o644)


def registry(records: Sequence[Record]) -> CollectorRegistry:
    found = CollectorRegistry()

    def gauge(name: str, says: str, *labels: str) -> Gauge:
        return Gauge(f"reclaim_{name}", says, ["hypervisor", *labels], registry=found)

    guests = gauge("guests", "Guests by how they stand after the last run", "standing")
    results = gauge("results", "Rows of the last run by verdict", "verdict")
    findings = gauge(
        "findings",
        "Rows of the last run that do not hold, by requirement",
        "requirement",
    )
    power = gauge(
        "guests_waiting_for_power_cycle",
        "Guests whose running QEMU has not got what is defined",
    )
    spare = gauge(
        "reclaimable_bytes",
        "Bytes that the host holds beyond what the guests need, where that is known",
    )
    came = gauge("reclaimed_bytes", "Bytes that came home in the last run")
    ended = gauge(
        "last_run_timestamp_seconds",
        "When the last run ended; its age is time() minus this",
        "mode",
    )
    took = gauge("last_run_duration_seconds", "How long the last run took")
    about = gauge("info", "The version of reclaim that made the last run", "version")

    for record in records:
        name = record.hypervisor.name
        figures = summary.figures([record])
        for standing in Standing:
            guests.labels(name, standing.name.lower()).set(figures.standings[standing])
        for verdict in Verdict:
            results.labels(name, str(verdict)).set(figures.verdicts[verdict])
        broken = Counter(
            row.requirement for row in record.results if row.verdict.outcome == "failed"
        )
        for requirement in dict.fromkeys(row.requirement for row in record.results):
            findings.labels(name, requirement).set(broken[requirement])
        power.labels(name).set(figures.waiting_for_power)
        if figures.reclaimable is not None:
            spare.labels(name).set(figures.reclaimable)
        came.labels(name).set(figures.reclaimed)
        ended.labels(name, record.run.mode).set(record.run.ended.timestamp())
        took.labels(name).set((record.run.ended - record.run.started).total_seconds())
        about.labels(name, record.run.version).set(1)
    return found
