"""The summary of each run that the index keeps, so that a new run reads no old ones."""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict

from reclaim.base.verdict import Verdict


class _Kept(BaseModel):
    model_config = ConfigDict(extra="forbid", defer_build=True)


class Delta(_Kept):
    """The changes since the run before: the number of each kind, and the first of them."""

    counts: dict[str, int] = {}
    told: dict[str, list[str]] = {}


class ArchivedRun(_Kept):
    """One run in the index."""

    #: time and size of results.json when it was read
    stamp: tuple[int, int]
    started: AwareDatetime
    #: why its results.json cannot be read
    trouble: str | None = None
    hypervisor: str = ""
    uri: str = ""
    mode: str = ""
    version: str = ""
    sentence: str = ""
    verdicts: dict[Verdict, int] = {}
    reclaimed: int = 0
    #: bytes that can be freed; None if they are not known
    reclaimable: int | None = None
    #: guests that do not return freed space, or wait
    bad: int = 0
    narrow: bool = False
    #: it judged all that decides whether a guest returns freed space
    whole_road: bool = False
    #: bytes used and free of the host's filesystems, by mount point
    filesystems: dict[str, tuple[int, int]] = {}
    #: bytes on the host for each guest; None if the run is too old to be drawn
    allocated: dict[str, int] | None = None
    #: the guests by the name of their standing, and their bytes that can be freed; None as above
    standings: dict[str, list[str]] | None = None
    spare: dict[str, int] | None = None
    #: the run that was the one before when `delta` was made
    before: str | None = None
    delta: Delta | None = None


class IndexState(_Kept):
    """All runs of the index, by hypervisor/run."""

    #: 2 did not have what a fleet is counted by, 1 kept addresses as they were, with their passwords
    version: Literal[3]
    runs: dict[str, ArchivedRun] = {}
