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

_YAML_LINE = re.compile(
    rb"^(?:---|- ?[\w.]+ ?:( |$)|[A-Za-z_][\w.-]*:( |$))", re.MULTILINE
)
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
    """Is it a configuration, and no shell?"""
    suffix = PurePosixPath(path).suffix
    if suffix in (".yaml", ".yml", *_SETTINGS):
        return not (suffix == ".conf" and _looks_like_shell(source))
    return (
        bool(re.match(rb"---\s", source))
        or _is_btrbk(source)
        or bool(re.search(rb"^\[[\w. -]{1,100}\][ \t]*$", source, re.MULTILINE))
    )


def _looks_like_shell(source: bytes) -> bool:
    return bool(
        re.search(
            rb"^[ \t]*(?:rsync|cp|virsh|for|if|while|export)\b", source, re.MULTILINE
        )
    )


def _is_btrbk(source: bytes) -> bool:
    return bool(
        re.search(rb"^[ \t]*subvolume[ \t]+\S", source, re.MULTILINE)
        and re.search(
            rb"^[ \t]*(?:volume|snapshot_dir|target)[ \t]", source, re.MULTILINE
        )
    )


def read(path: str, source: bytes, script: Script, shell: ReadShell) -> None:
    """What the configuration copies, as far as it is read; what it is, where it is not."""
    if _is_btrbk(source):
        _btrbk(source, script)
    elif PurePosixPath(path).suffix in (".yaml", ".yml") or re.match(rb"---\s", source):
        _yaml(source, script, shell)
    elif "dirvish" in path or re.search(
        rb"^(?:vault|bank|tree):", source, re.MULTILINE
    ):
        script.skip(
            "it is a configuration of dirvish: set `sparse: 1` there; what it copies is not judged"
        )
    else:
        script.skip(
            f"{PurePosixPath(path).name} is a configuration that reclaim does not read: declare what it runs"
        )


def _btrbk(source: bytes, script: Script) -> None:
    """btrbk.conf(5): snapshots of subvolumes, sent to targets."""
    volume = ""
    for number, raw in enumerate(
        source.decode("utf-8", errors="surrogateescape").splitlines(), start=1
    ):
        words = clean(raw).split()
        if words[:1] == ["volume"] and len(words) > 1:
            volume = words[1]
        elif words[:1] == ["subvolume"] and len(words) > 1:
            path = words[1] if words[1].startswith("/") else f"{volume}/{words[1]}"
            script.skip(
                f"line {number}: btrbk sends snapshots of {shown(path)}: "
                "whether a hole stays one at the far end is not judged"
            )


def _yaml(source: bytes, script: Script, shell: ReadShell) -> None:
    if len(source) > _MOST_YAML:
        script.skip(f"it is YAML of more than {_MOST_YAML} bytes, which is not read")
        return
    try:
        data = yaml.load(source.decode("utf-8", errors="replace"), Loader=_NoAliases)  # noqa: S506
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as exc:
        where = getattr(getattr(exc, "problem_mark", None), "line", None)
        script.skip(
            f"line {where + 1} is no YAML"
            if isinstance(where, int)
            else "it is no YAML that can be read"
        )
        return
    if isinstance(data, list) and any(
        isinstance(one, dict) and {"hosts", "tasks", "roles"} & set(one) for one in data
    ):
        script.skip(
            "it is an Ansible playbook: reclaim reads shell; declare what it puts on this machine"
        )
    elif isinstance(data, dict) and _is_borgmatic(data):
        _borgmatic(data, source, script, shell)
    elif isinstance(data, dict) and "services" in data:
        script.skip("it is a Compose file: what runs in its containers is not read")
    elif isinstance(data, dict) and "locations" in data and "backends" in data:
        script.skip(
            "it is a configuration of autorestic: restic keeps each content once; the restore decides about holes"
        )
    else:
        script.skip(
            "it is YAML of a program that reclaim does not know: declare what it runs"
        )


def _is_borgmatic(data: dict[Any, Any]) -> bool:
    location = data.get("location")
    return "source_directories" in data or (
        isinstance(location, dict) and "source_directories" in location
    )


def _borgmatic(
    data: dict[Any, Any], source: bytes, script: Script, shell: ReadShell
) -> None:
    """borgmatic's configuration: commands before, `borg create` of the folders, commands after."""
    location = data.get("location") if isinstance(data.get("location"), dict) else data
    hooks = list(_hooks(data))
    for _, text in (one for one in hooks if one[0]):
        shell(text, _line_of(source, text))
    folders = location.get("source_directories") if isinstance(location, dict) else None
    folders = (
        [clean(one) for one in folders if isinstance(one, str)]
        if isinstance(folders, list)
        else [UNKNOWN]
    )
    words = ["borg", "create", "repository", *folders]
    if isinstance(location, dict) and any(
        str(key).startswith(("exclude", "pattern")) for key in location
    ):
        words.insert(2, "--patterns-from=configuration")
    line = _line_of(source, b"source_directories")
    script.calls.append(Call(tuple(map(Word, words)), line))
    for _, text in (one for one in hooks if not one[0]):
        shell(text, _line_of(source, text))


def _hooks(data: dict[Any, Any]) -> Iterator[tuple[bool, bytes]]:
    """Its commands, and whether each runs before the copy."""
    for place in (data, data.get("hooks")):
        if not isinstance(place, dict):
            continue
        for key, value in place.items():
            if isinstance(key, str) and _HOOKS.match(key) and isinstance(value, list):
                before = key.startswith("before_")
                yield from (
                    (before, _bytes(one)) for one in value if isinstance(one, str)
                )
    for one in (
        data.get("commands") or [] if isinstance(data.get("commands"), list) else []
    ):
        if isinstance(one, dict) and isinstance(one.get("run"), list):
            yield from (
                ("before" in one, _bytes(text))
                for text in one["run"]
                if isinstance(text, str)
            )


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", errors="surrogateescape")


def _line_of(source: bytes, text: bytes) -> int:
    """The line in which *text* first stands; 1 where it is folded there."""
    place = source.find(text.split(b"\n", 1)[0])
    return source.count(b"\n", 0, place) + 1 if place >= 0 else 1
