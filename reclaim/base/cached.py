"""Values that are worked out once and kept in the object that they were worked out from."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Generic, TypeVar, overload

T = TypeVar("T")


class kept(Generic[T]):  # noqa: N801 (used like functools.cached_property)
    """functools.cached_property as it is since Python 3.12: the lock that it had before costs more than it saves."""

    def __init__(self, work: Callable[[Any], T]) -> None:
        self._work = work
        self._name = work.__name__
        self.__doc__ = work.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> kept[T]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object | None, owner: type) -> kept[T] | T:
        if instance is None:
            return self
        value = instance.__dict__[self._name] = self._work(instance)
        return value


S = TypeVar("S")


def once(work: Callable[[S], T]) -> Callable[[S], T]:
    """Do *work* once for each value that it is given, and keep the answer in that value, which must never change.

    All callers share the answer, so it must not change either.
    """
    name = f"{work.__module__}.{work.__qualname__}"

    @wraps(work)
    def answer(value: S) -> T:
        known = value.__dict__
        if name not in known:
            known[name] = work(value)
        return known[name]  # type: ignore[no-any-return]

    return answer
