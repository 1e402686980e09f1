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
from typing import TYPE_CHECKING, TypeVar

from reclaim.base.text import counted, printable, size
from reclaim.base.typed import command
from reclaim.base.verdict import Verdict
from reclaim.record import typed
from reclaim.record.record import Record, RecordedChange, Row, Storage, anchor
from reclaim.report import brief, commands, findings, pictures, summary
from reclaim.report.pictures import Glass, Level
from reclaim.report.summary import Standing
from reclaim.report.waiting import waiting
from reclaim.requirement import Requirement, catalogue

if TYPE_CHECKING:
    import jinja2
    from markupsafe import Markup

NAME = "report.html"
#: rows of a table that a browser lays out at a time; rows off the screen wait
CHUNK = 50
#: tasks and changes that are listed at the top; the rows have them all
LISTED = 200
#: of tasks, changes and findings, those that are shown before the others are folded
FIRST = {"tasks": 2, "reasons": 2, "changes": 4, "findings": 12, "alike": 3, "rows": 4}
#: guests whose bytes are drawn
DRAWN = 20
#: rows of guests that one page carries; results.json has them all
MOST_ROWS = 40_000
#: rows that are printed on paper; of more rows only the findings are
PRINTED = 100
#: rows from which on every guest is folded
UNFOLDED = 2000

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
    Verdict.PENDING: "it was changed, and takes effect after a restart of the guest",
    Verdict.NONCOMPLIANT: "it does not hold",
    Verdict.NOT_APPLICABLE: "it does not apply here",
    Verdict.NOT_ASSESSABLE: "reclaim could not check it",
    Verdict.WAIVED: "the inventory waives it",
    Verdict.ERROR: "looking failed",
}

#: things to know about the counts of a filesystem, by its type
CAVEATS = {
    "btrfs": "btrfs estimates its free space; shared blocks (snapshots, reflinks) are freed with the last copy",
    "zfs": "datasets of one ZFS pool share its free space, snapshots keep freed blocks, and counts lag by seconds",
    "nfs": "an NFS server counts, and the client keeps its answer for a while",
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

    @cached_property
    def standing(self) -> Standing:
        return summary.standing_in(self.record, self.rows)

    @cached_property
    def findings(self) -> int:
        return sum(row.verdict.outcome == "failed" for row in self.rows)

    @property
    def place(self) -> tuple[int, int]:
        """The worst guests come first."""
        return list(Standing).index(self.standing), -self.findings

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
class Total:
    """The rows of one requirement in the grid: those that do not hold, and those that reclaim could not check."""

    slug: str
    failed: int
    unknown: int
    every: int


@dataclass(frozen=True)
class View:
    """The values that the templates read."""

    records: Sequence[Record]
    #: the folder of each record, for the commands; None if it has none
    folders: Sequence[Path | None]
    #: are the rows on this page ours, or pytest-html's?
    own_rows: bool = True
    remark: str = ""
    #: the name of pytest-html's page beside this one; empty if there is none
    rows_page: str = ""

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
    def state(self) -> str:
        """The colour of the sentence: "bad" if something does not hold, "good" if all holds, else "unknown"."""
        verdicts = self.figures.verdicts
        if any(verdicts[verdict] for verdict in Verdict if verdict.outcome == "failed"):
            return "bad"
        if verdicts[Verdict.NOT_ASSESSABLE] or not verdicts:
            return "unknown"
        return "good"

    @cached_property
    def every_guest(self) -> list[GuestView]:
        """All guests, the worst first."""
        views = []
        for record in self.records:
            spare: Counter[str] = Counter()
            for disk in record.storage:
                spare[disk.guest] += summary.reclaimable(disk) or 0
            for guest, rows in record.by_guest():
                if guest is not None:
                    views.append(GuestView(record, guest, rows, spare[guest]))
        return sorted(views, key=lambda view: view.place)

    @cached_property
    def guests(self) -> list[GuestView]:
        """The guests whose rows this page carries, the worst first."""
        rows = 0
        for number, guest in enumerate(self.every_guest):
            rows += len(guest.rows)
            if rows > MOST_ROWS:
                return self.every_guest[:number]
        return self.every_guest

    @cached_property
    def left_out(self) -> list[GuestView]:
        """The guests whose rows are in results.json alone."""
        return self.every_guest[len(self.guests) :]

    @cached_property
    def findings(self) -> list[brief.Shortfall]:
        return brief.findings(self._rows())

    @cached_property
    def totals(self) -> list[Total]:
        """A total for each column of the grid."""
        failed: Counter[str] = Counter()
        unknown: Counter[str] = Counter()
        every: Counter[str] = Counter()
        for _, row in self._rows():
            if row.guest is not None:
                every[row.requirement] += 1
                failed[row.requirement] += row.verdict.outcome == "failed"
                unknown[row.requirement] += row.verdict is Verdict.NOT_ASSESSABLE
        return [
            Total(slug, failed[slug], unknown[slug], every[slug])
            for slug in self.columns
        ]

    @cached_property
    def glasses(self) -> list[Glass]:
        """The bytes of each guest, those first of which the most came or can come back."""
        drawn = []
        for record in self.records:
            disks: dict[str, list[Storage]] = {}
            for disk in record.storage:
                disks.setdefault(disk.guest, []).append(disk)
            for guest, several in disks.items():
                drawn.append(pictures.glass(guest, several))
        return sorted(filter(None, drawn), key=lambda glass: -glass.weight)

    @cached_property
    def levels(self) -> list[tuple[Record, Level]]:
        """The host's filesystems that hold images, the fullest first."""
        levels = []
        for record in self.records:
            for space in record.filesystems:
                levels.append((record, pictures.level(space)))
        return sorted(levels, key=lambda pair: -(pair[1].after or 0))

    @cached_property
    def caveats(self) -> list[str]:
        """Things to know about the counts of these filesystems."""
        types = {level.space.type or "" for _, level in self.levels}
        return [
            caveat
            for name, caveat in CAVEATS.items()
            if any(kind.startswith(name) for kind in types)
        ]

    @property
    def row_count(self) -> int:
        return sum(len(record.results) for record in self.records)

    @property
    def prints_rows(self) -> bool:
        return self.row_count <= PRINTED

    @property
    def unfolds(self) -> bool:
        return self.row_count <= UNFOLDED

    @property
    def modes(self) -> list[str]:
        return sorted({record.run.mode for record in self.records})

    @cached_property
    def applied(self) -> list[tuple[Record, Row, RecordedChange]]:
        """The changes that were made."""
        return [made for made in self.changes if made[2].applied]

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
    style = asset("style.css")
    scripts = [asset("copy.js"), asset("script.js")]
    policy = content_security_policy([style], scripts)
    return (
        environment()
        .get_template("page.html.jinja")
        .generate(view=view, style=style, scripts=scripts, policy=policy)
    )


@cache
def asset(name: str) -> Markup:
    """Return a file of the templates' folder that goes into a page as it is."""
    from markupsafe import Markup  # noqa: PLC0415 (start-up)

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
    import jinja2  # noqa: PLC0415 (start-up)

    jinja = jinja2.Environment(
        loader=jinja2.PackageLoader("reclaim.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,  # else each row asks whether the templates are newer
    )
    jinja.filters |= {
        "shown": _shown,
        "dotted": _dotted,
        "size": _size,
        "moment": moment,
        "chunks": chunks,
        "diff": diff_lines,
        "prose": prose,
        "exact": exact,
        "percent": percent,
        "brief": brief.change,
        "clipped": brief.clipped,
        "counted": counted,
        "is_of_samples": summary.is_of_samples,
    }
    jinja.globals |= {
        "glyphs": GLYPHS,
        "meanings": MEANINGS,
        "verdicts": list(Verdict),
        "first": FIRST,
        "drawn": DRAWN,
        "why": findings.why,
        "balance": findings.balance,
        "waiting": waiting,
        "printed": PRINTED,
        "wide": pictures.WIDE,
        "spare": summary.reclaimable,
        "came_back": summary.came_back,
        "listed": LISTED,
        "most_rows": MOST_ROWS,
        "neutral": commands.neutral,
        "chunk": CHUNK,
    }
    return jinja


def _shown(text: str | None) -> str:
    return printable(text) if text else ""


def _dotted(name: str) -> Markup:
    """Return a host or guest *name* as HTML that breaks behind its dots before it breaks within a word."""
    from markupsafe import Markup  # noqa: PLC0415 (start-up)

    return Markup("<wbr>").join(re.findall(r"[^.]*\.+|[^.]+", _shown(name)))


def _size(count: int | None) -> str:
    return "not known" if count is None else size(count)


def exact(count: int | None) -> str:
    """Return *count* bytes in full: "5,368,709,120 bytes"."""
    return "not known" if count is None else f"{count:,} bytes"


def percent(part: float | None) -> str:
    return "not known" if part is None else f"{part:.0f}\u00a0%"


def moment(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M:%S} UTC"


def chunks(items: Sequence[T], length: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), length):
        yield items[start : start + length]


def prose(text: str) -> Markup:
    """Return a docstring as markup: text between backticks is code."""
    from markupsafe import Markup, escape  # noqa: PLC0415 (start-up)

    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped before


def diff_lines(text: str) -> Iterator[tuple[str, str]]:
    """Yield each line of a diff with its HTML element: "ins", "del" or ""."""
    for line in text.split("\n"):
        element = ""
        if not line.startswith(("+++", "---")):
            element = _DIFF_ELEMENTS.get(line[:1], "")
        yield element, printable(line)


def page(
    records: Sequence[Record],
    folders: Sequence[Path | None],
    remark: str = "",
    *,
    rows_page: str = "",
) -> Iterator[str]:
    """Yield the static page of *records*. *rows_page* is the name of pytest-html's page beside it."""
    return render(View(records, folders, remark=remark, rows_page=rows_page))
