"""`inventory init`: an inventory of comments, from the guests that there are."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import libvirt
from pydantic import BaseModel

from reclaim.base.errors import ProbeError, ReclaimError
from reclaim.base.text import counted, libvirt_words, printable
from reclaim.handles.guest import Guest
from reclaim.handles.hypervisor import Hypervisor
from reclaim.inventories import schema
from reclaim.inventory import Policy, table_of
from reclaim.processes import worker

#: guests looked into at a time, and seconds between two looks at how far they are
_AT_ONCE, _PAUSE = 5, 1.0
_MODE = 0o644
#: columns of a comment
_COLUMNS = 110
_ZONES = "/zoneinfo/"

_HEAD = """\
#:schema ./{schema}
# The line above is for editors (Even Better TOML, taplo). `reclaim inventory schema` prints that file.
#
# An inventory of reclaim for {name} ({uri}), {guests}.
# It changes nothing as it is: everything is a comment. Remove the # before a setting to make it count, and give the
# file to a run with --inventory FILE. `reclaim inventory check FILE` looks for mistakes, and docs/inventory.md
# explains each key.
"""
_EXAMPLES = """\
# The second way into guests, if the agent runs no commands. Globs match names; the first table that matches counts.
#[[ssh]]
#guests = ["web*", "db?"]
#user = "admin"
#sudo = true

# The times in which reclaim may power-cycle or start guests. Without `guests` a window is for all guests that no other
# window names; a guest without a window is power-cycled at any time.
#[[window]]
#days = ["sat", "sun"]
#from = "22:00"
#to = "04:00"
#zone = "{zone}"

# Copies of disk images, and the job that makes them.
#[[backup]]
#path = "/backup/images"
#job = "/etc/cron.d/backup"

# Notes on guests, by name or glob; for each key the most specific table counts.
#[guest."*".waive]
#disk-bus = {{ reason = "all guests move to the new cluster", until = 2027-03-31 }}
"""


def text(hypervisor: Hypervisor) -> str:
    """Look into the guests of *hypervisor*, and return an inventory that changes nothing and names them."""
    reasons = _reasons(hypervisor.guests)
    parts = [
        _HEAD.format(
            schema=schema.NAME,
            name=printable(hypervisor.name),
            uri=printable(hypervisor.uri),
            guests=counted(len(hypervisor.guests), "guest"),
        ),
        "# The policy, for all guests. Each value is the default.\n#[policy]\n"
        + "".join(_settings(Policy)),
        _EXAMPLES.format(zone=_zone()),
        *(_of_guest(guest, reasons[guest]) for guest in hypervisor.guests),
    ]
    return "\n".join(parts)


def _settings(table: type[BaseModel]) -> Iterator[str]:
    for key, info in table.model_fields.items():
        for line in textwrap.wrap(info.description or "", _COLUMNS):
            yield f"# {line}\n"
        yield f"#{key} = {json.dumps(info.default)}\n"


def _reasons(guests: list[Guest]) -> dict[Guest, str]:
    """Return for each guest why it could not be looked into, "" if it could."""
    reasons = {guest: _why_closed(guest) for guest in guests}
    waiting = [guest for guest, reason in reasons.items() if not reason]
    with closing(worker.each(Guest.look_inside, waiting, _AT_ONCE, _PAUSE)) as looking:
        for _ in looking:
            pass
    for guest in waiting:
        answer = guest.look_inside()
        if isinstance(answer, ProbeError):
            reasons[guest] = str(answer)
    return reasons


def _why_closed(guest: Guest) -> str:
    try:
        return guest.why_not_inside() or ""
    except libvirt.libvirtError as exc:
        return f"libvirt: {libvirt_words(exc)}"


def _of_guest(guest: Guest, reason: str) -> str:
    note = f"# could not be looked into: {printable(reason)}\n" if reason else ""
    return f"{note}#[{table_of(guest.name)}]\n"


def _zone() -> str:
    """Return the name of this machine's time zone, UTC if it has none."""
    target = os.path.realpath("/etc/localtime")
    _, found, name = target.partition(_ZONES)
    return name if found else "UTC"


def expect_absent(path: Path) -> None:
    """Raise ReclaimError if something is at *path*."""
    if os.path.lexists(path):
        raise ReclaimError(
            f"--output {path}: it is there already: give a new name, or remove it"
        )


def write(path: Path, content: str) -> None:
    """Write *content* to *path*, where nothing may be yet. Raises ReclaimError; then no file is left."""
    expect_absent(path)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
    except OSError as exc:
        raise ReclaimError(f"--output {path}: {exc.strerror}") from exc
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(content)
    except OSError as exc:
        path.unlink(missing_ok=True)
        raise ReclaimError(f"--output {path}: {exc.strerror}") from exc
