"""Names with globs: the guests and hypervisors that a table is for, and the table that is more specific."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from functools import cache

_CLASS = re.compile(r"\[!?\]?[^\]]*\]")


def is_pattern(name: str) -> bool:
    """True if *name* has a character that stands for others in a glob."""
    return re.search(r"[*?\[]", name) is not None


def is_glob(name: str) -> bool:
    """True if *name* may match several guests. A class of one character, as `[*]`, matches itself alone."""
    return is_pattern(re.sub(r"\[[^!\]]\]", "", name))


#: without a limit: a file has so many bytes, and a fleet asks for each of its globs again and again
@cache
def _pattern(glob: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(glob))


def matches(glob: str, name: str) -> bool:
    """True if *glob* is *name*, or matches it, upper and lower case apart."""
    return glob == name or _pattern(glob).match(name) is not None


def is_any(globs: Iterable[str], name: str) -> bool:
    """True if one of *globs* matches *name*."""
    return any(matches(glob, name) for glob in globs)


def literals(glob: str) -> int:
    """Return the number of characters of *glob* that match only themselves."""
    return len(re.sub(r"[*?]", "", _CLASS.sub("", glob)))


def most_specific_first(globs: Iterable[str], name: str) -> list[str]:
    """Return those of *globs* that match *name*: itself, then by `literals`; of two alike the later one is first."""
    fitting = [glob for glob in globs if matches(glob, name)]
    fitting.reverse()
    return sorted(fitting, key=lambda glob: (glob != name, -literals(glob)))


def is_host(globs: Iterable[str], host: str) -> bool:
    """True if one of *globs* matches the host name *host*, or its part before the first dot. Case does not count."""
    host = host.lower()
    names = (host, host.partition(".")[0])
    lower = [glob.lower() for glob in globs]
    return any(is_any(lower, name) for name in names)
