"""The serial console of a guest: the part of its log that was written since."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reclaim.handles.console import Console, console
from tests.remote import remote
from tests.support import (
    Inside,
    disk_xml,
    inhabited,
)

if TYPE_CHECKING:
    from pathlib import Path


VDA = disk_xml("vda")


def test_a_console_that_virtlogd_began_anew_is_read_from_its_beginning(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    log.write_text("x\n" * 1000)
    guest = inhabited(tmp_path, Inside(), VDA, f"<serial type='file'><source path='{log}'/></serial>")
    said = console(guest)
    assert "no output on its serial console" in said.tail
    log.write_text("after\n")
    assert said.lines == ["after"]


def test_what_steers_a_terminal_is_left_out_of_the_console(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    log.write_text("")
    said = console(inhabited(tmp_path, Inside(), VDA, f"<serial type='file'><source path='{log}'/></serial>"))
    log.write_text("\x1b[?25l\x1b[0;1;31m TIME \x1b[0m] Timed out\x1b[K\r\n\x1b[2J\x1bc\r\nlogin:\n")
    assert said.lines == [" TIME ] Timed out", "login:"]


def test_without_a_log_of_the_console_that_is_said(tmp_path: Path) -> None:
    assert "its serial console is not logged" in console(inhabited(tmp_path, Inside(), VDA)).tail


def test_a_guest_is_brought_back_without_the_words_of_its_console(broken: Path) -> None:
    """A roll-back begins with the console's last lines; what it said before must not be taken for what it says now."""
    (broken / "console.log").write_text("Kernel panic - not syncing, long ago\n")
    (broken / "works").touch()
    guest = remote(broken).guests[0]
    said = console(guest)
    assert said.dead_end is None
    (broken / "works").unlink()
    assert (said.dead_end, said.lines) == (None, [])
    assert "no output" in said.tail
    blind = console(guest)
    (broken / "works").touch()
    assert blind.dead_end is None


def _logged(folder: Path, text: str = "", *devices: str) -> tuple[Console, Path]:
    """The console of a guest from now on, and the log that holds *text* by then."""
    log = folder / "console.log"
    log.write_text(text, encoding="utf-8")
    serial = devices or (f"<serial type='file'><source path='{log}'/></serial>",)
    return console(inhabited(folder, Inside(), VDA, *serial)), log


@pytest.mark.parametrize(
    "device",
    [
        pytest.param("<serial type='file'><source path='{}'/></serial>", id="serial-file"),
        pytest.param("<serial type='pty'><log file='{}' append='on'/></serial>", id="serial-log"),
        pytest.param("<console type='pty'><log file='{}'/></console>", id="console-log"),
        pytest.param(
            "<serial type='file'><source path='/no/such'/><log file='{}'/></serial>", id="log-before-the-source"
        ),
        pytest.param("<serial type='pty'/><serial type='pty'><log file='{}'/></serial>", id="the-second-serial"),
    ],
)
def test_the_log_is_found(tmp_path: Path, device: str) -> None:
    said, log = _logged(tmp_path, "before\n", device.format(tmp_path / "console.log"))
    assert (said.path, said.start) == (str(log), len("before\n"))
    with log.open("a") as stream:
        stream.write("after\n\n  \nlast\n")
    assert said.lines == ["after", "last"]


@pytest.mark.parametrize("device", ["<serial type='pty'/>", "<serial type='unix'><source path='/a/socket'/></serial>"])
def test_what_is_written_to_no_file_is_no_log(tmp_path: Path, device: str) -> None:
    said = console(inhabited(tmp_path, Inside(), VDA, device))
    assert (said.path, said.start, said.lines, said.dead_end) == (None, 0, [], None)


def test_a_log_that_is_gone_says_nothing(tmp_path: Path) -> None:
    said, log = _logged(tmp_path, "before\n")
    log.unlink()
    assert (said.lines, said.dead_end) == ([], None)
    assert str(log) in said.tail


def test_only_the_end_of_a_flood_is_read(tmp_path: Path) -> None:
    said, log = _logged(tmp_path, "old\n")
    log.write_text("Kernel panic - not syncing: long ago\n" + "x\n" * 40_000 + "end\n")
    assert said.dead_end is None
    assert said.lines[-1] == "end"
    assert sum(len(line) + 1 for line in said.lines) == 65_536


def test_bytes_that_are_no_text_are_replaced(tmp_path: Path) -> None:
    said, log = _logged(tmp_path)
    log.write_bytes(b"a\xff\xfeb\n")
    assert said.lines == ["a\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}b"]


def test_the_tail_has_the_last_lines_cut_to_a_width(tmp_path: Path) -> None:
    said, log = _logged(tmp_path)
    log.write_text("".join(f"{number} {'w' * 500}\n" for number in range(1, 31)))
    first, heading, *lines = said.tail.split("\n")
    assert first == ""
    assert "console" in heading
    assert [line.partition(" ")[0] for line in lines] == [str(number) for number in range(19, 31)]
    assert {len(line) for line in lines} == {200}


@pytest.mark.parametrize(
    ("line", "is_dead"),
    [
        ("[    1.2] Kernel panic - not syncing: VFS", True),
        ("ALERT!  UUID=x does not exist.  Dropping to a shell!", True),
        ("You are in emergency mode. After logging in, type journalctl", True),
        ("Entering emergency mode. Exit the shell to continue.", True),
        ("Give root password for maintenance", True),
        ("[    1.2] Kernel panic is what this parameter is for", False),
        ("web login:", False),
    ],
)
def test_a_line_after_which_a_boot_does_not_go_on(tmp_path: Path, line: str, *, is_dead: bool) -> None:
    said, log = _logged(tmp_path)
    log.write_text(f"first\n  {line}{' ' * 300}\nlast\n")
    assert said.dead_end == (line if is_dead else None)


def test_the_line_of_a_dead_end_is_no_longer_than_others(tmp_path: Path) -> None:
    said, log = _logged(tmp_path)
    log.write_text("Kernel panic - not syncing: " + "x" * 60_000)
    assert len(said.dead_end or "") == 200
