"""The arguments of `reclaim timer`, and the service that they ask for."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

import pytest

from reclaim.base.errors import ReclaimError
from reclaim.timer import verb
from reclaim.timer.units import ScheduledRun
from tests.support import executable


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    verb.declare(parser)
    return parser.parse_args(words)


def ordered(*words: str) -> ScheduledRun:
    return verb.schedule(parsed("install", *words))


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LIBVIRT_DEFAULT_URI", raising=False)
    monkeypatch.chdir(tmp_path)


def test_by_default_it_audits_every_week() -> None:
    made = ordered()
    assert (made.mode, made.calendar, made.arguments, made.notifies) == ("audit", "weekly", (), False)
    assert all(Path(word).is_absolute() for word in made.program[:1])
    assert made.command[-2:] == ("audit", "-q")


def test_paths_and_programs_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("reports", "copies", "prom"):
        (tmp_path / folder).mkdir()
    (tmp_path / "inventory.toml").write_text("", encoding="utf-8")
    (tmp_path / "inventory.toml").chmod(0o600)
    hook = tmp_path / "hook"
    executable(hook, "#!/bin/sh\n")
    made = ordered(
        *("--uri", "qemu:///system", "--guests", "web*", "--guests", "!db", "--boot-stopped", "--keep", "9"),
        *("--inventory", "inventory.toml", "--backups", "copies", "--reports", "reports"),
        *("--metrics", "prom/reclaim.prom", "--notify", "./hook 'two words' x", "--calendar", "daily"),
    )
    assert set(made.arguments) == {
        "--uri=qemu:///system",
        "--guests=web*",
        "--guests=!db",
        f"--inventory={tmp_path}/inventory.toml",
        f"--backups={tmp_path}/copies",
        "--boot-stopped",
        f"--reports={tmp_path}/reports",
        "--keep=9",
        f"--notify={tmp_path}/hook 'two words' x",
        f"--metrics={tmp_path}/prom/reclaim.prom",
    }
    assert made.writable == (f"{tmp_path}/reports", f"{tmp_path}/prom")
    assert made.notifies
    assert ordered("--notify", "env -i x").arguments == ("--notify=/usr/bin/env -i x",)


def test_libvirts_default_of_this_user_is_the_services_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIBVIRT_DEFAULT_URI", "qemu:///session")
    assert ordered().arguments == ("--uri", "qemu:///session")
    assert ordered("--uri", "xen:///").arguments == ("--uri=xen:///",)
    assert ordered("--hosts", "kvm1").arguments == ("--hosts=kvm1",)


def test_it_fixes_only_if_that_is_said_twice() -> None:
    with pytest.raises(ReclaimError, match="--mode fix: it changes guests without a person at hand"):
        ordered("--mode", "fix")
    assert ordered("--mode", "fix", "--unattended").mode == "fix"


@pytest.mark.skipif(os.geteuid() != 0, reason="for root alone")
def test_root_hears_of_a_program_that_others_can_change(tmp_path: Path) -> None:
    program = tmp_path / "reclaim"
    program.touch()
    wanted = replace(ordered(), program=(str(program),))
    assert list(verb._notes(wanted)) == list(verb._notes(replace(wanted, program=("/usr/bin/env",))))
    program.chmod(0o777)
    [note] = verb._notes(wanted)
    assert note.startswith(f"note: {program} ")
    assert list(verb._notes(replace(wanted, is_root=False))) == []


@pytest.mark.parametrize("flag", ["--fix", "--plan", "--restart", "--force", "--json"])
def test_no_option_of_a_run_makes_it_more(flag: str) -> None:
    with pytest.raises(SystemExit):
        parsed("install", flag)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--reports", "nowhere"], "--reports nowhere: there is no such folder"),
        (["--metrics", "nowhere/x.prom"], "--metrics nowhere/x.prom: there is no folder"),
        (["--inventory", "nowhere.toml"], "nowhere.toml"),
        (["--notify", "no-such-program"], "--notify no-such-program: there is no such program"),
        (["--metrics", "."], "--metrics .: no regular file"),
        (["--keep", "0"], "--keep 0: keep at least one run"),
        (["--keep", "-1"], "--keep -1: keep at least one run"),
        (["--guests", ","], "--guests: no name is given"),
        (["--hosts", ","], "--hosts: no name is given"),
        (["--prove", "--definitions-only"], "--prove looks into guests and --definitions-only into none"),
        (["--boot-stopped", "--definitions-only"], "--boot-stopped looks into guests"),
    ],
)
def test_a_run_that_could_not_start_is_refused_now(words: list[str], why: str) -> None:
    with pytest.raises(ReclaimError, match=why):
        ordered(*words)


@pytest.mark.parametrize("action", ["remove", "status"])
def test_only_install_takes_options(action: str) -> None:
    with pytest.raises(ReclaimError, match="--calendar: only reclaim timer install takes it"):
        verb.run(parsed(action, "--calendar", "daily"), print)


@pytest.mark.parametrize("flag", ["--uri", "--hosts", "--inventory", "--backups", "--reports", "--metrics"])
def test_an_empty_value_does_not_install_another_run(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed("install", flag, "")
    assert f"argument {flag}: the value is empty" in capsys.readouterr().err
