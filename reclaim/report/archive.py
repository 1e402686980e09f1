"""The archive below reports/: its index, made anew from a summary of each run, and its pruning."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

from pydantic import ValidationError

from reclaim.base.errors import ReclaimError
from reclaim.base.secret import redacted
from reclaim.base.text import printable
from reclaim.engine import journal
from reclaim.files import trust, whole
from reclaim.record import record, runs
from reclaim.record.record import Record
from reclaim.report import compare, page, summary
from reclaim.report.archived import ArchivedRun, Delta, IndexState
from reclaim.report.fleet import MOST_GUESTS, Fleet, sites
from reclaim.report.summary import Standing

INDEX = "index.html"
_STATE = ".index.json"
_LOCK = ".index.lock"
#: runs of one hypervisor that a guest's line is drawn from
_DRAWN = 60
#: runs that the index lists, and hypervisors that it does not fold
_LISTED, _SITES = 500, 5
#: texts of one kind of change that the index keeps of a run
_TOLD = 6
#: narrow runs that are gone back over to find a row's verdict before
_BACK = 20


def update(reports: Path, keep: int | None = None) -> Path:
    """Bring index.html up to date with the runs below *reports*; with *keep*, remove older runs first.

    Raises OSError if it cannot be written, ReclaimError if another user has its lock.
    The index lists a run that is half written or unreadable. Such a run stops nothing.
    """
    with _locked(reports):
        _sweep(reports)
        if keep is not None:
            prune(reports, keep)
        state = _load(reports)
        stamps, unfinished = _scan(reports)
        ordered = _refresh(reports, state, stamps)
        text = _render(state, ordered, unfinished)
        whole.write(reports / _STATE, [state.model_dump_json(exclude_defaults=True)])
        whole.write(reports / INDEX, [text])
    return reports / INDEX


def _sweep(reports: Path) -> None:
    """Remove the halves of an index and of removed runs that a dead writer left. Only this run writes the index now."""
    for name in (_STATE, INDEX):
        for path in reports.glob(f".{name}.*.new"):
            whole.drop(path)
    for home in _folders(reports):
        for path in home.glob(".*.removed"):
            if _is_half_removed(path):
                shutil.rmtree(path, ignore_errors=True)


def _is_half_removed(path: Path) -> bool:
    run = path.name[1:].removesuffix(".removed")
    return bool(runs.NAME.fullmatch(run)) and not path.is_symlink()


def prune(reports: Path, keep: int) -> list[Path]:
    """Remove all but the newest *keep* runs of each hypervisor, and return the removed ones.

    Unfinished runs stay, and so does a run whose changes can still be taken back.
    """
    removed = []
    for home in _folders(reports):
        for run in sorted(filter(_is_finished, _folders(home)), reverse=True)[keep:]:
            if _can_be_undone(run):
                continue
            doomed = run.with_name(f".{run.name}.removed")
            run.rename(doomed)  # so that no reader finds half a run
            shutil.rmtree(doomed)
            removed.append(run)
    return removed


def _is_finished(run: Path) -> bool:
    return bool(runs.NAME.fullmatch(run.name)) and (run / record.NAME).is_file()


def _can_be_undone(run: Path) -> bool:
    path = run / journal.NAME
    if not path.exists():
        return False
    try:
        past = journal.read(path)
    except ReclaimError:
        return True  # an unreadable journal may hold changes
    return bool(past.applied or past.interrupted)


@contextmanager
def _locked(reports: Path) -> Iterator[None]:
    """Hold the lock of the index. Raises ReclaimError if another user has it: that may last for ever."""
    path = reports / _LOCK
    descriptor = os.open(
        path,
        os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC,
        0o600,
    )
    try:
        is_ours = os.fstat(descriptor).st_uid in trust.trusted_users()
        try:
            fcntl.flock(
                descriptor, fcntl.LOCK_EX if is_ours else fcntl.LOCK_EX | fcntl.LOCK_NB
            )
        except BlockingIOError as exc:
            raise ReclaimError(
                f"{path}: another user holds this lock: the index is as it was"
            ) from exc
        yield
    finally:
        os.close(descriptor)


def _load(reports: Path) -> IndexState:
    try:
        return IndexState.model_validate_json(whole.read(reports / _STATE))
    except (OSError, ValidationError):
        return IndexState(version=3)  # it is made from the runs again


def _folders(where: Path) -> list[Path]:
    folders = []
    with os.scandir(where) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                folders.append(where / entry.name)
    return folders


def _scan(reports: Path) -> tuple[dict[str, tuple[int, int]], list[str]]:
    """The runs with a results.json, and those that look like runs and have none."""
    stamps, unfinished = {}, []
    for home in _folders(reports):
        for run in _folders(home):
            key = f"{home.name}/{run.name}"
            try:
                status = (run / record.NAME).stat()
            except OSError:
                if runs.NAME.fullmatch(run.name):
                    unfinished.append(key)
            else:
                stamps[key] = (status.st_mtime_ns, status.st_size)
    return stamps, sorted(unfinished, reverse=True)


def _refresh(
    reports: Path, state: IndexState, stamps: dict[str, tuple[int, int]]
) -> list[str]:
    """Bring *state* up to date with the folders, and return all runs, the newest first."""
    for key in state.runs.keys() - stamps.keys():
        del state.runs[key]
    for key, stamp in stamps.items():
        known = state.runs.get(key)
        if known is None or known.stamp != stamp:
            state.runs[key] = _entry(reports / key, stamp)
    ordered = sorted(state.runs, key=lambda key: (state.runs[key].started, key))
    lives: dict[tuple[str, str], list[str]] = {}
    for key in ordered:
        entry = state.runs[key]
        if entry.trouble is None:
            home = key.partition("/")[0]
            lives.setdefault((home, entry.uri), []).append(key)
    read = lru_cache(maxsize=_BACK + 2)(record.read)
    for readable in lives.values():
        _refresh_life(reports, state, readable, read)
    return ordered[::-1]


def _refresh_life(
    reports: Path,
    state: IndexState,
    readable: list[str],
    read: Callable[[Path], Record],
) -> None:
    """Compare the runs of one hypervisor, oldest first, and keep bytes of the newest."""
    for number, key in enumerate(readable):
        earlier = readable[max(0, number - _BACK) : number]
        _hold_against(reports, state, earlier, key, read)
    for key in readable[:-_DRAWN]:
        entry = state.runs[key]
        entry.allocated = entry.standings = entry.spare = None
    for key in readable[-_DRAWN:]:
        if state.runs[key].allocated is None:
            _add_guests(state.runs[key], read(reports / key))


def _entry(run: Path, stamp: tuple[int, int]) -> ArchivedRun:
    try:
        run_record = record.read(run)
    except ReclaimError as exc:
        when = datetime.fromtimestamp(stamp[0] / 1e9, tz=timezone.utc)
        return ArchivedRun(
            stamp=stamp,
            started=when,
            trouble=printable(str(exc)),
            hypervisor=run.parent.name,
        )
    figures = summary.figures([run_record])
    standings = figures.standings
    entry = ArchivedRun(
        stamp=stamp,
        started=run_record.run.started,
        hypervisor=run_record.hypervisor.name,
        uri=redacted(run_record.hypervisor.uri),
        mode=run_record.run.mode,
        version=run_record.run.version,
        sentence=figures.sentence,
        verdicts=dict(figures.verdicts),
        reclaimed=run_record.reclaimed_bytes,
        reclaimable=figures.reclaimable,
        bad=standings[Standing.OPEN] + standings[Standing.PENDING],
        narrow=compare.is_narrow(run_record),
        whole_road=figures.whole_road,
        filesystems=_filesystems(run_record),
    )
    _add_guests(entry, run_record)
    return entry


def _filesystems(run: Record) -> dict[str, tuple[int, int]]:
    """Return the bytes used and free of the host's filesystems at the end of *run*."""
    levels = {}
    for space in run.filesystems:
        if space.used_after is not None and space.free_after is not None:
            levels[space.name] = space.used_after, space.free_after
    return levels


def _add_guests(entry: ArchivedRun, run: Record) -> None:
    """Add to *entry* the figures of each guest of *run*."""
    allocated: Counter[str] = Counter()
    spare: Counter[str] = Counter()
    for disk in run.storage:
        if disk.allocated_after is not None:
            allocated[disk.guest] += disk.allocated_after
        count = summary.reclaimable(disk)
        if count is not None:
            spare[disk.guest] += count
    standings: dict[str, list[str]] = {}
    for guest, rows in run.by_guest():
        if guest is not None:
            standing = summary.standing_in(run, rows)
            standings.setdefault(standing.name, []).append(guest)
    entry.allocated, entry.spare = dict(allocated), dict(spare)
    entry.standings = standings


def _hold_against(
    reports: Path,
    state: IndexState,
    earlier: list[str],
    key: str,
    read: Callable[[Path], Record],
) -> None:
    """Compare *key* with the runs before it, unless that was done."""
    entry = state.runs[key]
    last = earlier[-1] if earlier else None
    if entry.delta is not None and _still_holds(entry, last, state):
        return
    records = []
    for run in reversed(earlier):
        records.append(read(reports / run))
        if not state.runs[run].narrow:
            break
    entry.before = last
    entry.delta = _delta(compare.compare(records, read(reports / key)))


def _still_holds(entry: ArchivedRun, last: str | None, state: IndexState) -> bool:
    """True if *entry* was compared with *last*, or with a run that is gone and cannot be read again."""
    if entry.before == last:
        return True
    return bool(entry.before) and entry.before not in state.runs


def _delta(comparison: compare.Comparison) -> Delta:
    counts, first = {}, {}
    for kind, texts in (
        ("newly broken", list(map(str, comparison.broken))),
        ("newly mended", list(map(str, comparison.mended))),
        ("gone", list(map(printable, comparison.gone))),
        ("new guests", list(map(printable, comparison.new))),
    ):
        if texts:
            counts[kind] = len(texts)
            first[kind] = texts[:_TOLD]
    return Delta(counts=counts, told=first)


def _render(state: IndexState, ordered: list[str], unfinished: list[str]) -> str:
    runs = [(key, state.runs[key]) for key in ordered]
    months: dict[str, list[tuple[str, ArchivedRun]]] = {}
    for key, entry in runs[:_LISTED]:
        months.setdefault(f"{entry.started:%Y-%m}", []).append((key, entry))
    style, script = page.asset("style.css"), page.asset("index.js")
    return (
        page.environment()
        .get_template("index.html.jinja")
        .render(
            months=months,
            runs=len(ordered),
            older=len(runs[_LISTED:]),
            fleet=Fleet(sites(runs)),
            most_guests=MOST_GUESTS,
            shown_sites=_SITES,
            unfinished=unfinished,
            href=quote,
            style=style,
            script=script,
            policy=page.content_security_policy([style], [script]),
        )
    )
