"""The hypervisors that should be heard from: a list in a text file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from reclaim.base.errors import Mistakes, ReclaimError
from reclaim.base.text import printable
from reclaim.files import whole

#: bytes of the list: a million names
_MOST = 64 * 1024 * 1024
#: mistakes that are named at once
_SHOWN = 5
#: a name of a host, an address, or an alias of Ansible
_NAME = re.compile(r"[\w.:@+-]*[\w]")
#: the first line of `ansible all --list-hosts`
_HEADING = re.compile(r"hosts \(\d+\):")


def read(path: Path) -> list[str]:
    """Return the names in the list at *path*, each once: one a line, or the JSON of `ansible-inventory --list`.

    Empty lines and comments (#) do not count. Raises ReclaimError if it cannot be read, or a line is no name.
    """
    try:
        # a file that Windows wrote begins with a byte order mark
        text = whole.read(path, _MOST).decode("utf-8-sig")
    except OSError as exc:
        raise ReclaimError(f"{path}: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise ReclaimError(f"{path}: not UTF-8: {exc.reason}") from exc
    names = (
        _of_json(path, text) if text.lstrip().startswith("{") else _of_lines(path, text)
    )
    if not names:
        raise ReclaimError(f"{path}: it names no hypervisor")
    return list(dict.fromkeys(names))


def _of_lines(path: Path, text: str) -> list[str]:
    names, mistakes = [], []
    for number, line in enumerate(text.splitlines(), 1):
        name = line.partition("#")[0].strip()
        if not name or _HEADING.fullmatch(name):
            continue
        if _NAME.fullmatch(name):
            names.append(name)
        else:
            mistakes.append(
                f"{path}:{number}: {printable(name[:60])}: not one name of a hypervisor; "
                f"`ansible -i INVENTORY all --list-hosts` prints such a list"
            )
    if mistakes:
        raise Mistakes(mistakes[:_SHOWN])
    return names


def _of_json(path: Path, text: str) -> list[str]:
    try:
        groups = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise ReclaimError(
            f"{path}: not the JSON of `ansible-inventory --list`: {exc}"
        ) from exc
    return [*_hosts(groups)]


def _hosts(groups: dict[str, Any]) -> Iterator[str]:
    """Yield the hosts of each group, and those that have variables."""
    for name, group in groups.items():
        if not isinstance(group, dict):
            continue
        hosts = group.get("hostvars") if name == "_meta" else group.get("hosts")
        if isinstance(hosts, dict | list):
            yield from (host for host in hosts if isinstance(host, str))


class Heard:
    """The hypervisors of the database, by the names that a list may call them: with or without their domain.

    Case does not count. A short name stands for a long one only if no other begins with it.
    """

    def __init__(self, folders: Iterable[str]) -> None:
        self._exact: dict[str, list[str]] = {}
        self._short: dict[str, list[str]] = {}
        for folder in folders:
            self._exact.setdefault(folder.lower(), []).append(folder)
            self._short.setdefault(_short(folder), []).append(folder)

    def named(self, name: str) -> list[str]:
        """Return the folders of the hypervisors that *name* stands for."""
        exact = self._exact.get(name.lower())
        if exact:
            return exact
        alike = self._short.get(_short(name), [])
        fitting = [folder for folder in alike if "." not in name or "." not in folder]
        return fitting if len(fitting) == 1 else []


def _short(name: str) -> str:
    return name.lower().partition(".")[0]
