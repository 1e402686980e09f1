"""The files that backups are started from: their formats, and the commands in each."""

from __future__ import annotations

from pathlib import Path

import pytest

from reclaim.backups.job_files import beginning, format_of, read
from reclaim.jobs.calls import Script
from reclaim.jobs.words import UNKNOWN, shown
from tests.jobs import Scripts, job, judged, rsync

__all__ = ["rsync"]


def test_rsnapshot_s_cron_table_is_not_its_configuration(tmp_path: Path) -> None:
    text = "0 */4\t* * *\troot\t/usr/bin/rsnapshot alpha\n"
    _, one = job(tmp_path, text, "cron.d/rsnapshot")
    assert judged(one).reason.endswith(
        "line 1: it runs rsnapshot: declare its configuration, /etc/rsnapshot.conf, as the job"
    )


def test_rsnapshot_has_rules_of_its_own(tmp_path: Path) -> None:
    text = "snapshot_root\t/b/\nexclude\t/srv/images/\nbackup\t/\tlocalhost/\n"
    _, one = job(tmp_path, text, "rsnapshot.conf")
    assert "no command in it copies a guest's image" in judged(one).reason


def test_a_timer_says_when_and_not_what(tmp_path: Path) -> None:
    _, one = job(tmp_path, "[Timer]\nOnCalendar=daily\n", "backup.timer")
    assert "declare backup.service" in judged(one).reason


# Formats --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "source", "kind"),
    [
        ("/x/backup.timer", b"[Timer]\n", None),
        ("/x/backup.service", b"", "unit"),
        ("/x/backup", b"[Unit]\n[Service]\nExecStart=/x\n", "unit"),
        ("/x/backup", b"x [Service]\n", "shell"),
        ("/x/copy.py", b"import x\n", "other"),
        ("/x/copy", b"#!/usr/bin/perl\n", "other"),
        ("/x/copy", b"#!/bin/sh\n0 3 * * * x\n", "shell"),
        ("/etc/rsnapshot.conf", b"", "rsnapshot"),
        ("/etc/rsnapshot-weekly.conf", b"", "rsnapshot"),
        ("/etc/x", b"# x\nsnapshot_root\t/b/\n", "rsnapshot"),
        ("/etc/x", b"snapshot_root /b/\n", "shell"),
        ("/etc/cron.d/rsnapshot", b"0 3 * * * root rsnapshot daily\n", "crontab"),
        ("/etc/anacrontab", b"7 5 x true\n", "anacrontab"),
        ("/etc/borgmatic/config.yaml", b"x: 1\n", "other"),
        ("/etc/crontab", b"0 3 * * * root true\n", "crontab"),
        ("/etc/cron.d/x", b"A=b\n\n# x\n@daily root true\n", "crontab"),
        ("/var/spool/cron/crontabs/root", b"0 3 * * * true\n", "cron"),
        ("/var/spool/cron/root", b"0 3 * * * root /x\n", "cron"),
        ("/x/table", b"*/5 0-4,6 1 jan mon true\n", "cron"),
        ("/x/table", b"0 3 * * * root /usr/bin/true\n", "crontab"),
        ("/x/table", b"0 3 * * * root /x\n@weekly true\n", "cron"),
        ("/x/table", b"0 3 * * * root\n", "cron"),
        ("/x/table", b"0 3 * * * true\nrsync -a /x /y\n", "shell"),
        ("/x/table", b"@never true\n", "shell"),
        ("/x/table", b"# x\nA=b\n", "shell"),
        ("/x/table", b"", "shell"),
    ],
)
def test_the_format_of_a_file(path: str, source: bytes, kind: str | None) -> None:
    assert format_of(path, source) == kind


def in_file(path: str, source: str) -> Script:
    return read(path, source.encode("utf-8", errors="surrogateescape"))


def commands(path: str, source: str) -> list[tuple[int, str]]:
    """The line of each command and its words, all of which are understood."""
    script = in_file(path, source)
    assert script.unread == []
    return [(call.line, shown(" ".join(word.text for word in call.words))) for call in script.calls]


def marked(path: str, source: str) -> str:
    """The file with a + where new options of its only command would stand."""
    (call,) = in_file(path, source).calls
    assert call.insert is not None
    data = source.encode()
    return (data[: call.insert] + call.form.format("+").encode() + data[call.insert :]).decode()


# cron -----------------------------------------------------------------------------------------

CRONTAB, CRON = "/etc/cron.d/x", "/var/spool/cron/crontabs/root"


@pytest.mark.parametrize(
    ("path", "source", "lines"),
    [
        (CRONTAB, "0 3 * * * root a b\n", [(1, "a b")]),
        (CRONTAB, "# x\n\n@daily root a b\n  1 2 3 4 5  root  a; c\n", [(3, "a b"), (4, "a"), (4, "c")]),
        (CRON, "0 3 * * * a b\r\n@reboot c\n", [(1, "a b"), (2, "c")]),
        (CRON, "A=x y\nB='x y'\nC = \"z\"\n0 3 * * * a $A $B $C\n", [(4, "a x y x y z")]),
        (CRON, "A=x\n0 3 * * * a $A\nA=y\n0 3 * * * a $A\n", [(2, "a x"), (4, "a y")]),
        (CRON, "A=$HOME/x\n0 3 * * * a $A\n", [(2, "a $HOME/x")]),
        (CRON, 'A=\'x\n0 3 * * * a "$A"\n', [(2, "a 'x")]),
        (CRON, "0 3 * * * a b % c\n", [(1, "a b")]),
        (CRON, "0 3 * * * a b\\%F c % d % e\n", [(1, "a b_%F c")]),
        ("/etc/anacrontab", "SHELL=/bin/sh\nX=y\n7 15 name a $X\n@monthly 5 x c\n", [(3, "a y"), (4, "c")]),
    ],
)
def test_the_commands_of_a_cron_table(path: str, source: str, lines: list[tuple[int, str]]) -> None:
    assert commands(path, source) == lines


def test_lines_of_a_cron_table_run_by_themselves() -> None:
    first, second = in_file(CRON, "0 3 * * * cd /x; A=b; a\n0 4 * * * c $A\n").calls[-2:]
    assert (first.name, first.run, first.folder) == ("a", 1, "/x")
    assert (second.name, second.run, second.folder) == ("c", 2, UNKNOWN)
    assert not second.words[1].is_sure


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (CRONTAB, "0 3 * * * root rsync+ -a /x /y\n"),
        (CRON, "A=b\n0 3 * * * nice rsync+ -a /x /y % z\n"),
        (CRON, "0 3 * * * rsync+ -a /x /y/$(date +\\%F)\n".replace("$(date +\\%F)", "\\%F")),
        (CRON, "# ä\n0 3 * * * rsync+ -a /ä /y\n"),
        ("/etc/anacrontab", "7 15 name rsync+ -a /x /y\n"),
        ("/x/job.service", "[Service]\nExecStart=rsync+ -a /x /y\n"),
        ("/x/job.service", "[Service]\nExecStart = -/usr/bin/rsync+ -a \\\n  /x /y\n"),
        ("/x/job.service", "[Service]\nExecStart=@/usr/bin/rsync name+ -a /x /y\n"),
        ("/x/job.service", "[Service]\nExecStart=+@-:/usr/bin/rsync name+ -a /x /y\n"),
        ("/x/job.sh", "rsync+ -a /x /y\n"),
        ("/etc/rsnapshot.conf", "snapshot_root\t/b/\nrsync_long_args\t--delete+\nbackup\t/x/\tl/\n"),
        ("/etc/rsnapshot.conf", "rsync_long_args\t\t--a --b+\tc\nbackup\t/x/\tl/\n"),
        ("/etc/rsnapshot.conf", "rsync_long_args\t--a+   \nbackup\t/x/\tl/\n"),
    ],
)
def test_the_place_of_new_options(path: str, source: str) -> None:
    assert marked(path, source.replace("+ ", " ").replace("+\n", "\n").replace("+\t", "\t")) == source.replace(
        "+ ", " + "
    ).replace("+\n", " +\n").replace("+\t", " +\t")


@pytest.mark.parametrize(
    ("path", "source", "line"),
    [
        (CRONTAB, "0 3 * * * root\n", 1),
        (CRONTAB, "# x\n@daily root a\n@daily root\n", 3),
        ("/etc/anacrontab", "7 15 name a\nnonsense\n", 2),
        ("/etc/anacrontab", "7 x name a\n", 1),
    ],
)
def test_a_line_that_is_none_of_a_cron_table_is_told(path: str, source: str, line: int) -> None:
    (part,) = in_file(path, source).unread
    assert f"line {line} " in part.text


# Units ----------------------------------------------------------------------------------------


def unit(text: str) -> list[tuple[int, str]]:
    return commands("/x/job.service", f"[Service]\n{text}")


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("ExecStart=a b\n", [(2, "a b")]),
        ("ExecStart=a 'b c' \"d e\" f\\ g\n", [(2, "a b c d e f g")]),
        ("ExecStart=a \\\n  b \\\n# no\n; no\n  c\n", [(2, "a b c")]),
        ("ExecStart=a \\\n\n", [(2, "a")]),
        ("ExecStart=a ; b ; ; c\n", [(2, "a"), (2, "b"), (2, "c")]),
        ("ExecStart=a\nExecStart=b\n", [(2, "a"), (3, "b")]),
        ("ExecStart=a\nExecStart=\nExecStart=b\n", [(4, "b")]),
        ("ExecStop=d\nExecStartPost=c\nExecStart=b\nExecStartPre=a\nExecCondition=x\nExecStopPost=e\n",
         [(6, "x"), (5, "a"), (4, "b"), (3, "c"), (2, "d"), (7, "e")]),
        ('Environment=A=x "B=y z"\nExecStart=a $A ${A}1 $B ${B}\n', [(3, "a x x1 y z y z")]),
        ("Environment=A=x\nEnvironment=A=y\nExecStart=a $A\n", [(4, "a y")]),
        ("ExecStart=a $A ${A} $$A\n", [(2, "a … … $A")]),
        ("ExecStart=a %i %% %%H\n", [(2, "a … % %H")]),
        ("ExecStart=a \\x20 \\\\ \\' \\\"\n", [(2, "a …20 \\ ' \"")]),
        ("ExecStart=-a\nExecStart=@b c d\nExecStart=!!e\n", [(2, "a"), (3, "b d"), (4, "e")]),
        ("ExecStart=sh -c 'a; b'\n", [(2, "a"), (2, "b")]),
        ("[Install]\nExecStart=a\n", []),
        ("# ExecStart=a\n; ExecStart=a\n", []),
        ("ExecReload=a\nType=oneshot\n", []),
    ],
)  # fmt: skip
def test_the_commands_of_a_unit(text: str, lines: list[tuple[int, str]]) -> None:
    assert unit(text) == lines


def test_a_unit_has_a_folder_and_no_other_section_counts() -> None:
    (call,) = in_file(
        "/x/job.service", "[Unit]\nExecStart=x\n[Service]\nWorkingDirectory=/srv\nExecStart=cp a b\n"
    ).calls
    assert (call.line, call.folder) == (5, "/srv")
    (call,) = in_file("/x/job.service", "[Service]\nExecStart=cp a b\n").calls
    assert call.folder == UNKNOWN


def test_a_word_of_a_unit_that_is_not_closed_is_not_known() -> None:
    (call,) = in_file("/x/job.service", "[Service]\nExecStart=cp 'a b\n").calls
    assert [(word.text, word.splits) for word in call.words] == [("cp", False), (UNKNOWN, True)]


# rsnapshot ------------------------------------------------------------------------------------

RSNAPSHOT = "/etc/rsnapshot.conf"


def rsyncs(source: str) -> list[list[str]]:
    script = in_file(RSNAPSHOT, source)
    return [[word.text for word in call.words] for call in script.calls if "rsync" in call.name]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("snapshot_root\t/b/\nbackup\t/x/\tl/\n",
         ["rsync", "-a", "--delete", "--numeric-ids", "--relative", "--delete-excluded", "--link-dest=..", "/x/",
          f"/b/{UNKNOWN}/l/"]),
        ("cmd_rsync\t/opt/rsync\nrsync_short_args\t-aS\nrsync_long_args\t--delete\nbackup\t/x/\tl/\n",
         ["/opt/rsync", "-aS", "--delete", "--link-dest=..", "/x/", f"{UNKNOWN}/{UNKNOWN}/l/"]),
        ("rsync_long_args\t--a\nbackup\t/x/\tl/\t+rsync_long_args=--b\n",
         ["rsync", "-a", "--a", "--b", "--link-dest=..", "/x/", f"{UNKNOWN}/{UNKNOWN}/l/"]),
        ("rsync_long_args\t--a\nbackup\t/x/\tl/\trsync_long_args=--b,other=1\n",
         ["rsync", "--b", "--link-dest=..", "/x/", f"{UNKNOWN}/{UNKNOWN}/l/"]),
        ("rsync_long_args\t--a\nexclude\t*.iso\ninclude\tx\nexclude_file\t/e\ninclude_file\t/i\nbackup\t/x/\tl/\n",
         ["rsync", "-a", "--a", "--exclude=*.iso", "--include=x", "--exclude-from=/e", "--include-from=/i",
          "--link-dest=..", "/x/", f"{UNKNOWN}/{UNKNOWN}/l/"]),
    ],
)  # fmt: skip
def test_rsnapshot_runs_rsync_for_each_backup(source: str, words: list[str]) -> None:
    assert rsyncs(source) == [words]


def test_rsnapshot_has_a_place_for_options_of_all_its_backups() -> None:
    source = "snapshot_root\t/b/\nbackup\t/x/\tl/"
    (call,) = in_file(RSNAPSHOT, source).calls
    assert call.insert == len(source)
    assert call.form.startswith("\nrsync_long_args\t--delete ")
    (call,) = in_file(RSNAPSHOT, f"{source}\n").calls
    assert call.form.startswith("rsync_long_args\t")


def test_a_backup_that_does_not_hear_the_options_of_all_has_no_place() -> None:
    source = "rsync_long_args\t--a\nbackup\t/x/\tl/\trsync_long_args=--b\nbackup\t/y/\tl/\n"
    first, second = in_file(RSNAPSHOT, source).calls
    assert first.insert is None
    assert second.insert == source.index("\n")


def test_the_scripts_of_rsnapshot_run_around_its_backups() -> None:
    source = (
        "cmd_postexec\td\nbackup_exec\tc 1\nbackup_script\tb\tl/\ncmd_preexec\ta; aa\n"
        "rsync_long_args\t-S\nbackup\t/x/\tl/\n"
    )
    assert [(line, words.split()[0]) for line, words in commands(RSNAPSHOT, source)] == [
        (4, "a"),
        (4, "aa"),
        (6, "rsync"),
        (3, "b"),
        (2, "c"),
        (1, "d"),
    ]


@pytest.mark.parametrize(
    ("source", "words"),
    [("snapshot_root /b/\n", "line 1"), ("x\ty\ninclude_conf\t/etc/other.conf\n", "/etc/other.conf")],
)
def test_lines_of_rsnapshot_that_are_not_read_are_told(source: str, words: str) -> None:
    (part,) = in_file(RSNAPSHOT, source).unread
    assert words in part.text


def test_backups_of_rsnapshot_without_end_are_told() -> None:
    script = in_file(RSNAPSHOT, "backup\t/x/\tl/\n" * 3000)
    assert len(script.calls) < 1500
    (part,) = script.unread
    assert "line" in part.text


# Other files ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "source", "words"),
    [
        ("/x/backup.timer", "[Timer]\n", "backup.service"),
        ("/x/copy.py", "", "Python"),
        ("/x/copy", "#!/usr/bin/env ruby\n", "Ruby"),
        ("/x/other.toml", "x = 1\n", "other.toml"),
    ],
)
def test_a_file_that_is_no_job_is_told(path: str, source: str, words: str) -> None:
    script = in_file(path, source)
    assert script.calls == []
    assert words in script.unread[0].text


def test_a_configuration_has_its_commands_in_a_shell_of_their_own() -> None:
    source = "source_directories: [/x]\nbefore_backup: [cd /y, cp a b]\n"
    script = in_file("/etc/borgmatic.yaml", source)
    assert [(call.name, call.line, call.folder, call.insert) for call in script.calls] == [
        ("cp", 2, UNKNOWN, None),
        ("borg", 1, "", None),
    ]


def test_a_script_that_a_job_starts_is_read_from_the_files_that_are_given() -> None:
    script = read("/x/job.sh", b"/opt/copy.sh\n", Scripts({"/opt/copy.sh": "#!/bin/sh\ncp /x /y\n"}))
    assert [(call.name, call.file) for call in script.calls] == [("cp", "/opt/copy.sh")]
    assert read("/x/job.sh", b"/opt/copy.sh\n").calls == []


def test_a_job_does_not_read_itself() -> None:
    script = read("/x/job.sh", b"cp /x /y\n/x/job.sh\n", Scripts({"/x/job.sh": "#!/bin/sh\ncp /x /y\n"}))
    assert len(script.calls) == 1
    assert "/x/job.sh" in script.unread[0].text


# The place of a command before the others -----------------------------------------------------


@pytest.mark.parametrize(
    ("path", "source", "line"),
    [
        ("/x/job.sh", "#!/bin/sh\n^cp /x /y\n", 2),
        ("/x/job.sh", "#!/usr/bin/env bash\n^\ncp /x /y\n", 3),
        ("/x/job.sh", "#! /bin/bash -e\n^cp /x /y\n", 2),
        ("/x/job", "^cp /x /y\n", 1),
        (CRONTAB, "A=b\n0 3 * * * root ^cp /x /y\n0 4 * * * root true\n", 2),
        (CRON, "0 3 * * * true\n@daily ^cp /x /y\n", 2),
        ("/x/job.service", "[Service]\nType=oneshot\n^ExecStart=cp /x /y\n", 3),
        ("/x/job.service", "[Service]\nType = oneshot\r\n^ExecStartPre=true\nExecStart=cp /x /y\n", 4),
        ("/x/job.service", "[Service]\nType=oneshot\nExecStart=a\n^ExecStartPre=b\n", 3),
    ],
)
def test_a_command_may_stand_before_the_others(path: str, source: str, line: int) -> None:
    place = source.index("^")
    data = source.replace("^", "").encode()
    assert beginning(path, data, line) == (place, format_of(path, data))


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("/x/job.sh", "#!/bin/sh"),
        ("/x/job", "#!/opt/acme-shell\ncp /x /y\n"),
        ("/x/job.py", "import x\n"),
        ("/x/job.timer", "[Timer]\n"),
        ("/etc/anacrontab", "7 15 name cp /x /y\n"),
        (RSNAPSHOT, "backup\t/x/\tl/\n"),
        ("/x/job.service", "[Service]\nExecStart=cp /x /y\n"),
        ("/x/job.service", "[Service]\nType=simple\nExecStart=cp /x /y\n"),
        ("/x/job.service", "[Service]\nType=oneshot\nExecStartPre=\nExecStart=cp /x /y\n"),
        ("/x/job.service", "[Service]\nType=oneshot\n"),
        (CRON, "# x\n0 3 * * * cp /x /y\n"),
    ],
)
def test_some_files_have_no_such_place(path: str, source: str) -> None:
    assert beginning(path, source.encode(), 1) is None
