"""The tables of the inventory, their keys, types and defaults. docs/inventory.md describes them for people."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, PrivateAttr, model_validator

from reclaim.inventory import names
from reclaim.inventory.keys import (
    File,
    Place,
    Scoped,
    Seconds,
    Switch,
    Table,
    Whole,
    Word,
)
from reclaim.inventory.waivers import Waived, Waiver
from reclaim.inventory.windows import Window


class Policy(Table):
    """The policy of the house, for all guests."""

    bus: Literal["scsi", "any-discarding"] = Field(
        default="scsi",
        description="The bus that disks belong on. any-discarding leaves ide, sata, and virtio-blk (machine type 4.0 "
        "or newer) if machine type and guest discard on it.",
    )
    machine: Literal["newest", "minimum"] = Field(
        default="newest",
        description="The machine type that replaces one that is too old: the newest of its family, or the oldest that "
        "will do.",
    )
    target: Literal["rename", "keep"] = Field(
        default="rename",
        description="The `<target dev='vda'>` of a disk that moves to another bus: renamed (sda), or kept.",
    )
    luks_discard: Switch = Field(
        default=False, description="Let --fix add `discard` to the guests' crypttab."
    )
    discard_no_unref: Switch = Field(
        default=False,
        description="Set discard_no_unref for qcow2, if libvirt is 9.5 or newer and QEMU 8.1 or newer.",
    )
    canary_mib: Annotated[Whole, Field(ge=4, le=65_536)] = Field(
        default=64,
        description="MiB that --prove writes in each filesystem; less if less than ten times that is free.",
    )
    shutdown_seconds: Seconds = Field(
        default=180,
        description="How long a guest may take to shut down; reclaim waits twice that long.",
    )
    boot_seconds: Seconds = Field(
        default=300,
        description="How long a guest may take to answer after its start; up to four times that on a busy hypervisor.",
    )
    #: 4 s under emulation, minutes if the host has many guests to emulate
    look_seconds: Seconds = Field(
        default=300,
        description="How long one look inside a guest may take; up to four times that on a busy hypervisor.",
    )
    pull_plug: Switch = Field(
        default=False,
        description="Stop by force, in a power cycle, a guest that ignores the request to shut down.",
    )
    trim_from_host: Switch = Field(
        default=False,
        description="Trim guests whose agent runs no commands from the hypervisor, by a weekly timer.",
    )
    trim_before_backup: Switch = Field(
        default=False,
        description="Let backup jobs run `virsh domfstrim` for the guests whose images they copy.",
    )


class Ssh(Table):
    """How ssh gets into a guest. Absent keys are as in ssh_config(5), but for the settings that have to be strict."""

    user: Word | None = Field(default=None, description="The user to log in as.")
    port: Annotated[Whole, Field(ge=1, le=65_535)] | None = Field(
        default=None, description="The port of the guest's sshd."
    )
    key: File | None = Field(
        default=None,
        description="The private key (IdentityFile), an absolute path or one from ~/; ssh's own keys and agent "
        "if it is absent.",
    )
    sudo: Switch = Field(default=False, description="Become root by `sudo -n`.")
    address: Word | None = Field(
        default=None,
        description="The guest's address or host name, for one guest; looked up with libvirt if it is absent.",
    )
    known_hosts: File | None = Field(
        default=None,
        description="The file with the guest's host key (UserKnownHostsFile).",
    )
    prefer: Switch = Field(
        default=False, description="Use ssh even if the agent runs commands."
    )


class SshOfGuests(Ssh, Scoped):
    """One `[[ssh]]`: how ssh gets into the guests that match one of its globs."""

    guests: Annotated[list[str], Field(min_length=1)] = Field(
        description="Globs of the guests that it is for."
    )

    @model_validator(mode="after")
    def _one_address_is_of_one_guest(self) -> SshOfGuests:
        if self.address is not None:
            raise ValueError(
                "an address belongs to one guest: give it in [guest.NAME.ssh]"
            )
        return self

    def is_for(self, guest: str) -> bool:
        return names.is_any(self.guests, guest)


class GuestNotes(Scoped):
    """One `[guest.NAME]`: notes on one guest, or on those that match a glob."""

    ssh: Ssh | None = Field(default=None, description="How ssh gets into it.")
    thick: Switch | None = Field(
        default=None,
        description="Its disks take all their space on purpose; if it is absent, raw images that are preallocated do.",
    )
    pull_plug: Switch | None = Field(
        default=None, description="The policy's pull_plug, for these guests alone."
    )
    waive: dict[str, Waived] = Field(
        default={},
        description="Requirements that need not hold, each with the reason.",
    )


#: one for all: making it costs more than judging a disk
NO_NOTES = GuestNotes.model_construct()


class BackupNotes(Scoped):
    """One `[[backup]]`: the place of copies of disk images, their guests, and the job that makes them."""

    path: Place | None = Field(
        default=None, description="A folder of copies, or one copy."
    )
    guests: list[str] = Field(
        default=[],
        description="Globs of the guests whose disks the copies are of; any guest if it is absent.",
    )
    images: list[str] = Field(
        default=[],
        description="Paths of the images that are copied, if the guests' definitions do not name them.",
    )
    job: Place | None = Field(
        default=None,
        description="The job that makes the copies: a cron table, a systemd unit, an rsnapshot.conf or a shell script.",
    )
    snapshots: Switch | None = Field(
        default=None,
        description="Whether the target keeps snapshots; if it is absent, reclaim asks btrfs itself.",
    )

    @model_validator(mode="after")
    def _says_something(self) -> BackupNotes:
        if self.path is None and self.job is None:
            raise ValueError(
                "give path (the copies), job (the script or unit that makes them), or both"
            )
        return self


class Setting(NamedTuple):
    """One value of the file, and the keys that lead to it."""

    place: tuple[str | int, ...]
    value: object


class Inventory(Table):
    """The file that --inventory names: facts that reclaim cannot see, and what it may do."""

    policy: Policy = Field(
        default=Policy.model_construct(), description="The policy, for all guests."
    )
    guest: dict[str, GuestNotes] = Field(
        default={},
        description="Notes on guests, each by its name or a glob. For each key the most specific table counts.",
    )
    backup: list[BackupNotes] = Field(
        default=[], description="Copies of disk images, and the jobs that make them."
    )
    ssh: list[SshOfGuests] = Field(
        default=[],
        description="The way of ssh into guests, by globs; the first that matches.",
    )
    window: list[Window] = Field(
        default=[], description="The times in which reclaim may power-cycle guests."
    )
    _known: dict[str, GuestNotes] = PrivateAttr(default_factory=dict)
    _globs: list[str] | None = PrivateAttr(None)

    @property
    def hypervisors(self) -> list[str]:
        """The names of hypervisors that the tables are for, each once; globs name none."""
        tables: list[Scoped] = [
            *self.guest.values(),
            *self.backup,
            *self.ssh,
            *self.window,
        ]
        named = dict.fromkeys(host for table in tables for host in table.on or ())
        return [host for host in named if not names.is_pattern(host)]

    def on_hypervisor(self, name: str) -> Inventory:
        """Return the part of it that is for the hypervisor *name*."""
        part = self.model_copy(
            update={
                "guest": {
                    guest: notes
                    for guest, notes in self.guest.items()
                    if notes.is_on(name)
                },
                "backup": [backup for backup in self.backup if backup.is_on(name)],
                "ssh": [ssh for ssh in self.ssh if ssh.is_on(name)],
                "window": [window for window in self.window if window.is_on(name)],
            }
        )
        part._known, part._globs = {}, None  # noqa: SLF001 - of its own class
        return part

    def ssh_of(self, guest: str) -> Ssh | None:
        """Return the way of ssh into *guest*: its own tables, else the first `[[ssh]]` that matches, else None."""
        own = self.notes(guest).ssh
        if own is not None:
            return own
        for ssh in self.ssh:
            if ssh.is_for(guest):
                return ssh
        return None

    def windows_of(self, guest: str) -> list[Window]:
        """Return the windows that name *guest*, else those that name no guest."""
        own = [window for window in self.window if window.is_for(guest)]
        return own or [window for window in self.window if window.guests is None]

    def notes(self, guest: str) -> GuestNotes:
        """Return the notes of all tables that *guest* matches: each key from the most specific that has it."""
        if not self.guest:
            return NO_NOTES
        if guest not in self._known:
            self._known[guest] = self._merged(guest)
        return self._known[guest]

    def _merged(self, guest: str) -> GuestNotes:
        tables = [self.guest[name] for name in self.tables_of(guest)]
        if not tables:
            return NO_NOTES
        values = {place[2:]: value for place, value in self.settings_of(guest)}
        ssh: dict[str, Any] = {
            str(keys[1]): value for keys, value in values.items() if keys[0] == "ssh"
        }
        waive = {
            str(keys[1]): value
            for keys, value in values.items()
            if keys[0] == "waive" and isinstance(value, Waiver)
        }
        plain: dict[str, Any] = {
            str(keys[0]): value for keys, value in values.items() if not keys[1:]
        }
        # each value was judged in its own table
        return GuestNotes.model_construct(
            # a table without keys: ssh as ssh_config(5) has it
            ssh=Ssh.model_construct(**ssh)
            if any(notes.ssh is not None for notes in tables)
            else None,
            waive=waive,
            **plain,
        )

    def settings_of(self, guest: str) -> list[Setting]:
        """Return the values that count for *guest* in tables of guests, each with the table that it is from."""
        settings: dict[tuple[str | int, ...], Setting] = {}
        for name in self.tables_of(guest):
            for keys, value in _values(self.guest[name]):
                settings.setdefault(keys, Setting(("guest", name, *keys), value))
        return list(settings.values())

    def tables_of(self, guest: str) -> list[str]:
        """Return the names of the tables of guests that *guest* matches, the most specific first."""
        if self._globs is None:
            self._globs = [name for name in self.guest if names.is_pattern(name)]
        candidates = [name for name in self._globs if name != guest]
        if guest in self.guest:
            candidates.append(guest)
        return names.most_specific_first(candidates, guest)


def _values(notes: GuestNotes) -> Iterator[tuple[tuple[str, ...], object]]:
    """Yield the keys that the file sets in one table of guests, with their values."""
    for key in ("thick", "pull_plug"):
        if key in notes.model_fields_set:
            yield (key,), getattr(notes, key)
    if notes.ssh is not None:
        for key in Ssh.model_fields:
            if key in notes.ssh.model_fields_set:
                yield ("ssh", key), getattr(notes.ssh, key)
    for slug, waiver in notes.waive.items():
        yield ("waive", slug), waiver


def table_of(guest: str) -> str:
    """Return the name of *guest*'s table in TOML: a guest's name with a dot in it needs quotes."""
    return dotted(("guest", guest))


def dotted(keys: Iterable[str]) -> str:
    """Return *keys* as TOML writes them, with dots between, and in quotes if need be."""
    return ".".join(map(_quoted, keys))


def _quoted(key: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9_-]+", key):
        return key
    escaped = key.replace("\\", "\\\\").replace('"', '\\"')
    escaped = re.sub(r"[\x00-\x1f\x7f]", _escape, escaped)
    return f'"{escaped}"'


def _escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"
