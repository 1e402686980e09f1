"""The errors: which of them a run can take for which, and the facts that they carry."""

from __future__ import annotations

import pytest

from reclaim.base import errors
from reclaim.base.errors import ChangedSince, ChangeFailed, NotLinux, NotLinuxButWindows, ProbeError, Untrusted


@pytest.mark.parametrize(
    "kind",
    [errors.NoAccess, errors.AgentAbsent, errors.AgentBlocked, errors.AgentFrozen, NotLinux, NotLinuxButWindows],
)
def test_who_cannot_look_inside_could_not_look(kind: type[Exception]) -> None:
    assert issubclass(kind, ProbeError)
    assert not issubclass(kind, ChangeFailed)


@pytest.mark.parametrize(
    "kind", [errors.Refused, errors.NotYet, errors.StillRunning, errors.PowerCycleFailed, ChangedSince]
)
def test_a_change_that_was_not_made_is_no_failed_look(kind: type[Exception]) -> None:
    assert issubclass(kind, ChangeFailed)
    assert not issubclass(kind, ProbeError)


@pytest.mark.parametrize("kind", [errors.NotApplicable, errors.NotAssessable, errors.Withheld, errors.Pending])
def test_the_words_of_checks_and_fixers_pass_where_faults_are_caught(kind: type[Exception]) -> None:
    assert not issubclass(kind, errors.ReclaimError)
    assert not issubclass(kind, AssertionError)


@pytest.mark.parametrize("kind", [errors.ReclaimError, ProbeError, ChangeFailed, errors.JournalLost])
def test_no_fault_is_a_finding(kind: type[Exception]) -> None:
    assert not issubclass(kind, AssertionError)


@pytest.mark.parametrize("kind", [NotLinux, NotLinuxButWindows])
def test_another_system_is_named_with_its_guest(kind: type[NotLinux]) -> None:
    error = kind("web", "FreeBSD 14 answers")
    assert error.words == "FreeBSD 14 answers"
    assert str(error) == "web: FreeBSD 14 answers"


def test_the_difference_to_what_the_run_left_is_carried_and_not_said() -> None:
    error = ChangedSince("/etc/fstab is another", "-a\n+b\n")
    assert (str(error), error.diff) == ("/etc/fstab is another", "-a\n+b\n")
    assert ChangedSince("gone").diff == ""


def test_a_file_that_is_not_obeyed_is_named_with_the_way_out() -> None:
    error = Untrusted("/srv/a.toml", "can be written by others", "chmod go-w /srv/a.toml")
    assert str(error) == "/srv/a.toml can be written by others; chmod go-w /srv/a.toml"
    assert (error.path, error.wrong, error.way_out) == (
        "/srv/a.toml",
        "can be written by others",
        "chmod go-w /srv/a.toml",
    )
