"""The answers of the guest agent as values, parsed by QEMU's qga/qapi-schema.json. Sizes in bytes.

An answer with anything that the schema does not allow is no answer: a part of it would be taken for the whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reclaim.base.strict import member, objects


@dataclass(frozen=True)
class Interface:
    """A network interface, by guest-network-get-interfaces. The guest may claim any address."""

    name: str
    #: the MAC address in lower case; "" if it has none
    mac: str
    addresses: tuple[str, ...]


@dataclass(frozen=True)
class AgentFilesystem:
    """A mounted filesystem, by guest-get-fsinfo."""

    name: str
    mount: str
    #: None if the agent does not report it (before QEMU 3.0)
    used: int | None
    #: True if the agent knows a disk that it lies on
    on_disk: bool


@dataclass(frozen=True)
class PathTrim:
    """The trim of one mount point, by guest-fstrim: `trimmed` is None if it is not reported."""

    path: str
    trimmed: int | None
    error: str


def interfaces(answer: Any) -> list[Interface]:
    """Raises ValueError."""
    return [_interface(entry) for entry in objects(answer)]


def _interface(entry: dict[str, Any]) -> Interface:
    listed = objects(member(entry, "ip-addresses", list) or [])
    addresses = [member(address, "ip-address", str) for address in listed]
    return Interface(
        member(entry, "name", str) or "",
        (member(entry, "hardware-address", str) or "").lower(),
        tuple(address for address in addresses if address),
    )


def filesystems(answer: Any) -> list[AgentFilesystem]:
    """Raises ValueError."""
    return [_filesystem(entry) for entry in objects(answer)]


def _filesystem(entry: dict[str, Any]) -> AgentFilesystem:
    return AgentFilesystem(
        member(entry, "name", str) or "",
        member(entry, "mountpoint", str) or "",
        _count(entry, "used-bytes"),
        bool(objects(member(entry, "disk", list) or [])),
    )


def trims(answer: Any) -> list[PathTrim]:
    """Raises ValueError."""
    if not isinstance(answer, dict) or "paths" not in answer:
        raise ValueError("it has no paths")
    return [_trim(entry) for entry in objects(answer["paths"])]


def _trim(entry: dict[str, Any]) -> PathTrim:
    return PathTrim(
        member(entry, "path", str) or "",
        _count(entry, "trimmed"),
        member(entry, "error", str) or "",
    )


def _count(entry: dict[str, Any], name: str) -> int | None:
    """Return a number of bytes. Raises ValueError if it is none."""
    count = member(entry, name, int)
    if count is not None and count < 0:
        raise ValueError(f"{name} is negative")
    return count
