"""Configurations of backup programs, which are no shell: named, and read as far as they are known."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any

import yaml

from reclaim.jobs.calls import Call, Script
from reclaim.jobs.words import UNKNOWN, Word, clean, shown

#: reads a piece of shell that begins at a line
ReadShell = Callable[[bytes, int], None]

_SETTINGS = (".conf", ".cfg", ".ini", ".toml", ".json", ".properties")
#: bytes of a YAML file; its nodes are built from aliases too, so few are read
_MOST_YAML = 64 * 1024
_HOOKS = re.compile(r"^(?:before|after|on)_")


class _NoAliases(yaml.SafeLoader):
    """Plain values alone: an alias would let a small file become a large one."""

    def compose_node(self, parent: Any, index: int) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            event = self.get_event()  # type: ignore[no-untyped-call]
            return yaml.ScalarNode(
                "tag:yaml.org,2002:str", UNKNOWN, event.start_mark, event.end_mark
            )
        return super().compose_node(parent, index)


def is_one(path: str, source: bytes) -> bool:
    """True if it is a configuration, and no shell."""
    suffix = PurePosixPath(path).suffix
    if suffix == ".conf":
        return not _looks_like_shell(source)
    if suffix in (".yaml", ".yml", *_SETTINGS):
        return True
    if _STARTS_YAML.match(source) or _is_btrbk(source):
        return True
    return _SECTION.search(source) is not None


_STARTS_YAML = re.compile(rb"---\s")
_SECTION = re.compile(rb"^\[[\w. -]{1,100}\][ \t]*$", re.MULTILINE)


def _looks_like_shell(source: bytes) -> bool:
    command = re.search(
        rb"^[ \t]*(?:rsync|cp|virsh|for|if|while|export)\b", source, re.MULTILINE
    )
    return command is not None


def _is_btrbk(source: bytes) -> bool:
    if not re.search(rb"^[ \t]*subvolume[ \t]+\S", source, re.MULTILINE):
        return False
    place = re.search(
        rb"^[ \t]*(?:volume|snapshot_dir|target)[ \t]", source, re.MULTILINE
    )
    return place is not None


def read(path: str, source: bytes, script: Script, shell: ReadShell) -> None:
    """Read the copies that the configuration makes. If its kind is not read, note that kind."""
    file = PurePosixPath(path)
    is_yaml = file.suffix in (".yaml", ".yml") or _STARTS_YAML.match(source)
    if _is_btrbk(source):
        _btrbk(source, script)
    elif is_yaml:
        _yaml(source, script, shell)
    elif "dirvish" in path or _DIRVISH.search(source):
        script.skip(
            "it is a configuration of dirvish: set `sparse: 1` there; reclaim does not judge its copies"
        )
    else:
        script.skip(
            f"{file.name} is a configuration that reclaim does not read: declare the script that it runs"
        )


_DIRVISH = re.compile(rb"^(?:vault|bank|tree):", re.MULTILINE)


def _btrbk(source: bytes, script: Script) -> None:
    """btrbk.conf(5): snapshots of subvolumes, sent to targets."""
    volume = ""
    text = source.decode("utf-8", errors="surrogateescape")
    for number, line in enumerate(text.splitlines(), start=1):
        key, *values = clean(line).split() or [""]
        if not values:
            continue
        path = values[0]
        if key == "volume":
            volume = path
        elif key == "subvolume":
            if not path.startswith("/"):
                path = f"{volume}/{path}"
            script.skip(
                f"line {number}: btrbk sends snapshots of {shown(path)}: "
                "reclaim does not judge whether holes survive there"
            )


def _yaml(source: bytes, script: Script, shell: ReadShell) -> None:
    if len(source) > _MOST_YAML:
        script.skip(f"it is YAML of more than {_MOST_YAML} bytes, which is not read")
        return
    try:
        data = yaml.load(source.decode("utf-8", errors="replace"), Loader=_NoAliases)  # noqa: S506
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as exc:
        mark = getattr(exc, "problem_mark", None)
        line = getattr(mark, "line", None)
        if isinstance(line, int):
            script.skip(f"line {line + 1} is no YAML")
        else:
            script.skip("it is no YAML that can be read")
        return
    if isinstance(data, dict) and _is_borgmatic(data):
        _borgmatic(data, source, script, shell)
    else:
        script.skip(_kind_of_yaml(data))


def _kind_of_yaml(data: object) -> str:
    """Words for YAML that is not read."""
    if isinstance(data, list) and any(map(_is_play, data)):
        return "it is an Ansible playbook: reclaim reads shell; declare the script that it installs on this machine"
    keys = data.keys() if isinstance(data, dict) else set()
    if "services" in keys:
        return (
            "it is a Compose file: reclaim does not read the commands of its containers"
        )
    if {"locations", "backends"} <= keys:
        return "it is a configuration of autorestic: restic keeps each content once; the restore decides about holes"
    return "it is YAML of a program that reclaim does not know: declare the script that it runs"


def _is_play(play: object) -> bool:
    if not isinstance(play, dict):
        return False
    return not {"hosts", "tasks", "roles"}.isdisjoint(play)


def _is_borgmatic(data: dict[Any, Any]) -> bool:
    if "source_directories" in data:
        return True
    location = data.get("location")
    return isinstance(location, dict) and "source_directories" in location


def _borgmatic(
    data: dict[Any, Any], source: bytes, script: Script, shell: ReadShell
) -> None:
    """borgmatic's configuration: commands before, `borg create` of the folders, commands after."""
    before, after = [], []
    for is_before, text in _hooks(data):
        if is_before:
            before.append(text)
        else:
            after.append(text)
    for text in before:
        shell(text, _line_of(source, text))
    words = _borg_create(data)
    line = _line_of(source, b"source_directories")
    script.calls.append(Call(tuple(map(Word, words)), line))
    for text in after:
        shell(text, _line_of(source, text))


def _borg_create(data: dict[Any, Any]) -> list[str]:
    """The words of the command that borgmatic runs."""
    location = data.get("location")
    settings = data
    if isinstance(location, dict):
        settings = location
    words = ["borg", "create"]
    for key in settings:
        if str(key).startswith(("exclude", "pattern")):
            words.append("--patterns-from=configuration")
            break
    words.append("repository")
    folders = settings.get("source_directories")
    if isinstance(folders, list):
        words += map(clean, _texts(folders))
    else:
        words.append(UNKNOWN)
    return words


def _texts(values: object) -> list[str]:
    """The texts in a list; none if it is no list."""
    if not isinstance(values, list):
        return []
    return [value for value in values if isinstance(value, str)]


def _hooks(data: dict[Any, Any]) -> Iterator[tuple[bool, bytes]]:
    """Yield its commands, and whether each runs before the copy."""
    for settings in (data, data.get("hooks")):
        if isinstance(settings, dict):
            yield from _named_hooks(settings)
    commands = data.get("commands")
    if not isinstance(commands, list):
        return
    for command in commands:
        if not isinstance(command, dict):
            continue
        for text in _texts(command.get("run")):
            yield "before" in command, _bytes(text)


def _named_hooks(settings: dict[Any, Any]) -> Iterator[tuple[bool, bytes]]:
    for key, texts in settings.items():
        if not isinstance(key, str) or not _HOOKS.match(key):
            continue
        for text in _texts(texts):
            yield key.startswith("before_"), _bytes(text)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", errors="surrogateescape")


def _line_of(source: bytes, text: bytes) -> int:
    """Return the line in which *text* first stands; 1 if it is folded there."""
    first = text.split(b"\n", 1)[0]
    place = source.find(first)
    if place < 0:
        return 1
    return source.count(b"\n", 0, place) + 1
