"""Values from outside made what a dataclass says it holds, or refused.

pydantic does the same but for one thing: it takes no text that is not UTF-8, and files of guests may be (Python keeps
such bytes as lone surrogates, PEP 383).
"""

from __future__ import annotations

import dataclasses
import types
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")
#: what stands for itself; a bool is no int here
_PLAIN = (str, int, bool, type(None))


def build(wanted: type[T], values: Any) -> T:
    """The dataclass *wanted* made of *values*. Raises ValueError naming the first that does not fit, or is unknown."""
    if not isinstance(values, dict):
        words = f"{type(values).__name__} where an object is expected"
        raise ValueError(f"{wanted.__name__}: {words}")  # noqa: TRY004 (a journal is wrong, no call)
    fields = {one.name: one for one in dataclasses.fields(wanted)}  # type: ignore[arg-type]
    if unknown := [name for name in values if name not in fields]:
        raise ValueError(
            f"{wanted.__name__}: {unknown[0]!r:.60} is unknown to this version"
        )
    for name, one in fields.items():
        if (
            name not in values
            and one.default is one.default_factory is dataclasses.MISSING
        ):
            raise ValueError(f"{wanted.__name__}: {name} is missing")
    hints = _hints(wanted)  # type: ignore[arg-type]
    return wanted(
        **{
            name: _made(hints[name], value, f"{wanted.__name__}.{name}")
            for name, value in values.items()
        }
    )


@cache
def _hints(wanted: type) -> dict[str, Any]:
    return get_type_hints(wanted)


def _made(hint: Any, value: Any, where: str) -> Any:
    kind, inner = get_origin(hint), get_args(hint)
    if kind in (Union, types.UnionType):
        return _one_of(inner, value, where)
    if hint is Any or (hint in _PLAIN and type(value) is hint):
        return value
    if kind is dict and isinstance(value, dict):
        return {
            _made(inner[0], key, where): _made(inner[1], one, where)
            for key, one in value.items()
        }
    if kind in (list, tuple) and isinstance(value, list | tuple):
        return kind(_made(inner[0], one, where) for one in value)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return build(hint, value)
    raise ValueError(f"{where}: {type(value).__name__} is not what it holds")


def _one_of(hints: tuple[Any, ...], value: Any, where: str) -> Any:
    """The one of *hints* that is not None decides, unless the value is None."""
    if value is None and type(None) in hints:
        return None
    (other,) = (one for one in hints if one is not type(None))
    return _made(other, value, where)
