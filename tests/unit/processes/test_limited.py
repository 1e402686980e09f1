"""A command in a hypervisor's shell is limited in time, and says why it failed."""

from __future__ import annotations

from pathlib import Path

import pytest
import testinfra
from testinfra.host import Host

from reclaim.processes import limited
from tests.support import executable


@pytest.fixture
def shell() -> Host:
    return testinfra.get_host("local://")


def test_its_arguments_are_words_and_its_locale_is_c(shell: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    result = limited.run(shell, 60, "printf '%%s|' %s %s", "a b", "$(id)'\"")
    assert (result.rc, result.stdout) == (0, "a b|$(id)'\"|")
    assert limited.run(shell, 60, "sh -c 'echo $LC_ALL; cat'").stdout == "C\n"


def test_a_script_has_its_arguments(shell: Host) -> None:
    result = limited.run_script(shell, 60, 'printf "%s|" "$0" "$@"; cat', "a b", "", "'")
    assert (result.rc, result.stdout) == (0, "reclaim|a b||'|")


@pytest.mark.slow
def test_the_end_of_its_time_is_the_reason(shell: Host) -> None:
    result = limited.run_script(shell, 1, "echo words >&2; exec sleep 600")
    assert limited.why_failed(result, 1) == "no answer within 1 s"


def test_otherwise_its_last_words_are(shell: Host) -> None:
    result = limited.run_script(shell, 60, "for line in a b c d; do echo $line >&2; done; exit 4")
    assert limited.why_failed(result, 60) == "b; c; d"
    assert limited.why_failed(limited.run(shell, 60, "false"), 60) == "status 1"


def test_output_is_bounded(shell: Host) -> None:
    assert limited.output(shell, 60, 10, "printf 123456789") == "123456789"
    assert limited.output(shell, 60, 9, "printf 123456789") is None
    assert limited.output(shell, 60, 100, "yes") is None
    assert limited.output(shell, 60, 100, "true") is None
    assert limited.output(shell, 60, 100, "no-such-program-here") is None


@pytest.mark.slow
def test_output_of_a_command_that_does_not_end_is_what_it_printed(shell: Host, tmp_path: Path) -> None:
    """Whoever parses it sees that it is cut short."""
    script = tmp_path / "slow"
    executable(script, "#!/bin/sh\nprintf '[1,'\nexec sleep 600\n")
    assert limited.output(shell, 1, 100, "%s", str(script)) == "[1,"
