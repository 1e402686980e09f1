"""Filters of lvm.conf(5), evaluated as lvm2 does it: lib/filters/filter-regex.c, libdm/regex/parse_rx.c and matcher.c.

Its expressions have no more than `* + ? | ( ) [ ] . ^ $ \\`. They are run as sets of states, so that time is linear in
the length of a name whatever the guest's expression is. `^` and `$` are characters that stand around each name; `.` and
`[^…]` match these too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from reclaim.inside.boot.lvmconf import NotUnderstoodError

_BEGIN, _END = 2, 3  # HAT_CHAR, DOLLAR_CHAR
_ALL = (1 << 256) - 1
_DOT = _ALL & ~(1 << 0 | 1 << ord("\n") | 1 << ord("\r"))
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t"}
_PAIRS = {"(": ")", "[": "]", "{": "}"}
#: the length of all patterns of a filter together, and the depth of their parentheses
_MAX_CHARACTERS = 4_096
_MAX_DEPTH = 50
#: steps from state to state that are made for one filter before it is given up
_MAX_STEPS = 500_000


@dataclass(frozen=True)
class Some:
    """One character or more, all of them among *characters*: a part of a name that is not known yet."""

    characters: str


#: a name of which parts are not known
Sketch = tuple[str | Some, ...]


@dataclass
class _Automaton:
    """The patterns' states: the ways from each without a character, and by which characters to which state."""

    free: list[list[int]] = field(default_factory=list)
    steps: list[tuple[int, int] | None] = field(default_factory=list)

    def state(self) -> int:
        self.free.append([])
        self.steps.append(None)
        return len(self.free) - 1

    def on(self, characters: int) -> tuple[int, int]:
        """Two new states, and the way between them by one of the *characters* (a set of bits)."""
        start, end = self.state(), self.state()
        self.steps[start] = (characters, end)
        return start, end


class Filter:
    """The patterns of `filter` or `global_filter`, in their order. Raises NotUnderstoodError if lvm2 refuses them."""

    def __init__(self, patterns: list[str]) -> None:
        if not patterns:
            raise NotUnderstoodError("it has no pattern")
        if sum(map(len, patterns)) > _MAX_CHARACTERS:
            raise NotUnderstoodError("it is longer than reclaim reads")
        self._takes = [pattern[:1] == "a" for pattern in patterns]
        self._machine = _Automaton()
        self._ends: dict[int, int] = {}
        starts = []
        for number, pattern in enumerate(patterns):
            start, end = _Expression(self._machine, _expression(pattern)).parsed()
            starts.append(start)
            self._ends[end] = number
        self._left = _MAX_STEPS
        self._moves: dict[tuple[frozenset[int], int], frozenset[int]] = {}
        self._matches: dict[frozenset[int], set[int]] = {}
        # `.*` stands before each: they begin anew at every character
        self._start = self._reached(starts)

    def takes(self, name: str) -> bool | None:
        """True if it takes a device by *name*, False if it rejects it; None if no pattern matches."""
        matching = self._run((name,))[0]
        if matching:
            return self._takes[min(matching)]
        return None

    def might(self, name: Sketch) -> set[bool | None]:
        """Return the possible verdicts on a name that is known in part: too many rather than too few."""
        possible, certain = self._run(name)
        first = min(certain, default=len(self._takes))
        verdicts: set[bool | None] = {
            self._takes[number] for number in possible if number <= first
        }
        if certain:
            return verdicts
        return verdicts | {None}

    def _run(self, name: Sketch) -> tuple[set[int], set[int]]:
        """Return the patterns that may match the name, and those that match whatever its unknown parts are."""
        states = self._moved(self._start, 1 << _BEGIN)
        possible = set(self._matching(states))
        certain = set(possible)
        for number, part in enumerate((*name, "")):
            if isinstance(part, Some):
                states, on_the_way = self._wandered(states, _bits(part.characters))
                possible |= on_the_way
                continue
            known = not any(isinstance(before, Some) for before in name[:number])
            characters = [*part.encode("utf-8", errors="surrogateescape")]
            if number == len(name):
                characters = [_END]
            for character in characters:
                states = self._moved(states, 1 << character)
                matching = self._matching(states)
                possible |= matching
                if known:
                    certain |= matching
        return possible, certain

    def _wandered(
        self, states: frozenset[int], characters: int
    ) -> tuple[frozenset[int], set[int]]:
        """Return the states after one of the *characters* or more, and the patterns that may match on the way."""
        reached = frozenset[int]()
        following = self._moved(states, characters)
        while not following <= reached:
            reached |= following
            following = self._moved(reached, characters)
        return reached, self._matching(reached)

    def _matching(self, states: frozenset[int]) -> set[int]:
        patterns = self._matches.get(states)
        if patterns is None:
            patterns = {self._ends[state] for state in states if state in self._ends}
            self._matches[states] = patterns
        return patterns

    def _moved(self, states: frozenset[int], characters: int) -> frozenset[int]:
        """Return the states after one of the *characters*, with those in which each pattern begins."""
        known = self._moves.get((states, characters))
        if known is not None:
            return known
        ends = []
        for state in states:
            step = self._machine.steps[state]
            if step and step[0] & characters:
                ends.append(step[1])
        moved = self._reached(ends) | self._start
        self._left -= len(states)
        return self._moves.setdefault((states, characters), moved)

    def _reached(self, states: list[int]) -> frozenset[int]:
        """Return *states* and all that they go to without a character."""
        reached, left = set(states), list(states)
        while left:
            free = self._machine.free[left.pop()]
            new = [state for state in free if state not in reached]
            reached.update(new)
            left += new
        self._left -= len(reached)
        if self._left < 0:
            raise NotUnderstoodError("its patterns take too long to evaluate")
        return frozenset(reached)


def _expression(pattern: str) -> str:
    """Return the expression between a pattern's delimiters, which are any character (_extract_pattern)."""
    kind, delimiter, rest = pattern[:1], pattern[1:2], pattern[2:]
    is_delimited = delimiter and rest.endswith(_PAIRS.get(delimiter, delimiter))
    if kind not in ("a", "r") or not is_delimited:
        raise NotUnderstoodError(
            f"{pattern[:60]!r} is no pattern: a or r, a delimiter, an expression, the delimiter"
        )
    if not pattern.isascii():
        raise NotUnderstoodError(f"{pattern[:60]!r} has characters that are not ASCII")
    return rest[:-1]


def _bits(characters: str) -> int:
    return sum(1 << ord(character) for character in set(characters))


class _Expression:
    """One expression, made into states of a machine. The grammar is parse_rx.c's."""

    def __init__(self, machine: _Automaton, text: str) -> None:
        self.machine, self.text, self.at, self.depth = machine, text, 0, 0

    def parsed(self) -> tuple[int, int]:
        ends = self._either()
        if self.at < len(self.text):
            raise self._wrong()
        return ends

    def _wrong(self) -> NotUnderstoodError:
        rest = self.text[self.at :][:20]
        return NotUnderstoodError(
            f"the expression {self.text[:60]!r} is not understood at {rest!r}"
        )

    def _next(self) -> str:
        return self.text[self.at : self.at + 1]

    def _either(self) -> tuple[int, int]:
        start, end = self._sequence()
        while self._next() == "|":
            self.at += 1
            other, after = self._sequence()
            both, out = self.machine.state(), self.machine.state()
            self.machine.free[both] += [start, other]
            self.machine.free[end].append(out)
            self.machine.free[after].append(out)
            start, end = both, out
        return start, end

    def _sequence(self) -> tuple[int, int]:
        start, end = self._repeated()
        while self._next() not in ("", "|", ")"):
            following, after = self._repeated()
            self.machine.free[end].append(following)
            end = after
        return start, end

    def _repeated(self) -> tuple[int, int]:
        start, end = self._one()
        while (mark := self._next()) and mark in "*+?":
            self.at += 1
            before, after = self.machine.state(), self.machine.state()
            self.machine.free[before].append(start)
            self.machine.free[end].append(after)
            if mark in "*?":
                self.machine.free[before].append(after)
            if mark in "*+":
                self.machine.free[end].append(start)
            start, end = before, after
        return start, end

    def _one(self) -> tuple[int, int]:
        character = self._next()
        if character == "(":
            return self._group()
        if not character or character in ")*+?|":
            raise self._wrong()
        self.at += 1
        if character == "[":
            return self.machine.on(self._set())
        if character == "\\":
            return self.machine.on(1 << ord(self._escaped()))
        special = {".": _DOT, "^": 1 << _BEGIN, "$": 1 << _END}
        return self.machine.on(special.get(character, 1 << ord(character)))

    def _group(self) -> tuple[int, int]:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise self._wrong()
        self.at += 1
        ends = self._either()
        if self._next() != ")":
            raise self._wrong()
        self.at += 1
        self.depth -= 1
        return ends

    def _escaped(self) -> str:
        character = self._next()
        if not character:
            raise self._wrong()
        self.at += 1
        return _ESCAPED.get(character, character)

    def _set(self) -> int:
        """Return the characters between brackets. A dash takes any character as its upper end, a bracket too."""
        negated = self._next() == "^"
        self.at += negated
        characters = 0
        for low, high in self._ranges():
            characters |= (1 << (high + 1)) - (1 << low)
        if negated:
            return _ALL & ~characters & ~1
        return characters

    def _ranges(self) -> Iterator[tuple[int, int]]:
        before = 0
        while (character := self._next()) != "]":
            if not character:
                raise self._wrong()
            self.at += 1
            if character == "\\":
                value = ord(self._escaped())
            elif character == "-" and before:
                if not self._next():
                    raise self._wrong()
                value = ord(self._next())
                self.at += 1
                low, high = sorted((before, value))
                yield low, high
                before = high
                continue
            else:
                value = ord(character)
            yield value, value
            before = value
        self.at += 1
