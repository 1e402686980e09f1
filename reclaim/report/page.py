"""The static page: every row of one run or of many, readable without a script, one file, no network."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, cached_property
from pathlib import Path
from typing import TypeVar

import jinja2
from markupsafe import Markup, escape

from reclaim.base.text import printable, size
from reclaim.base.typed import command
from reclaim.base.verdict import Verdict
from reclaim.record import typed
from reclaim.record.record import Record, RecordedChange, Row, Storage, anchor
from reclaim.report import commands, summary
from reclaim.report.summary import Standing
from reclaim.requirement import Requirement, catalogue

NAME = "report.html"
#: rows of a table that a browser lays out at a time; rows off the screen wait
CHUNK = 50
#: tasks and changes that are listed at the top; the rows have them all
LISTED = 200

GLYPHS: dict[Verdict, str] = {
    Verdict.COMPLIANT: "✓",
    Verdict.FIXED: "+",
    Verdict.PENDING: "~",
    Verdict.NONCOMPLIANT: "✗",
    Verdict.NOT_APPLICABLE: "–",
    Verdict.NOT_ASSESSABLE: "?",
    Verdict.WAIVED: "w",
    Verdict.ERROR: "!",
}
MEANINGS: dict[Verdict, str] = {
    Verdict.COMPLIANT: "it holds",
    Verdict.FIXED: "it was fixed, and holds",
    Verdict.PENDING: "it will hold after a restart of the guest",
    Verdict.NONCOMPLIANT: "it does not hold",
    Verdict.NOT_APPLICABLE: "it does not apply here",
    Verdict.NOT_ASSESSABLE: "reclaim could not check it",
    Verdict.WAIVED: "the inventory waives it",
    Verdict.ERROR: "looking failed",
}

#: the elements of HTML for the lines of a diff
_DIFF_ELEMENTS = {"+": "ins", "-": "del"}

T = TypeVar("T")


@dataclass(frozen=True)
class GuestView:
    """One guest's line of the heat grid, and its rows."""

    record: Record
    name: str
    rows: list[Row]
    reclaimable: int

    @property
    def anchor(self) -> str:
        return anchor(
            "guest", self.record.run.id, self.record.hypervisor.name, self.name
        )

    @property
    def standing(self) -> Standing:
        return summary.standing_in(self.record, self.rows)

    @property
    def findings(self) -> int:
        return sum(row.verdict.outcome == "failed" for row in self.rows)

    def cells(self, slugs: Sequence[str]) -> list[list[Row]]:
        """Return the rows behind each cell of the grid: one, or one for each disk."""
        groups: dict[str, list[Row]] = {slug: [] for slug in slugs}
        for row in self.rows:
            groups[row.requirement].append(row)
        return list(groups.values())


@dataclass(frozen=True)
class Asked:
    """A requirement as the page explains it."""

    slug: str
    title: str
    declared: Requirement | None


@dataclass(frozen=True)
class Bars:
    """The widths of one disk's bar, of 200."""

    before: float
    after: float
    used: float | None


@dataclass(frozen=True)
class View:
    """The values that the templates read."""

    records: Sequence[Record]
    #: the folder of each record, for the commands; None if it has none
    folders: Sequence[Path | None]
    #: are the rows on this page ours, or pytest-html's?
    own_rows: bool = True
    remark: str = ""

    @cached_property
    def title(self) -> str:
        names = list(dict.fromkeys(record.hypervisor.name for record in self.records))
        modes = dict.fromkeys(record.run.mode for record in self.records)
        of = names[0] if len(names) == 1 else f"{len(names)} hypervisors"
        return f"reclaim {'/'.join(modes)}: {of}"

    @cached_property
    def figures(self) -> summary.Figures:
        return summary.figures(self.records)

    def _rows(self) -> Iterator[tuple[Record, Row]]:
        for record in self.records:
            for row in record.results:
                yield record, row

    @cached_property
    def guests(self) -> list[GuestView]:
        views = []
        for record in self.records:
            spare: Counter[str] = Counter()
            for disk in record.storage:
                spare[disk.guest] += summary.reclaimable(disk) or 0
            for guest, rows in record.by_guest():
                if guest is not None:
                    views.append(GuestView(record, guest, rows, spare[guest]))
        return views

    @cached_property
    def others(self) -> list[tuple[Record, list[Row]]]:
        """The rows that belong to no guest: backups and their jobs."""
        groups = []
        for record in self.records:
            for guest, rows in record.by_guest():
                if guest is None:
                    groups.append((record, rows))
        return groups

    @cached_property
    def asked(self) -> list[Asked]:
        """The requirements of the rows, in the order in which a guest is remedied."""
        titles = {row.requirement: row.title for _, row in self._rows()}
        known = [slug for slug in catalogue() if slug in titles]
        unknown = sorted(titles.keys() - known)
        return [
            Asked(slug, titles[slug], catalogue().get(slug))
            for slug in (*known, *unknown)
        ]

    @cached_property
    def columns(self) -> list[str]:
        """The requirements that are asked of guests: the columns of the grid."""
        of_guests = set()
        for _, row in self._rows():
            if row.guest is not None:
                of_guests.add(row.requirement)
        return [asked.slug for asked in self.asked if asked.slug in of_guests]

    @cached_property
    def disks(self) -> list[tuple[Record, Storage]]:
        return [(record, disk) for record in self.records for disk in record.storage]

    @cached_property
    def changes(self) -> list[tuple[Record, Row, RecordedChange]]:
        return [
            (record, row, change)
            for record, row in self._rows()
            for change in row.changes
        ]

    @cached_property
    def undo(self) -> list[str]:
        """The commands that take the changes of these runs back."""
        commands = []
        for record, folder in zip(self.records, self.folders, strict=True):
            if folder is None:
                continue
            if any(map(_has_standing_change, record.results)):
                commands.append(typed.undo(folder, anywhere=True))
        return commands

    @cached_property
    def again(self) -> str:
        """The command that makes this page again."""
        places = [
            "RUN" if folder is None else str(folder.absolute())
            for folder in self.folders
        ]
        return command("report", *places)

    @cached_property
    def tasks(self) -> list[tuple[Record, commands.Task]]:
        return [
            (record, task) for record in self.records for task in commands.tasks(record)
        ]


def _has_standing_change(row: Row) -> bool:
    return any(change.applied and not change.undone for change in row.changes)


def render(view: View) -> Iterator[str]:
    """Yield the page piece by piece: that of a large fleet is never in memory at once."""
    style, script = asset("style.css"), asset("script.js")
    policy = content_security_policy([style], [script])
    return (
        environment()
        .get_template("page.html.jinja")
        .generate(view=view, style=style, script=script, policy=policy)
    )


@cache
def asset(name: str) -> Markup:
    """Return a file of the templates' folder that goes into a page as it is."""
    path = Path(__file__).with_name("templates") / name
    return Markup(path.read_text(encoding="utf-8"))  # noqa: S704 - our own


def content_security_policy(
    styles: Sequence[str], scripts: Sequence[str], images: str = "'none'"
) -> str:
    """Return a policy that loads nothing and runs only *scripts*, so that no text of a guest becomes a script."""
    return (
        f"default-src 'none'; img-src {images}; style-src {_hashes(styles)}; script-src {_hashes(scripts)}; "
        "base-uri 'none'; form-action 'none'"
    )


def _hashes(texts: Sequence[str]) -> str:
    if not texts:
        return "'none'"
    sources = []
    for text in texts:
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        sources.append(f"'sha256-{digest}'")
    return " ".join(sources)


@cache
def environment() -> jinja2.Environment:
    jinja = jinja2.Environment(
        loader=jinja2.PackageLoader("reclaim.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters |= {
        "shown": _shown,
        "size": _size,
        "moment": moment,
        "chunks": chunks,
        "diff": diff_lines,
        "prose": prose,
    }
    jinja.globals |= {
        "glyphs": GLYPHS,
        "meanings": MEANINGS,
        "verdicts": list(Verdict),
        "bars": bars,
        "spare": summary.reclaimable,
        "came_back": summary.came_back,
        "listed": LISTED,
        "neutral": commands.neutral,
        "chunk": CHUNK,
    }
    return jinja


def _shown(text: str | None) -> str:
    return printable(text) if text else ""


def _size(count: int | None) -> str:
    return "not known" if count is None else size(count)


def moment(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M:%S} UTC"


def chunks(items: Sequence[T], length: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), length):
        yield items[start : start + length]


def prose(text: str) -> Markup:
    """Return a docstring as markup: text between backticks is code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped before


def diff_lines(text: str) -> Iterator[tuple[str, str]]:
    """Yield each line of a diff with its HTML element: "ins", "del" or ""."""
    for line in text.split("\n"):
        element = ""
        if not line.startswith(("+++", "---")):
            element = _DIFF_ELEMENTS.get(line[:1], "")
        yield element, printable(line)


def bars(disk: Storage) -> Bars | None:
    """Return the bar of *disk*, as wide as its largest known size, or None if no size is known."""
    counts = [disk.virtual, disk.allocated_before, disk.allocated_after, disk.used]
    widest = max(count or 0 for count in counts)
    if not widest:
        return None

    def width(count: int | None) -> float:
        return round(200 * (count or 0) / widest, 1)

    used = None if disk.used is None else width(disk.used)
    return Bars(width(disk.allocated_before), width(disk.allocated_after), used)


def page(
    records: Sequence[Record], folders: Sequence[Path | None], remark: str = ""
) -> Iterator[str]:
    """Yield the static page of *records*."""
    return render(View(records, folders, remark=remark))
