"""The comparisons of `python -m bench`: a module each, with its `TOPIC`."""

from __future__ import annotations

from importlib import import_module

from bench.page import Topic

#: in the order of the page
NAMES: tuple[str, ...] = (
    "audit",
    "truth",
    "space",
    "remedy",
    "definitions",
    "zeros",
    "report",
)


def topic(name: str) -> Topic:
    """Return a topic by its name. Raises KeyError if there is none."""
    if name not in NAMES:
        raise KeyError(name)
    made = import_module(f"bench.topics.{name}").TOPIC
    assert isinstance(made, Topic)
    return made
