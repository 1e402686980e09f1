"""Changes and findings in few words: the changed attribute, the command, the guests with one reason."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from reclaim.base.text import counted
from reclaim.base.verdict import Verdict
from reclaim.record.record import Record, RecordedChange, Row
from reclaim.report.findings import split

#: characters of a change that are shown, of one of its lines that are read, and its lines
_MOST, _LINE, _LINES = 160, 400, 400
#: letters of a guest's name that is looked for in reasons
_NAME = 3
#: pairs of lines that are described
_PAIRS = 2
_ELEMENT = re.compile(r"<([\w:.-]+)")
_ATTRIBUTE = re.compile(r"""\s([\w:.-]+)=("[^"]*"|'[^']*')""")
#: the verdicts that are findings, and after them those that are none and no pass
_BAD = (Verdict.ERROR, Verdict.NONCOMPLIANT, Verdict.PENDING, Verdict.NOT_ASSESSABLE)


def change(recorded: RecordedChange) -> str:
    """Return *recorded* in one short line: its attribute before and after, or its command."""
    removed, added = [], []
    for line in recorded.diff.split("\n")[:_LINES]:
        if line.startswith(("---", "+++")):
            continue
        if line.startswith("-"):
            removed.append(line[1 : _LINE + 1].strip())
        elif line.startswith("+"):
            added.append(line[1 : _LINE + 1].strip())
    if removed or added:
        return clipped(_lines(removed, added))
    return clipped(" ".join(recorded.diff.split()))


def clipped(text: str, most: int = _MOST) -> str:
    return text if len(text) <= most else f"{text[:most].rstrip()}…"


def _lines(removed: Sequence[str], added: Sequence[str]) -> str:
    """Return removed and added lines in words, those of one place together."""
    pairs = []
    for number in range(max(len(removed), len(added))):
        before = removed[number] if number < len(removed) else ""
        after = added[number] if number < len(added) else ""
        pairs.append((before, after))
    texts = [_pair(before, after) for before, after in pairs[:_PAIRS]]
    if len(pairs) > _PAIRS:
        texts.append(f"and {counted(len(pairs) - _PAIRS, 'more line')}")
    return "; ".join(filter(None, texts))


def _pair(before: str, after: str) -> str:
    if before and after:
        return _attributes(before, after) or _differing(before, after)
    return f"{after} added" if after else f"{before} removed"


def _differing(before: str, after: str) -> str:
    """Return the words of two lines that differ, without those that both begin or end with."""
    old, new = before.split(), after.split()
    while old and new and old[-1] == new[-1]:
        old.pop()
        new.pop()
    while old and new and old[0] == new[0]:
        del old[0], new[0]
    if old and new:
        return f"{' '.join(old)} → {' '.join(new)}"
    return f"{' '.join(new)} added" if new else f"{' '.join(old)} removed"


def _attributes(before: str, after: str) -> str:
    """Return the attributes that differ between two tags of one element; empty for other lines."""
    old, new = _ELEMENT.match(before), _ELEMENT.match(after)
    if old is None or new is None or old[1] != new[1]:
        return ""
    was, becomes = dict(_ATTRIBUTE.findall(before)), dict(_ATTRIBUTE.findall(after))
    texts = []
    for name in dict.fromkeys([*was, *becomes]):
        if name not in was:
            texts.append(f"{name}={becomes[name]} added")
        elif name not in becomes:
            texts.append(f"{name}={was[name]} removed")
        elif was[name] != becomes[name]:
            texts.append(f"{name}={was[name]} → {becomes[name]}")
    return f"<{old[1]}> {', '.join(texts)}" if texts else ""


def reason(row: Row) -> str:
    """Return why *row* does not hold, without the reason why it was not fixed."""
    text, _ = split(row)
    return text or row.title


def _general(row: Row) -> str:
    """Return the reason of *row* with GUEST in place of the guest's name, as far as that is no common word."""
    text = reason(row)
    name = row.guest or ""
    if len(name) < _NAME or name not in text:
        return text
    return re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "GUEST", text)


# Findings -------------------------------------------------------------------------------------


@dataclass
class Alike:
    """The rows of one requirement that have one reason."""

    general: str
    rows: list[tuple[Record, Row]] = field(default_factory=list)

    @property
    def reason(self) -> str:
        """The reason of the one row; of several rows with GUEST in place of each guest's name."""
        return reason(self.rows[0][1]) if len(self.rows) == 1 else self.general


@dataclass
class Shortfall:
    """The rows of one requirement with one verdict that is no pass."""

    requirement: str
    title: str
    verdict: Verdict
    alike: list[Alike] = field(default_factory=list)

    @property
    def count(self) -> int:
        return sum(len(alike.rows) for alike in self.alike)

    @property
    def guests(self) -> int:
        names = {
            (id(record), row.guest)
            for alike in self.alike
            for record, row in alike.rows
            if row.guest is not None
        }
        return len(names)


def findings(rows: Iterable[tuple[Record, Row]]) -> list[Shortfall]:
    """Return the findings of *rows*: those that fail first, those of most rows first."""
    grouped: dict[tuple[str, Verdict], Shortfall] = {}
    reasons: dict[tuple[str, Verdict, str], Alike] = {}
    for record, row in rows:
        if row.verdict not in _BAD:
            continue
        key = row.requirement, row.verdict
        finding = grouped.setdefault(
            key, Shortfall(row.requirement, row.title, row.verdict)
        )
        why = _general(row)
        place = (*key, why)
        if place not in reasons:
            reasons[place] = Alike(why)
            finding.alike.append(reasons[place])
        alike = reasons[place]
        alike.rows.append((record, row))
    for finding in grouped.values():
        finding.alike.sort(key=lambda alike: -len(alike.rows))
    return sorted(grouped.values(), key=_place)


def _place(finding: Shortfall) -> tuple[int, int]:
    return _RANK[finding.verdict], -finding.count


#: errors are looked at with the findings: the most rows decide
_RANK = {
    Verdict.ERROR: 0,
    Verdict.NONCOMPLIANT: 0,
    Verdict.PENDING: 1,
    Verdict.NOT_ASSESSABLE: 2,
}
