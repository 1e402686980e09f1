"""The units are such that systemd takes them, whatever is in the command line."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from reclaim.base.errors import ReclaimError
from reclaim.base.home import SAFE
from reclaim.timer.units import MARKER, SERVICE, TIMER, ScheduledRun, texts

ANALYZE = shutil.which("systemd-analyze")
HOSTILE = ("a b", "$HOME ${HOME}", "100% %n", '"quoted"', "it's", "back\\slash\\", "a;b&c|d", ";", "-x", "é€", "")


def schedule(**more: Any) -> ScheduledRun:
    known = {"program": ("/bin/true",), "arguments": (), "mode": "audit", "calendar": "weekly", "is_root": True}
    return ScheduledRun(**{**known, **more})


def unit(name: str = SERVICE, **more: Any) -> list[str]:
    return texts(schedule(**more))[name].splitlines()


def value(key: str, lines: list[str]) -> str | None:
    found = [line.partition("=")[2] for line in lines if line.startswith(f"{key}=")]
    assert len(found) < 2
    return found[0] if found else None


@pytest.mark.skipif(ANALYZE is None, reason="no systemd-analyze")
@pytest.mark.parametrize("mode", ["audit", "plan", "fix"])
@pytest.mark.parametrize("is_root", [True, False])
@pytest.mark.parametrize("notifies", [True, False])
def test_systemd_takes_them(tmp_path: Path, mode: str, *, is_root: bool, notifies: bool) -> None:
    made = texts(
        schedule(
            mode=mode,
            is_root=is_root,
            notifies=notifies,
            arguments=HOSTILE,
            writable=(SAFE, '/srv/my "reports"/100%'),
            calendar="Mon,Thu *-*-* 04:30:00",
        )
    )
    for name, text in made.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    scope = [] if is_root else ["--user"]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *scope, str(tmp_path / TIMER), str(tmp_path / SERVICE)],
        env={"XDG_RUNTIME_DIR": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    # a distribution's own units may have faults, and they are looked at too
    about_ours = [line for line in (done.stdout + done.stderr).splitlines() if TIMER in line or SERVICE in line]
    assert (done.returncode, about_ours) == (0, [])


def unquoted(line: str) -> list[str]:
    """Split a command line by the rules of systemd.syntax(7) and systemd.service(5), for our own way of quoting."""
    words, word, quote = [], "", False
    characters = iter(f"{line} ")
    for character in characters:
        if character == "\\":
            word += next(characters)
        elif character == '"':
            quote = not quote
            word += "" if quote or word else "\0"  # an empty word
        elif character == " " and not quote:
            words.append(word.replace("\0", ""))
            word = ""
        else:
            word += character
    assert not quote
    return [word.replace("%%", "%").replace("$$", "$") for word in words]


def test_every_word_arrives_as_it_is() -> None:
    line = value("ExecStart", unit(arguments=HOSTILE))
    assert line is not None
    assert unquoted(line) == ["/bin/true", "audit", "-q", *HOSTILE]
    bare = line.replace("$$", "").replace("%%", "")
    assert "$" not in bare
    assert "%" not in bare


@pytest.mark.parametrize("word", ["two\nlines", "\x1b[2J", "nul\0"])
def test_control_characters_are_refused(word: str) -> None:
    with pytest.raises(ReclaimError, match="cannot have control characters"):
        texts(schedule(arguments=(word,)))
    with pytest.raises(ReclaimError, match="cannot have control characters"):
        texts(schedule(calendar=f"weekly\nOnBootSec=1{word}"))
    with pytest.raises(ReclaimError, match="cannot have"):
        texts(schedule(program=(f"/opt/{word}",)))
    with pytest.raises(ReclaimError, match=r"a path with \$"):
        texts(schedule(program=("/opt/$x/reclaim",)))


def test_a_reclaim_that_does_not_start_is_no_finding() -> None:
    """A traceback ends with status 1 too; that of ExecStartPre is a failure (systemd.service(5))."""
    lines = unit(program=("/usr/bin/env", "PYTHONPATH=/my checkout", "/usr/bin/python3", "-m", "reclaim"))
    assert value("SuccessExitStatus", lines) == "1 6"
    assert (
        value("ExecStartPre", lines) == '/usr/bin/env "PYTHONPATH=/my checkout" /usr/bin/python3 -m reclaim --version'
    )


def test_the_timer() -> None:
    lines = unit(TIMER, calendar="Mon 04:00")
    assert lines[0] == unit()[0] == MARKER
    assert value("OnCalendar", lines) == "Mon 04:00"
    assert value("Persistent", lines) == "true"
    assert value("RandomizedDelaySec", lines) == "1h"
    assert value("WantedBy", lines) == "timers.target"


def test_it_is_as_closed_as_the_run_allows() -> None:
    audit = unit(writable=(SAFE, "/var/lib/node_exporter"))
    assert value("ProtectSystem", audit) == "strict"
    assert value("NoNewPrivileges", audit) == "yes"
    assert value("StateDirectory", audit) == "reclaim"
    paths = value("ReadWritePaths", audit)
    assert paths is not None
    assert paths.split() == ["/var/lib/node_exporter", "/tmp", "/var/tmp", "-/root/.ssh"]
    noticed = unit(notifies=True)
    assert (value("ProtectSystem", noticed), value("NoNewPrivileges", noticed)) == ("full", None)
    fix = unit(mode="fix")
    assert (value("ProtectSystem", fix), value("ReadWritePaths", fix)) == (None, None)
    for lines in (audit, noticed, fix):
        assert value("RuntimeDirectoryPreserve", lines) == "yes"
        assert value("ProtectKernelModules", lines) == "yes"
        for hiding in ("PrivateTmp", "PrivateDevices", "ProtectClock", "ProtectProc", "MemoryDenyWriteExecute"):
            assert value(hiding, lines) is None


def test_a_user_has_no_mounts_of_his_own() -> None:
    lines = unit(is_root=False, writable=("/home/a/reports",))
    assert value("NoNewPrivileges", lines) == "yes"
    for key in ("ProtectSystem", "ReadWritePaths", "ProtectKernelModules", "RuntimeDirectory", "StateDirectory"):
        assert value(key, lines) is None
    assert not [line for line in lines if "network-online" in line], "a target of the system"
