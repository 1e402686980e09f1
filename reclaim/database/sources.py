"""The records below the folders that are merged."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reclaim.base.errors import ReclaimError
from reclaim.base.text import printable
from reclaim.files import there
from reclaim.record import record, runs


@dataclass(frozen=True)
class Source:
    """One results.json. `folder` is the name of the folder that holds its run: the hypervisor's.

    If the folder of the file is not called as a run is, it is that of the hypervisor itself.
    """

    folder: str
    run: str
    path: str

    def name_of(self, run: str) -> str:
        """Return the name of *run*: that of its folder, which has a number if another run began in the same second."""
        is_its_own = runs.NAME.fullmatch(self.run) and self.run.startswith(run)
        return self.run if is_its_own else run

    @property
    def order(self) -> tuple[str, str, str]:
        """The runs of a hypervisor come one after the other, in the order of their names, which begin with the time."""
        return self.folder, self.run, self.path


@dataclass
class Sources:
    """The records that were found, a line for each link that was not followed, and one for each unreadable folder."""

    every: list[Source] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


def below(places: Sequence[Path]) -> Sources:
    """Return the records below *places*: each is a folder of any depth, or a results.json.

    Raises ReclaimError if one of *places* is not there, cannot be read, or holds no record. A folder below it that
    cannot be read costs the others nothing.
    """
    sources = Sources()
    known: set[str] = set()
    for place in places:
        # `latest` may be given itself: then it is the run that it leads to
        home = place.resolve()
        if not there.exists(home):
            raise ReclaimError(f"{place}: there is no such folder")
        paths = [str(home)] if home.is_file() else [*_files(home, sources)]
        if not paths:
            why = f" ({sources.unreadable[0]})" if sources.unreadable else ""
            raise ReclaimError(
                f"{place}: there is no {record.NAME} in it, or below it{why}"
            )
        for path in paths:
            if path not in known:
                known.add(path)
                sources.every.append(_source(path))
    sources.every.sort(key=lambda source: source.order)
    return sources


def _source(path: str) -> Source:
    run = os.path.dirname(path)  # noqa: PTH120 - of many
    name = os.path.basename(run)  # noqa: PTH119
    if name != runs.LATEST and not runs.NAME.fullmatch(name):
        return Source(name, name, path)
    return Source(Path(run).parent.name, name, path)


def _files(home: Path, sources: Sources) -> Iterator[str]:
    """Yield the paths of the records below *home*. Hidden folders are those of runs that are half removed."""
    pending = [str(home)]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(folder) as entries:
                inside = [*entries]
        except FileNotFoundError:
            if folder == str(home):
                raise ReclaimError(f"{folder}: there is no such folder") from None
            continue  # runs are pruned meanwhile
        except OSError as exc:
            if folder == str(home):
                raise ReclaimError(f"{folder}: {exc.strerror}") from exc
            sources.unreadable.append(f"{printable(folder)}: {exc.strerror}")
            continue
        for entry in inside:
            if entry.name == record.NAME and not entry.is_dir(follow_symlinks=False):
                yield entry.path
            elif entry.name.startswith("."):
                continue
            elif entry.is_dir(follow_symlinks=False):
                pending.append(entry.path)
            elif entry.name != runs.LATEST and entry.is_symlink() and entry.is_dir():
                sources.notes.append(
                    f"{printable(entry.path)}: a link, which is not followed: give its target too"
                )
