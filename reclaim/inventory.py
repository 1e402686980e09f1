"""The inventory: the user's notes on guests and backups, and the policy of the house."""

from __future__ import annotations

import fnmatch
import json
import re
import stat
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from reclaim.base.errors import ReclaimError, Untrusted
from reclaim.base.text import trouble
from reclaim.files import trust

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: bytes of an inventory that are read
_MOST = 16 * 1024 * 1024
#: the kinds of errors whose message by pydantic names Python's types, and not TOML's
_IN_WORDS = {
    "extra_forbidden": "there is no such key: see the inventory in README.md",
    "missing": "this key is required",
    "int_type": "give a whole number",
    "int_parsing": "give a whole number",
    "int_from_float": "give a whole number",
    "bool_type": "give true or false",
    "bool_parsing": "give true or false",
    "string_type": "give a text in quotes",
    "path_type": "give a path in quotes",
    "list_type": "give a list in [ ]",
    "dict_type": "give a table",
    "model_type": "give a table",
    "string_too_short": "give the reason",
}
#: true or false as TOML writes them: no word, which pydantic would take for one of them
Switch = Annotated[bool, Field(strict=True)]
#: likewise: pydantic would take true for 1
Whole = Annotated[int, Field(strict=True)]
Seconds = Annotated[Whole, Field(ge=1, le=86_400)]
#: a text that is not blank
Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Policy(_Table):
    """The policy of the house. `machine` selects the type that replaces one that is too old."""

    bus: Literal["scsi", "any-discarding"] = "scsi"
    machine: Literal["newest", "minimum"] = "newest"
    #: the new `<target dev='vda'>` when the disk moves to another bus
    target: Literal["rename", "keep"] = "rename"
    luks_discard: Switch = False
    discard_no_unref: Switch = False
    #: MiB that --prove writes in each filesystem; it writes less if less than ten times that is free
    canary_mib: Annotated[Whole, Field(ge=4, le=65_536)] = 64
    #: how long a guest may take to shut down, and to answer after its start
    shutdown_seconds: Seconds = 180
    boot_seconds: Seconds = 300
    #: how long one look inside a guest may take: 4 s under emulation, minutes if the host has many guests to emulate.
    #: This and boot_seconds grow with the load of the hypervisor
    look_seconds: Seconds = 300
    #: stop by force, in a power cycle, a guest that ignores that it is to shut down
    pull_plug: Switch = False
    #: trim guests whose agent runs no commands from the hypervisor, by a weekly timer
    trim_from_host: Switch = False
    #: let backup jobs trim the guests whose images they copy, before they do
    trim_before_backup: Switch = False


def _a_word(text: str) -> str:
    """Return *text* if it can be an argument of ssh(1): no option, no blank. Else raise ValueError."""
    is_one = text.isprintable() and not re.search(r"\s", text)
    if not text or not is_one or text.startswith("-"):
        raise ValueError(f"{text!r}: give one word that does not begin with '-'")
    return text


def _a_file(path: Path) -> Path:
    try:
        path = path.expanduser()
        # not is_file(), which calls each trouble an absence from Python 3.14 on
        is_there = stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        is_there = False
    except RuntimeError as exc:
        raise ValueError(f"{path}: there is no such home directory") from exc
    except OSError as exc:
        raise ValueError(trouble(exc)) from exc
    text = str(path)
    if "%" in text or '"' in text or not text.isprintable():
        raise ValueError(
            f"{text!r}: ssh would read '%' and '\"' in it as special: give another path"
        )
    if not path.is_absolute():
        raise ValueError(f"{path}: give an absolute path, or one that begins with ~/")
    if not is_there:
        raise ValueError(f"{path}: there is no such file")
    return path


Word = Annotated[str, AfterValidator(_a_word)]
File = Annotated[Path, AfterValidator(_a_file)]


class Ssh(_Table):
    """How ssh gets into a guest. Absent keys are as in ssh_config(5), but for the settings that have to be strict."""

    user: Word | None = None
    port: Annotated[Whole, Field(ge=1, le=65_535)] | None = None
    #: IdentityFile; ssh's own keys and agent if it is absent
    key: File | None = None
    #: become root by `sudo -n`
    sudo: Switch = False
    #: HostName; looked up with libvirt if it is absent
    address: Word | None = None
    #: UserKnownHostsFile
    known_hosts: File | None = None
    #: use ssh even if the agent runs commands
    prefer: Switch = False


class SshOfGuests(Ssh):
    """One `[[ssh]]`: how ssh gets into the guests that match one of these globs."""

    guests: Annotated[list[str], Field(min_length=1)]

    @model_validator(mode="after")
    def _one_address_is_of_one_guest(self) -> SshOfGuests:
        if self.address is not None:
            raise ValueError(
                "an address belongs to one guest: give it in [guest.NAME.ssh]"
            )
        return self

    def is_for(self, guest: str) -> bool:
        return any(fnmatch.fnmatchcase(guest, glob) for glob in self.guests)


class GuestNotes(_Table):
    """The user's notes on one guest, by its name."""

    ssh: Ssh | None = None
    #: its disks take all their space on purpose; None: raw images that are preallocated do
    thick: Switch | None = None
    #: policy.pull_plug for it alone
    pull_plug: Switch | None = None
    #: requirement -> the reason for which it need not hold
    waive: dict[str, Reason] = {}


#: one for all: making it costs more than judging a disk
NO_NOTES = GuestNotes()


class BackupNotes(_Table):
    """One `[[backup]]`: the place of copies of disk images, their guests, and the job that makes them."""

    #: a folder of copies, or one copy
    path: Path | None = None
    #: globs of the guests whose disks the copies are of; any guest if there is none
    guests: list[str] = []
    #: paths of the images that are copied, if guests' definitions do not name them
    images: list[str] = []
    #: a cron table, a systemd unit, an rsnapshot.conf or a shell script
    job: Path | None = None
    #: true if the target keeps snapshots; if absent reclaim asks btrfs itself
    snapshots: Switch | None = None

    @model_validator(mode="after")
    def _says_something(self) -> BackupNotes:
        if self.path is None and self.job is None:
            raise ValueError(
                "give path (the copies), job (the script or unit that makes them), or both"
            )
        for path in (self.path, self.job):
            if path is None:
                continue
            if not path.is_absolute():
                raise ValueError(f"{path}: give an absolute path")
            if "\0" in str(path):
                raise ValueError(f"{str(path)!r}: no path has a NUL in it")
        return self


class Inventory(_Table):
    policy: Policy = Policy()
    guest: dict[str, GuestNotes] = {}
    backup: list[BackupNotes] = []
    ssh: list[SshOfGuests] = []

    def ssh_of(self, guest: str) -> Ssh | None:
        """Return the way of ssh into *guest*: its own table, else the first `[[ssh]]` that matches, else None."""
        own = self.notes(guest).ssh
        if own is not None:
            return own
        for ssh in self.ssh:
            if ssh.is_for(guest):
                return ssh
        return None

    def notes(self, guest: str) -> GuestNotes:
        return self.guest.get(guest) or NO_NOTES


def table_of(guest: str) -> str:
    """Return the name of *guest*'s table in TOML: a guest's name with a dot in it needs quotes."""
    is_bare = re.fullmatch(r"[A-Za-z0-9_-]+", guest)
    return f"guest.{guest if is_bare else json.dumps(guest, ensure_ascii=False)}"


def read_inventory(path: Path) -> Inventory:
    """Read the TOML file at *path*. Raises ReclaimError with one line: the trouble, its place, the way out.

    An inventory names users, commands and files to be changed. Raises Untrusted if others could have written it.
    """
    data = _read_toml(path)
    try:
        return Inventory.model_validate(data)
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        more = f" (and {exc.error_count() - 1} more)" if exc.error_count() > 1 else ""
        wrong = _in_words(first["type"], first["msg"])
        raise ReclaimError(f"inventory {path}: {where}: {wrong}{more}") from exc


def _in_words(kind: str, message: str) -> str:
    """Return pydantic's *message* of an error of this *kind* as a sentence about a TOML file."""
    if kind in _IN_WORDS:
        return _IN_WORDS[kind]
    of_ours = message.removeprefix("Value error, ")
    return of_ours.replace("Input should be", "it should be")


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(trust.read(path, _MOST).decode("utf-8-sig"))
    except Untrusted as exc:
        raise Untrusted(
            exc.path, exc.wrong, f"the inventory {path} is not trusted: {exc.way_out}"
        ) from exc
    except OSError as exc:
        raise ReclaimError(f"inventory {path}: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise ReclaimError(f"inventory {path}: not UTF-8 at byte {exc.start}") from exc
    except ValueError as exc:
        # tomllib's own error is one, and so is a number of too many digits
        raise ReclaimError(f"inventory {path}: not TOML: {exc}") from exc
    except RecursionError as exc:
        raise ReclaimError(
            f"inventory {path}: its arrays or tables are nested too deep"
        ) from exc
