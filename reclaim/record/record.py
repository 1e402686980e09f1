"""results.json read back: the source of every page, the terminal's diff and the archive."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    ValidationError,
    model_validator,
)
from pydantic.dataclasses import dataclass

from reclaim.base.errors import ReclaimError
from reclaim.base.verdict import Verdict
from reclaim.files import whole
from reclaim.record.outcome import Outcome, outcome_of

NAME = "results.json"
SCHEMA_FILE = Path(__file__).with_name("results.schema.json")

Slug = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]


class _RunPart(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


#: of these a record has many: without a dict and a set for each they take a third of the memory
_many = dataclass(
    config=ConfigDict(extra="forbid", defer_build=True), frozen=True, slots=True
)


class RunFacts(_RunPart):
    id: str
    mode: Literal["audit", "plan", "fix"]
    started: AwareDatetime
    ended: AwareDatetime
    version: str
    arguments: list[str]
    #: the folder in which it was started: relative paths of `arguments` are relative to it
    folder: str | None = None
    #: it was stopped before everything was judged; a run that was killed has no record at all
    cut_short: bool = False
    #: the command line chose some guests or requirements: --guests, -k, -m, --deselect, a path
    chosen: bool = False
    #: the hypervisors that the inventory names, without globs; null if there are none
    inventory_hypervisors: list[str] | None = None


class HypervisorFacts(_RunPart):
    name: str
    uri: str
    #: empty if it was not reached
    libvirt: str
    qemu: str | None
    reached: bool = True
    #: the word of --hosts that named it
    host: str | None = None
    #: libvirt's getHostname; null if it was not reached
    hostname: str | None = None


@_many
class RecordedChange:
    kind: str
    target: str
    diff: str
    applied: bool
    undone: bool

    @property
    def state(self) -> str:
        return "undone" if self.undone else "applied" if self.applied else "not applied"


@_many
class RecordedWaiver:
    """A waiver of the inventory. It has ended if the row's verdict is not "waived"."""

    reason: str
    until: date | None


@_many
class Row:
    requirement: Slug
    title: str
    guest: str | None
    disk: str | None
    backup: str | None
    verdict: Verdict
    reason: str | None
    evidence: str | None
    changes: list[RecordedChange]
    seconds: Annotated[float, Field(ge=0)]
    waiver: RecordedWaiver | None = None
    #: the beginning of the maintenance window that the row waits for
    next_window: AwareDatetime | None = None
    #: changes of it were applied in the run and taken back in it; here and below null if schema 1 does not contain it
    rolled_back: bool | None = None
    #: its guest was up before a power cycle, of the run or of one that died, and is off
    left_off: bool | None = None
    #: a change of it was begun and not made, or reclaim could change nothing more
    failed: bool | None = None


@_many
class Storage:
    """Sizes in bytes; null if reclaim could not count them.

    `reclaimable` is what a trim gives back at least, counted before anything was changed and at the end.
    """

    guest: str
    disk: str
    path: str | None
    virtual: NonNegativeInt | None
    allocated_before: NonNegativeInt | None
    allocated_after: NonNegativeInt | None
    used: NonNegativeInt | None
    reclaimable_before: NonNegativeInt | None = None
    reclaimable_after: NonNegativeInt | None = None
    #: the mount point of the host's filesystem that holds the image
    filesystem: str | None = None


@_many
class HostFilesystem:
    """A filesystem of the host that holds images, by statvfs. Sizes in bytes; null if it could not be read.

    `free` is left for users without privileges; `folder` is that of one of its images.
    """

    folder: str
    mount: str | None
    type: str | None
    source: str | None
    images: NonNegativeInt
    size: NonNegativeInt | None
    used_before: NonNegativeInt | None
    used_after: NonNegativeInt | None
    free_before: NonNegativeInt | None
    free_after: NonNegativeInt | None

    @property
    def name(self) -> str:
        return self.mount or self.folder


class Record(_RunPart):
    """The record of one run on one hypervisor.

    Schema 1, of older versions, has no `outcome`, and rows without `rolled_back`, `left_off` and `failed`: they are
    filled in as far as the rows have them.
    """

    schema_: Literal[1, 2] = Field(alias="schema")
    run: RunFacts
    outcome: Outcome = Field(default_factory=Outcome.model_construct)
    hypervisor: HypervisorFacts
    results: list[Row]
    storage: list[Storage]
    #: absent in records of older versions
    filesystems: list[HostFilesystem] = []
    reclaimed_bytes: NonNegativeInt

    @model_validator(mode="after")
    def _is_filled_in(self) -> Record:
        if self.schema_ == 1:
            _fill_in(self)
        elif "outcome" not in self.model_fields_set:
            raise ValueError("a record of schema 2 has an outcome")
        return self

    @cached_property
    def asked(self) -> frozenset[str]:
        """The requirements that were judged."""
        return frozenset(row.requirement for row in self.results)

    @property
    def guests(self) -> list[str]:
        """The guests that were judged, in the order of the run."""
        return list(
            dict.fromkeys(row.guest for row in self.results if row.guest is not None)
        )

    def by_guest(self) -> Iterator[tuple[str | None, list[Row]]]:
        """Yield the rows of each guest together; rows of no guest come last."""
        groups: dict[str | None, list[Row]] = {}
        for row in self.results:
            groups.setdefault(row.guest, []).append(row)
        for guest in sorted(groups, key=lambda name: name is None):
            yield guest, groups[guest]

    def anchor(self, row: Row) -> str:
        """Return the id of *row* on a page: the same in every rendering of it."""
        return anchor(
            "row",
            self.run.id,
            self.hypervisor.name,
            row.requirement,
            row.guest,
            row.disk,
            row.backup,
        )


def _fill_in(old: Record) -> None:
    """Fill in the fields that a record of schema 1 lacks. Both kinds of objects are frozen for everybody else."""
    for row in old.results:
        for flag in _not_so(row, is_fix=old.run.mode == "fix"):
            object.__setattr__(row, flag, False)
    cut_short = old.run.cut_short
    outcome = outcome_of(old.results, None, cut_short=cut_short, stopped=cut_short)
    object.__setattr__(old, "outcome", outcome)
    is_machine = urlsplit(old.hypervisor.uri).scheme != "test"
    hostname = old.hypervisor.name if is_machine else None
    facts = old.hypervisor.model_copy(update={"hostname": hostname})
    object.__setattr__(old, "hypervisor", facts)


def _not_so(row: Row, *, is_fix: bool) -> Iterator[str]:
    """Yield the flags that are certainly false for *row* of schema 1."""
    # only a fix changes anything, and a row that holds without a change needed none
    if not is_fix or (row.verdict.holds and not row.changes):
        yield from ("rolled_back", "failed")
    # a guest that was left off has a finding of this requirement
    if row.requirement != "live-definition" or row.verdict.holds:
        yield "left_off"


def anchor(kind: str, *names: str | None) -> str:
    """Return an id made from *names*, which may be any text."""
    text = json.dumps(names)
    return f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def path_of(run: Path) -> Path:
    """Return the path of results.json in *run*, which is a folder or the file itself."""
    return run / NAME if run.is_dir() else run


def read(run: Path) -> Record:
    """Read the record of *run* back. Raises ReclaimError with one line if it is none."""
    path = path_of(run)
    try:
        text = whole.read(path)
    except OSError as exc:
        raise ReclaimError(f"{path}: {exc.strerror}") from exc
    return parsed(text, path)


def parsed(text: str | bytes, path: Path) -> Record:
    """Return the record in *text*, which was read from *path*. Raises ReclaimError with one line if it is none."""
    try:
        return Record.model_validate_json(text)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise ReclaimError(
            f"{path}: not a record of a run: {where}: {first['msg']}"
        ) from exc


def json_schema() -> dict[str, Any]:
    """Return the content of results.schema.json."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Record.model_json_schema(),
        "if": {"properties": {"schema": {"const": 2}}},
        "then": {"required": ["outcome"]},
        "title": "reclaim: results.json, schema 2, and schema 1 of older versions",
    }
