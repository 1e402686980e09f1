from __future__ import annotations

from typing import TYPE_CHECKING

from reclaim.base.errors import Withheld
from reclaim.changes import domfstrim
from reclaim.changes.change import Change
from reclaim.changes.file_change import FileChange
from reclaim.handles.guest import Guest

if TYPE_CHECKING:
    from reclaim.backups.job import Job
    from reclaim.backups.job_files import Format

_WHY = b"# by reclaim: the guests give back what they have freed before it is copied\n"
#: seconds after which a trim is given up: an agent that hangs must not keep the backup from being made
_SECONDS = 900


def trim_before_copies(job: Job) -> list[Change]:
    """Put `virsh domfstrim` for each guest before the job's own commands, and touch nothing else in the file."""
    from reclaim.backups import job_files  # noqa: PLC0415 (start-up)
    from reclaim.backups.job import daemon_reload, why_not_edited  # noqa: PLC0415 (start-up)

    if reason := why_not_edited(job.path):
        raise Withheld(reason)
    copies = job.untrimmed().copies
    if elsewhere := [call.file for _, call in copies if call.file]:
        raise Withheld(f"{elsewhere[0]} makes the copy: declare that file as the job")
    uri, virsh = (
        domfstrim.local_uri(job.hypervisor),
        domfstrim.found_virsh(job.hypervisor),
    )
    if uri is None or virsh is None:
        raise Withheld("no virsh on the hypervisor reaches its system's libvirt")
    guests = {guest.name: guest for guest in job.hypervisor.guests}
    source = job.source()
    places: dict[tuple[int, Format], dict[str, Guest]] = {}
    for name, call in copies:
        if price := domfstrim.price(guests[name]):
            raise Withheld(f"{name}: {price}")
        place = job_files.beginning(job.path, source, call.line)
        if place is None:
            raise Withheld(f"put `virsh domfstrim {name}` before {call.where} by hand")
        places.setdefault(place, {})[name] = guests[name]
    wanted = source
    for (offset, kind), some in sorted(
        places.items(), key=lambda entry: entry[0][0], reverse=True
    ):
        commands = [
            f"{virsh} --connect {uri} domfstrim {guest.uuid}" for guest in some.values()
        ]
        wanted = wanted[:offset] + _text(kind, commands) + wanted[offset:]
    before, after = (
        text.decode("utf-8", errors="surrogateescape") for text in (source, wanted)
    )
    return [
        FileChange(
            job.hypervisor.name, job.path, before, after, then=daemon_reload(job)
        )
    ]


def _text(kind: Format, commands: list[str]) -> bytes:
    """Return the commands as the format has them. A guest that is off, or does not answer, does not stop the job."""
    if kind == "unit":
        return (
            _WHY
            + "".join(
                f"ExecStartPre=-/usr/bin/timeout {_SECONDS} {command}\n"
                for command in commands
            ).encode()
        )
    if kind == "shell":
        return (
            _WHY
            + "".join(
                f"timeout {_SECONDS} {command} >/dev/null 2>&1 || :\n"
                for command in commands
            ).encode()
        )
    return "".join(
        f"timeout {_SECONDS} {command} >/dev/null 2>&1; " for command in commands
    ).encode()
