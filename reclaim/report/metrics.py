"""Figures for Prometheus' textfile collector. No label names a guest: their number has no bound.

The file is the memory of its own figures: a run renews those that it knows, and the others stay as they were.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from reclaim.base.verdict import Verdict
from reclaim.files import whole
from reclaim.record.record import Record
from reclaim.report import summary
from reclaim.report.summary import Standing

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

#: bytes of a file that is read back: the figures of a hypervisor take about 4 KiB
_MOST = 4 * 1024 * 1024
_HYPERVISOR = "hypervisor"
_MODE = "mode"
#: the values of the labels of a sample, in the order of its family's
Values = tuple[str, ...]


@dataclass(frozen=True)
class Family:
    """One metric: all samples of a name."""

    name: str
    help: str
    #: beside the hypervisor's
    labels: tuple[str, ...] = ()


#: figures of whole hypervisors: a run that judged less leaves those of the last whole run in place
OF_WHOLE_RUNS = (
    Family(
        "guests", "Guests by their standing after the last whole run", ("standing",)
    ),
    Family("results", "Rows of the last whole run by verdict", ("verdict",)),
    Family(
        "findings",
        "Rows of the last whole run that do not hold, by requirement",
        ("requirement",),
    ),
    Family(
        "guests_waiting_for_power_cycle",
        "Guests of the last whole run whose running QEMU differs from the definition",
    ),
    Family(
        "reclaimable_bytes",
        "Bytes that the host held beyond the need of the guests after the last whole run, if that is known",
    ),
    Family(
        "last_whole_run_timestamp_seconds",
        "When the last run ended that judged every guest and all that decides whether it returns freed space",
    ),
    Family(
        "next_waiver_end_timestamp_seconds",
        "When the first of the waivers ends that the last whole run found in force, if one has an end",
    ),
)
OF_THE_LAST_RUN = (
    Family(
        "last_run_whole",
        "1 if the last run was a whole one, 0 if it was stopped or judged a choice of guests or requirements",
    ),
    Family("reclaimed_bytes", "Bytes that the last run freed on the host"),
    Family("last_run_duration_seconds", "How long the last run took"),
    Family("info", "The version of reclaim that made the last run", ("version",)),
)
LAST_OF_MODE = Family(
    "last_run_timestamp_seconds", "When the last run of each mode ended", (_MODE,)
)
#: about the command that writes the file; it may have reached no hypervisor
LAST_ATTEMPT = Family(
    "last_attempt_timestamp_seconds",
    "When a run with this file was last tried, whether it connected or not",
)
SUCCESS = Family(
    "last_attempt_success",
    "1 if the last attempt connected and judged to its end, whatever it found, else 0",
)
LAST_SUCCESS = Family(
    "last_success_timestamp_seconds", "When an attempt last succeeded", ()
)
_OF_ATTEMPTS = (LAST_ATTEMPT, SUCCESS, LAST_SUCCESS)
_OF_HYPERVISORS = (*OF_WHOLE_RUNS, *OF_THE_LAST_RUN, LAST_OF_MODE)
FAMILIES = {family.name: family for family in (*_OF_HYPERVISORS, *_OF_ATTEMPTS)}
_WHOLE = frozenset(family.name for family in OF_WHOLE_RUNS)
_ALONE = frozenset(family.name for family in _OF_ATTEMPTS)


@dataclass(frozen=True)
class Attempt:
    """The end of a run, or of the attempt to start one."""

    ended: datetime
    success: bool


def labels_of(family: Family) -> tuple[str, ...]:
    """Return the names of the labels of *family*: the hypervisor's first, but for those of the command."""
    return family.labels if family.name in _ALONE else (_HYPERVISOR, *family.labels)


def write(path: Path | None, records: Sequence[Record], attempt: Attempt) -> None:
    """Write the figures of *records* and of *attempt* to *path*, whole or not at all. Raises OSError.

    node_exporter reads the file as another user, so its mode is 0644 under any umask. It contains numbers and slugs.
    """
    if path is None:
        return
    from prometheus_client import generate_latest  # noqa: PLC0415 (start-up)

    samples = dict(_kept(_read(path), records))
    samples.update(_of_attempt(attempt))
    for record in records:
        samples.update(_of_record(record))
    text = generate_latest(_registry(samples)).decode()
    whole.write(path, [text], mode=0o644)


Samples = dict[tuple[str, Values], float]


def _read(path: Path) -> Samples:
    """Return the samples of the file at *path* that are ours; none if it is not there, or no such file."""
    from prometheus_client import parser  # noqa: PLC0415 (start-up)

    samples: Samples = {}
    # another file than ours is overwritten, as it always was; the parser raises ValueError for a mistake, and
    # IndexError or KeyError for a line that is torn
    with suppress(OSError, ValueError, LookupError):
        text = whole.read(path, _MOST).decode("utf-8")
        for metric in parser.text_string_to_metric_families(text):
            family = FAMILIES.get(metric.name.removeprefix("reclaim_"))
            names = labels_of(family) if family else ()
            for sample in metric.samples:
                if (
                    family
                    and sample.name == metric.name
                    and set(sample.labels) == set(names)
                ):
                    values = tuple(sample.labels[name] for name in names)
                    samples[family.name, values] = sample.value
    return samples


def _kept(
    before: Samples, records: Iterable[Record]
) -> Iterator[tuple[tuple[str, Values], float]]:
    """Yield the samples of *before* that the runs of *records* do not renew."""
    judged = {record.hypervisor.name: record for record in records}
    for (name, values), value in before.items():
        record = judged.get(values[0]) if values else None
        if record is None or not _is_renewed(name, record):
            yield (name, values), value


def _is_renewed(name: str, record: Record) -> bool:
    if name in _WHOLE:
        return summary.figures([record]).is_whole
    # the last run of another mode stays the last one of that mode
    return name != LAST_OF_MODE.name


def _of_attempt(attempt: Attempt) -> Samples:
    ended = attempt.ended.timestamp()
    samples: Samples = {
        (LAST_ATTEMPT.name, ()): ended,
        (SUCCESS.name, ()): float(attempt.success),
    }
    if attempt.success:
        samples[LAST_SUCCESS.name, ()] = ended
    return samples


def _of_record(record: Record) -> Samples:
    """Return the figures of *record*'s hypervisor that its run knows."""
    name, run = record.hypervisor.name, record.run
    figures = summary.figures([record])
    samples: Samples = {
        ("last_run_whole", (name,)): float(figures.is_whole),
        ("reclaimed_bytes", (name,)): figures.reclaimed,
        ("last_run_duration_seconds", (name,)): (
            run.ended - run.started
        ).total_seconds(),
        ("info", (name, run.version)): 1,
        (LAST_OF_MODE.name, (name, run.mode)): run.ended.timestamp(),
    }
    if figures.is_whole:
        samples.update(_of_whole(record, figures))
    return samples


def _of_whole(record: Record, figures: summary.Figures) -> Samples:
    name = record.hypervisor.name
    samples: Samples = {
        ("guests_waiting_for_power_cycle", (name,)): figures.waiting_for_power,
        ("last_whole_run_timestamp_seconds", (name,)): record.run.ended.timestamp(),
    }
    for standing in Standing:
        count = figures.standings[standing]
        samples["guests", (name, standing.name.lower())] = count
    for verdict in Verdict:
        samples["results", (name, str(verdict))] = figures.verdicts[verdict]
    broken: Counter[str] = Counter()
    for row in record.results:
        broken[row.requirement] += row.verdict.outcome == "failed"
    for requirement, count in broken.items():
        samples["findings", (name, requirement)] = count
    if figures.reclaimable is not None:
        samples["reclaimable_bytes", (name,)] = figures.reclaimable
    end = _next_end_of_waiver(record)
    if end is not None:
        samples["next_waiver_end_timestamp_seconds", (name,)] = end.timestamp()
    return samples


def _next_end_of_waiver(record: Record) -> datetime | None:
    """Return when the first waiver in force ends, None if none does: the day after its last one, in UTC."""
    last_days = []
    for row in record.results:
        if row.verdict is Verdict.WAIVED and row.waiver and row.waiver.until:
            last_days.append(row.waiver.until)
    if not last_days or min(last_days) == date.max:
        return None
    end = min(last_days) + timedelta(days=1)
    return datetime.combine(end, time(), timezone.utc)


def _registry(samples: Samples) -> CollectorRegistry:
    """Return a registry with *samples*. A metric without samples is absent: 0 would be a figure."""
    from prometheus_client import CollectorRegistry, Gauge  # noqa: PLC0415 (start-up)

    registered = CollectorRegistry()
    for family in FAMILIES.values():
        chosen = [
            (values, value)
            for (name, values), value in samples.items()
            if name == family.name
        ]
        if not chosen:
            continue
        gauge = Gauge(
            f"reclaim_{family.name}",
            family.help,
            labels_of(family),
            registry=registered,
        )
        for values, value in sorted(chosen):
            (gauge.labels(*values) if values else gauge).set(value)
    return registered
