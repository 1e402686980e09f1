"""Shell text as a tree: offsets stay those of the file, and no text takes the parser for long."""

from __future__ import annotations

import itertools
import time

import pytest

from reclaim.jobs import grammar
from reclaim.jobs.grammar import Unparsable, below, parse, substitutions, text_of
from reclaim.jobs.words import UNKNOWN


def test_plain_shell_is_read_as_it_is() -> None:
    source = b"rsync -a /x /y\n"
    root, text = parse(source)
    assert not root.has_error
    assert text is source


@pytest.mark.parametrize(
    "source",
    [
        b"n=$((10#$day + 1))\nrsync -a /x /y\n",
        b"n=$((a + 08#${day}))\nrsync -a /x /y\n",
        b"shopt -s extglob\nrm /b/!(web.img)\nrsync -a /x /y\n",
        b"cp /b/@(a|b).img /c\nrsync -a /x /y\n",
    ],
)
def test_syntax_that_the_grammar_does_not_know_moves_no_byte(source: bytes) -> None:
    root, text = parse(source)
    assert not root.has_error
    assert len(text) == len(source)
    assert text.endswith(b"rsync -a /x /y\n")
    lines = [text_of(node, text) for node in below(root) if node.type == "command"]
    assert lines[-1] == "rsync -a /x /y"


def test_what_stays_broken_has_an_error_and_its_own_bytes() -> None:
    source = b"echo 'never closed\n"
    root, text = parse(source)
    assert root.has_error
    assert text == source


def test_a_text_larger_than_a_piece_is_read_to_its_end() -> None:
    source = b"# comment\n" * 10_000 + b"rsync -a /x /y\n"
    root, text = parse(source)
    assert [text_of(node, text) for node in below(root) if node.type == "command"] == ["rsync -a /x /y"]


def give_up_on(source: bytes, patch: pytest.MonkeyPatch) -> int:
    """Parse *source* while a second of processor time goes by between two looks at the clock; return the looks."""
    clock = itertools.count()
    with patch.context() as now:
        now.setattr(time, "thread_time", lambda: float(next(clock)))
        with pytest.raises(Unparsable):
            parse(source)
    return next(clock)


def test_the_parser_gives_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert give_up_on(b"(" * 50_000, monkeypatch) < 20


def test_a_text_that_was_given_up_leaves_nothing_to_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    give_up_on(b"(" * 50_000, monkeypatch)
    root, text = parse(b"rsync -a /x /y\n")
    assert not root.has_error
    assert [text_of(node, text) for node in root.named_children] == ["rsync -a /x /y"]


def test_the_parser_is_made_once() -> None:
    assert grammar._parser() is grammar._parser()


def test_nodes_come_in_the_order_of_the_text() -> None:
    root, text = parse(b"a; b && c\n")
    assert next(iter(below(root))) == root
    assert [text_of(node, text) for node in below(root) if node.type == "command_name"] == ["a", "b", "c"]


def test_a_tree_as_deep_as_its_text_is_gone_through() -> None:
    root, _ = parse(b"(" * 3000 + b")" * 3000)
    assert sum(1 for _ in below(root)) > 3000


def test_no_text_is_a_mark_of_ours() -> None:
    root, text = parse("a\U000f0000b \ufffd\n".encode())
    (command,) = root.named_children
    assert text_of(command, text) == f"a{UNKNOWN}b {UNKNOWN}"
    assert text_of(None, text) == ""


def test_bytes_that_are_no_utf8_stay_apart() -> None:
    root, text = parse(b"cp \xff\xfe /b\n")
    (command,) = root.named_children
    assert text_of(command, text).encode("utf-8", errors="surrogateescape") == b"cp \xff\xfe /b"


def test_the_outermost_substitutions_but_not_those_of_a_function() -> None:
    root, text = parse(b'a "$(b $(c))" <(d)\nf() { e $(g); }\n')
    assert [text_of(node, text) for node in substitutions(root)] == ["$(b $(c))", "<(d)"]
