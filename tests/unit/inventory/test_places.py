"""The lines of tables and keys: the same places as tomllib, each on its line, or none."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from reclaim.inventory.places import NotRead, first_repeated, lines_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TEXT = '''\
# a comment [no.table]
top = 1 # and = more

[policy]
bus = "a # no comment"
"boot seconds" = 1_000
dotted . 'key' . "\\u00e9\\tx" = [ # a list
  "x", # one
  [1, 2,

   3], { a = 1, b.c = [true] },
]
long = """
[no.table]
a = 1 \\""" ""\\
"""
lit = \'\'\'
x = 1
\'\'\'
when = 2027-01-01 10:00:00Z
day = 2027-01-01
time = 10:00:00
[[ssh]]
guests = ["a"]
[ssh.deep]
x = 1
[[ssh.many]]
y = 1
[[ssh.many]]
[[ ssh ]]
guests = []
[ guest . "web.1" . waive ]
disk-bus = { reason = "x", until = 2027-01-31 }
[guest.db]
'''


def test_each_place_has_its_line() -> None:
    lines = lines_of(TEXT, tomllib.loads(TEXT))
    expected = {
        ("top",): 2,
        ("policy",): 4,
        ("policy", "bus"): 5,
        ("policy", "boot seconds"): 6,
        ("policy", "dotted", "key", "é\tx"): 7,
        ("policy", "dotted", "key", "é\tx", 0): 8,
        ("policy", "dotted", "key", "é\tx", 1, 0): 9,
        ("policy", "dotted", "key", "é\tx", 1, 2): 11,
        ("policy", "dotted", "key", "é\tx", 2, "b", "c", 0): 11,
        ("policy", "long"): 13,
        ("policy", "lit"): 17,
        ("policy", "when"): 20,
        ("policy", "time"): 22,
        ("ssh",): 23,
        ("ssh", 0, "guests", 0): 24,
        ("ssh", 0, "deep", "x"): 26,
        ("ssh", 0, "many", 1): 29,
        ("ssh", 1, "guests"): 31,
        ("guest",): 32,
        ("guest", "web.1", "waive", "disk-bus", "until"): 33,
        ("guest", "db"): 34,
    }
    assert {place: lines[place] for place in expected} == expected


def test_no_line_is_better_than_a_wrong_one() -> None:
    assert lines_of("a = 1\n", {"a": 1, "b": 2}) == {}
    assert lines_of("a = [", {"a": 1}) == {}
    assert lines_of(f"a = {'[' * 5000}{']' * 5000}", {"a": 1}) == {}


@pytest.mark.parametrize(
    ("text", "repeated"),
    [
        ("a = 1\n\na = 2", (("a",), 1, 3)),
        ("[a]\n[b]\n[a]", (("a",), 1, 3)),
        ("[a]\nb = 1\n[a.b]", (("a", "b"), 2, 3)),
        ("a = {}\n[a.b]", (("a",), 1, 2)),
        ("[[a]]\n[[a]]\n[a.b]\n[[a]]\n[a.b]", None),
        ("[a.b]\n[a]", None),
        ("[[a]]\nx = 1\n[[a]]\nx = 1", None),
    ],
)
def test_a_name_that_is_there_twice(text: str, repeated: object) -> None:
    assert first_repeated(text) == repeated


@pytest.mark.parametrize(
    ("text", "line", "bracket"),
    [
        ("a = 1\nb = [\n1", 2, True),
        ("a = { b = 1", 1, True),
        ('\na = """x\n\n', 2, False),
        ("a", None, False),
        ("=", None, False),
        ("[a", None, False),
    ],
)
def test_a_text_that_does_not_end(text: str, line: int | None, *, bracket: bool) -> None:
    with pytest.raises(NotRead) as caught:
        first_repeated(text)
    assert (caught.value.line, caught.value.bracket) == (line, bracket)


_KEYS = some.sampled_from(["a", "b-c", '"d e"', "'f.g'", '"\\u00e9"', "1", '"#"', '"="', '"[x]"'])
_VALUES = some.recursive(
    some.sampled_from(
        ["1", "-0.5e3", "true", "inf", '"#"', "'['", '"]\\""', '"""\n"#\n"""', "'''''x'''", "2027-01-31", "07:32:00"]
    ),
    lambda inner: some.one_of(
        some.lists(inner, max_size=3).map(lambda values: f"[ # c ]\n{' ,'.join(values)}\n]"),
        some.dictionaries(_KEYS, inner, max_size=3).map(
            lambda table: "{" + ", ".join(f"{key} = {value}" for key, value in table.items()) + "}"
        ),
    ),
    max_leaves=6,
)
_HEADERS = some.lists(_KEYS, min_size=1, max_size=3).flatmap(
    lambda keys: some.sampled_from([f"[{' . '.join(keys)}]", f"[[{'.'.join(keys)}]]"])
)
_PAIRS = some.tuples(some.lists(_KEYS, min_size=1, max_size=2).map(".".join), _VALUES).map(" = ".join)
_LINES = some.lists(some.one_of(_HEADERS, _PAIRS, some.sampled_from(["", "# x = [", "  "])), max_size=8)


@settings(max_examples=300, deadline=None)
@given(_LINES)
def test_every_file_that_tomllib_reads_has_a_line_for_each_place(lines: list[str]) -> None:
    text = "\n".join(lines) + "\n"
    try:
        data = tomllib.loads(text)
    except ValueError:
        return
    found = lines_of(text, data)
    assert bool(found) is bool(data)
    for (*_, key), line in found.items():
        if isinstance(key, str) and key.isalnum() and key != "é":
            assert key in text.split("\n")[line - 1]


@settings(max_examples=300, deadline=None)
@given(some.text(alphabet="ab=.[]{}\"'\\\n #,-1:", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        first_repeated(text)
    except NotRead:
        return
