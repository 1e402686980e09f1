"""Shell text as a tree, by tree-sitter's bash grammar, with words that it knows for syntax that it does not know."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from functools import cache

import tree_sitter_bash
from tree_sitter import Language, Node, Parser

from reclaim.jobs.words import clean

#: `$((10#$x))`, a number with its base
_BASE = re.compile(rb"(?<=\(\()([^()\n]{0,200}?)(\d{1,2})#(?=[$\w{])")
#: `!(web.img)`, `@(a|b)`: a pattern of bash's extglob, not nested
_EXTGLOB = re.compile(rb"[!@?*+]\([^()\n;&`'\"$ ]{1,200}\)")


#: bytes that the parser is given at a time
_PIECE = 65_536
#: seconds of processor time for one text; half a megabyte of shell takes one
_SECONDS = 4.0


class Unparsable(Exception):
    """The parser gave up."""


@cache
def _parser() -> Parser:
    return Parser(Language(tree_sitter_bash.language()))


def parse(source: bytes) -> tuple[Node, bytes]:
    """Return the tree of *source*, and the text that its offsets are of: as long as *source*, byte for byte.

    Raises Unparsable if the parser finds no way through it in a few seconds of processor time.
    """
    root = _tree(source)
    if not root.has_error:
        return root, source
    plain = _BASE.sub(lambda match: match[1] + b"0" * len(match[2]) + b"+", source)
    plain = _EXTGLOB.sub(_unknown_pattern, plain)
    return (_tree(plain) if plain != source else root), plain


def _tree(source: bytes) -> Node:
    end = time.thread_time() + _SECONDS
    try:
        # the parser asks from time to time whether it is to stop: what it mends may take it the square of the length
        tree = _parser().parse(
            lambda offset, _: source[offset : offset + _PIECE],
            progress_callback=lambda *_: time.thread_time() > end,
        )
    except ValueError as exc:
        _parser().reset()  # else it goes on with this text when it is given the next one
        raise Unparsable from exc
    return tree.root_node


def _unknown_pattern(match: re.Match[bytes]) -> bytes:
    """A variable that nothing sets, as long as the pattern."""
    return b"${" + b"_" * (len(match[0]) - 3) + b"}"


def below(node: Node) -> Iterator[Node]:
    """*node* and everything below it, in the order of the text."""
    waiting = [node]
    while waiting:
        current = waiting.pop()
        yield current
        waiting += reversed(current.children)


def text_of(node: Node | None, source: bytes) -> str:
    """The bytes of *node* as text; nothing in it looks like a mark of ours."""
    if node is None:
        return ""
    return clean(
        source[node.start_byte : node.end_byte].decode(
            "utf-8", errors="surrogateescape"
        )
    )


def first_of(nodes: Iterable[Node], *types: str) -> Node | None:
    """Return the first of *nodes* that is of one of *types*, or None."""
    for node in nodes:
        if node.type in types:
            return node
    return None


def substitutions(node: Node) -> Iterator[Node]:
    """The outermost `$(…)`, `<(…)` in *node*."""
    waiting = [node]
    while waiting:
        current = waiting.pop()
        if current.type in ("command_substitution", "process_substitution"):
            yield current
        elif current.type != "function_definition":
            waiting += reversed(current.children)
