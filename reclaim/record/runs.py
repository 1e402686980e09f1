"""The runs of an archive, by the names that people type."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher
from os.path import commonprefix
from pathlib import Path

from reclaim.base.errors import ReclaimError
from reclaim.base.text import printable, some
from reclaim.files import there
from reclaim.record import record
from reclaim.record.record import Record

LATEST = "latest"
#: the name of a run's folder: its stamp, its mode, and a number if another run had the name
NAME = re.compile(r"(\d{8}T\d{6}Z)-(?:audit|plan|fix)(?:-(\d+))?")
#: runs that are gone back over to find the verdicts before
_BACK = 20
#: runs that a message names, and the likeness of those that are near
_NAMED = 3
_NEAR = 0.5


def below(folder: Path) -> list[Path]:
    """Return the runs of one hypervisor, whose reports lie in *folder*, the newest first."""
    if not there.is_folder(folder):
        return []
    return _sorted(
        path
        for path in folder.iterdir()
        if NAME.fullmatch(path.name) and path.is_dir() and not path.is_symlink()
    )


def earlier(run: Path, uri: str) -> Iterator[Record]:
    """Yield the records of the last runs of *uri* beside *run*, the newest first. *uri* is as records have it.

    A run that died, or that was copied in part, is left out.
    """
    others = [path for path in below(run.parent) if path.name != run.name]
    for path in others[:_BACK]:
        try:
            before = record.read(path)
        except ReclaimError:
            continue
        if before.hypervisor.uri == uri:
            yield before


def every(reports: Path) -> list[Path]:
    """Return the runs of all hypervisors below *reports*, the newest first.

    Raises ReclaimError if the folder cannot be read.
    """
    try:
        folders = sorted(reports.iterdir()) if there.is_folder(reports) else []
        return _sorted(path for folder in folders for path in below(folder))
    except OSError as exc:
        raise ReclaimError(f"{reports}: {exc.strerror}") from exc


def _sorted(runs: Iterable[Path]) -> list[Path]:
    """Return *runs*, the newest first. Of those that began in one second the link `latest` names the last."""
    every = list(runs)
    linked = {_linked(home) for home in {run.parent for run in every}}

    def age(run: Path) -> tuple[str, bool, int]:
        stamp, number = NAME.fullmatch(run.name).groups()  # type: ignore[union-attr]
        return stamp, run in linked, int(number or 1)

    return sorted(every, key=age, reverse=True)


def _linked(home: Path) -> Path | None:
    """Return the run that the link `latest` of one hypervisor names; None if it names none."""
    try:
        return home / (home / LATEST).readlink().name
    except OSError:
        return None


def find(text: str, reports: Path, holds: str = "") -> Path:
    """Return the run that *text* names: a path, `latest`, or the beginning of a name below *reports*.

    Raises ReclaimError with one line if it names none or several, or if the latest has no file *holds*, or several.
    """
    # a link here that leads nowhere names no run of another folder
    if text and os.path.lexists(text):
        return Path(text)
    known = every(reports)
    if text == LATEST and known:
        return _latest(known, holds)
    names = [_name(run) for run in known]
    exact = [run for run in known if text in (run.name, _name(run))]
    matching = exact or [
        run
        for run, name in zip(known, names, strict=True)
        if text and (run.name.startswith(text) or name.startswith(text))
    ]
    if len(matching) == 1:
        return matching[0]
    if matching:
        raise ReclaimError(
            f"{text} fits {len(matching)} runs: {_listed(map(_name, matching))}"
        )
    raise ReclaimError(f"{text}: {_unknown(text, names, reports)}")


def _latest(known: list[Path], holds: str) -> Path:
    newest = known[0]
    if not holds:
        return newest
    # one run over several hypervisors has a folder of this name for each
    parts = [run for run in known if run.name == newest.name and (run / holds).exists()]
    if len(parts) > 1:
        raise ReclaimError(
            f"the latest run has {len(parts)} hypervisors: give one after the other: {_listed(map(_name, parts))}"
        )
    if parts:
        return parts[0]
    others = [_name(run) for run in known if (run / holds).exists()]
    hint = f"the newest that did is {others[0]}" if others else "nor did any other"
    raise ReclaimError(f"the latest run, {_name(newest)}, changed nothing; {hint}")


def _unknown(text: str, names: list[str], reports: Path) -> str:
    reason = "there is no such file or folder, and no run"
    if not names:
        return f"{reason} below {reports}"
    likeness = {name: _likeness(text, name) for name in names}
    nearest = [name for name in names if likeness[name][1] >= _NEAR]
    if not nearest:
        return f"{reason} of this name below {reports}; the newest: {_listed(names)}"
    nearest.sort(key=likeness.__getitem__, reverse=True)
    return f"{reason} of this name below {reports}; the nearest: {_listed(nearest)}"


def _likeness(text: str, name: str) -> tuple[int, float]:
    """Return the length of the beginning that *text* and *name* share, and how alike they are, at most 1."""
    alone = name.partition("/")[2]
    if not text.startswith(name.partition("/")[0]):
        name = alone
    # of characters, for these are no paths
    shared = commonprefix([text, name])  # noqa: RUF071
    return len(shared), SequenceMatcher(None, text, name).ratio()


def _name(run: Path) -> str:
    return f"{run.parent.name}/{run.name}"


def _listed(names: Iterable[str]) -> str:
    return some([printable(name) for name in dict.fromkeys(names)], _NAMED)
