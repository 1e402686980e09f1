"""Values from outside, turned into the types that a dataclass declares, or refused.

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
#: what each kind of container is made of: JSON has lists alone
_MADE_OF: dict[Any, Any] = {dict: dict, list: (list, tuple), tuple: (list, tuple)}

#: the types of JSON, in words
_NAMES: dict[type, str] = {
    dict: "an object",
    list: "a list",
    str: "text",
    bool: "true or false",
    int: "a number",
    float: "a fraction",
    type(None): "nothing",
}


def build(wanted: type[T], values: Any) -> T:
    """Build the dataclass *wanted* from *values*. Raises ValueError naming the first that is wrong or unknown."""
    if not isinstance(values, dict):
        wrong = f"{_named(values)} instead of an object"
        raise ValueError(f"{wanted.__name__}: {wrong}")  # noqa: TRY004 (a journal is wrong, no call)
    fields = {field.name: field for field in dataclasses.fields(wanted)}  # type: ignore[arg-type]
    for name in values:
        if name not in fields:
            raise ValueError(
                f"{wanted.__name__}: {name!r:.60} is unknown to this version"
            )
    for name, field in fields.items():
        if name not in values and _is_required(field):
            raise ValueError(f"{wanted.__name__}: {name} is missing")
    hints = _hints(wanted)  # type: ignore[arg-type]
    made = {}
    for name, value in values.items():
        made[name] = _made(hints[name], value, f"{wanted.__name__}.{name}")
    return wanted(**made)


def member(values: Any, name: str, wanted: type[T]) -> T | None:
    """Return the member *name* of a JSON object; None if there is none, or it is null.

    Raises ValueError if it has another type, or *values* is no object. True is no number.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{_named(values)} instead of an object")  # noqa: TRY004 (as above)
    value = values.get(name)
    if value is not None and type(value) is not wanted:
        raise ValueError(f"{name}: {_named(value)} instead of {_NAMES[wanted]}")
    return value


def number(values: Any, name: str) -> int:
    """Return a number of a JSON object, which is not negative. Raises ValueError if there is none."""
    value = member(values, name, int)
    if value is None or value < 0:
        raise ValueError(f"{name} is no number")
    return value


def objects(values: Any) -> list[dict[str, Any]]:
    """Return a list of JSON objects. Raises ValueError if it is none."""
    if not isinstance(values, list):
        raise ValueError(f"{_named(values)} instead of a list")  # noqa: TRY004 (as above)
    for value in values:
        if not isinstance(value, dict):
            raise ValueError(f"{_named(value)} instead of an object")  # noqa: TRY004 (as above)
    return values


def _named(value: Any) -> str:
    return _NAMES.get(type(value), type(value).__name__)


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is field.default_factory is dataclasses.MISSING


@cache
def _hints(wanted: type) -> dict[str, Any]:
    return get_type_hints(wanted)


def _made(hint: Any, value: Any, where: str) -> Any:
    kind, inner = get_origin(hint), get_args(hint)
    if kind in (Union, types.UnionType):
        return _one_of(inner, value, where)
    if hint is Any:
        return value
    if hint in _PLAIN and type(value) is hint:
        return value
    if isinstance(value, _MADE_OF.get(kind, ())):
        return _made_container(kind, inner, value, where)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return build(hint, value)
    raise ValueError(f"{where}: {_named(value)} is not the type of this value")


def _made_container(kind: Any, hints: tuple[Any, ...], values: Any, where: str) -> Any:
    if kind is not dict:
        return kind(_made(hints[0], value, where) for value in values)
    made = {}
    for key, value in values.items():
        made_key = _made(hints[0], key, where)
        made[made_key] = _made(hints[1], value, where)
    return made


def _one_of(hints: tuple[Any, ...], value: Any, where: str) -> Any:
    """Build *value* by the one of *hints* that is not None, unless the value is None."""
    if value is None and type(None) in hints:
        return None
    (other,) = (hint for hint in hints if hint is not type(None))
    return _made(other, value, where)
