"""Shell text as a tree, by tree-sitter's bash grammar; and what that grammar does not know, put into words it does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

import tree_sitter_bash
from tree_sitter import Language, Node, Parser

from reclaim.jobs.words import clean

#: `$((10#$x))`, a number with its base
_BASE = re.compile(rb"(?<=\(\()([^()\n]{0,200}?)(\d{1,2})#(?=[$\w{])")
#: `!(web.img)`, `@(a|b)`: a pattern of bash's extglob, not nested
_EXTGLOB = re.compile(rb"(?<![\w$()!\\])((?:[\w./*?{}$\"-]{0,200}/)?[\w.*-]{0,100})([!@?*+]\([^()\n;&`'\"$ ]{1,200}\))")


@cache
def _parser() -> Parser:
    return Parser(Language(tree_sitter_bash.language()))


def parse(source: bytes) -> tuple[Node, bytes]:
    """The tree of *source*, and the text that its offsets are of: as long as *source*, byte for byte."""
    root = _parser().parse(source).root_node
    if not root.has_error:
        return root, source
    plain = _BASE.sub(lambda one: one[1] + b"0" * len(one[2]) + b"+", source)
    plain = _EXTGLOB.sub(_unknown_pattern, plain)
    return _parser().parse(plain).root_node, plain


def _unknown_pattern(match: re.Match[bytes]) -> bytes:
    """A variable that nothing sets, as long as the pattern."""
    return match[1] + b"${" + b"_" * (len(match[2]) - 3) + b"}"


def below(node: Node) -> Iterator[Node]:
    """*node* and everything below it, in the order of the text."""
    waiting = [node]
    while waiting:
        one = waiting.pop()
        yield one
        waiting += reversed(one.children)


def text_of(node: Node | None, source: bytes) -> str:
    """The bytes of *node* as text; nothing in it looks like a mark of ours."""
    if node is None:
        return ""
    return clean(source[node.start_byte : node.end_byte].decode("utf-8", errors="surrogateescape"))


def substitutions(node: Node) -> Iterator[Node]:
    """The outermost `$(…)`, `<(…)` in *node*."""
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if one.type in ("command_substitution", "process_substitution"):
            yield one
        elif one.type != "function_definition":
            waiting += reversed(one.children)
