"""The files that backups are started from: their formats, and the commands in each."""

from __future__ import annotations

from pathlib import Path

from tests.jobs import job, judged, rsync

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
