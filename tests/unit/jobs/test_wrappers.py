"""Commands that run another one, and which words are the other one."""

from __future__ import annotations

import pytest

from reclaim.jobs.words import Word
from reclaim.jobs.wrappers import unwrapped


def parts(text: str) -> tuple[str, bool]:
    """The command behind all that wraps it, and True if it goes on by itself."""
    words, detaches = unwrapped([Word(word) for word in text.split(" ")])
    return " ".join(word.text for word in words), detaches


@pytest.mark.parametrize(
    "before",
    [
        "sudo",
        "sudo -u root -H",
        "sudo -n --",
        "sudo --user=root",
        "/usr/bin/sudo",
        "nice -n 19 ionice -c 3",
        "nice -19",
        "A=1 B=2",
        "A+=1",
        "env -i A=1",
        "env -u B A=1",
        "time -f %e",
        "timeout -k 5 60",
        "flock -n /run/lock",
        "flock -w 5 /run/lock",
        "chrt -i 0",
        "taskset 0x1",
        "command",
        "exec -a name",
        "nohup setsid",
        "stdbuf -oL",
        "sshpass -p secret",
        "sudo env A=1 nice -n 5 ionice -c3 timeout 1h",
        "dotlockfile -r 5 /run/lock",
        "runuser -u backup --",
        "busybox",
    ],
)
def test_all_that_only_runs_a_command_is_taken_off(before: str) -> None:
    assert parts(f"{before} rsync -a -u /x /y") == ("rsync -a -u /x /y", False)


@pytest.mark.parametrize(
    ("text", "detaches"),
    [
        ("systemd-run rsync -a /x /y", True),
        ("systemd-run --unit backup --on-calendar daily rsync -a /x /y", True),
        ("systemd-run --scope rsync -a /x /y", False),
        ("systemd-run --wait --unit=x rsync -a /x /y", False),
        ("systemd-run -P rsync -a /x /y", False),
        ("systemd-run -t rsync -a /x /y", False),
        ("coproc rsync -a /x /y", True),
        ("sudo systemd-run nice rsync -a /x /y", True),
        ("systemd-run systemd-run --scope rsync -a /x /y", True),
    ],
)
def test_a_command_that_goes_on_by_itself_is_told_unless_it_is_waited_for(text: str, *, detaches: bool) -> None:
    assert parts(text) == ("rsync -a /x /y", detaches)


@pytest.mark.parametrize(
    "text",
    [
        "rsync -a /x /y",
        "command -v rsync",
        "command -V rsync",
        "runuser backup -c script",
        "./sudoers",
        "a/b=c",
        "=x",
    ],
)
def test_a_command_of_its_own_stays(text: str) -> None:
    assert parts(text) == (text, False)


@pytest.mark.parametrize("text", ["A=1", "A=1 B=2", "sudo A=1"])
def test_assignments_alone_are_no_command(text: str) -> None:
    assert parts(text)[0] == ""


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("sudo", "sudo"),
        ("sudo -u root", "sudo"),
        ("timeout 60", "timeout"),
        ("flock", "flock"),
        ("systemd-run", "systemd-run"),
    ],
)
def test_a_wrapper_that_runs_nothing_stays(text: str, command: str) -> None:
    assert parts(text)[0] == command


@pytest.mark.parametrize(
    "text",
    [
        "env -C /b rsync -a /x .",
        "env --chdir=/b rsync -a /x .",
        "sudo -D /b rsync -a /x .",
        "sudo --chdir /b rsync -a /x .",
    ],
)
def test_a_command_that_runs_in_another_folder_is_not_known(text: str) -> None:
    assert parts(text) == ("unknown-folder rsync -a /x .", False)


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("flock /run/lock -c script", "sh -c script"),
        ("flock /run/lock --command script", "sh -c script"),
        ("flock -n /run/lock rsync -a", "rsync -a"),
        ("flock -c /run/lock script", "sh -c script"),
        ("timeout 60 -c script", "-c script"),
    ],
)
def test_flock_takes_a_script_behind_its_file(text: str, command: str) -> None:
    assert parts(text) == (command, False)


def test_wrappers_without_end_are_left_at_some_depth() -> None:
    words = [Word("sudo") for _ in range(30)] + [Word("rsync")]
    rest, _ = unwrapped(words)
    assert [word.text for word in rest] == ["sudo"] * 10 + ["rsync"]


def test_the_words_keep_their_places() -> None:
    word = Word("rsync", 5, 10)
    assert unwrapped([Word("sudo", 0, 4), word])[0] == [word]
