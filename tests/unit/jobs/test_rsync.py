"""rsync's command line: the options that hold, the paths, and the rules that leave files out."""

from __future__ import annotations

from pathlib import Path

import pytest

from reclaim.base.verdict import Verdict
from tests.jobs import job, judged, rsync

__all__ = ["rsync"]


@pytest.mark.parametrize(
    ("rules", "source"),
    [
        ("--exclude=/srv/images", "/"),
        ("--exclude /srv/images/", "/"),
        ("--exclude='*.qcow2'", "/srv/images"),
        ("--exclude=images/**", "/srv/"),
        ("--exclude=/images", "/srv/"),
        ("--exclude=/srv/images", "/srv"),
        ("-aR --exclude=/srv/im?ges/***", "/srv"),
        ("-f '- images/*'", "/srv"),
        ("--filter='exclude images'", "/srv"),
        ('--exclude={"/dev/*","/srv/*"}', "/"),
        ("--include=/srv/ --exclude='/s*/images' --exclude-from=/etc/rules", "/"),
    ],
)
def test_images_that_rules_leave_out_are_not_copied(tmp_path: Path, rules: str, source: str) -> None:
    _, one = job(tmp_path, f"#!/bin/bash\nrsync -a {rules} {source} /b\n", "backup.sh")
    assert "no command in it copies a guest's image" in judged(one).reason


@pytest.mark.parametrize(
    ("rules", "source"),
    [
        ("--exclude=/images", "/"),
        ("--exclude=/srv/images", "/srv/"),
        ("--exclude=images/", "/srv/images/"),
        ("--exclude=web.qcow2/", "/srv/images"),
        ("--exclude='/*.qcow2'", "/srv"),
        ("--include=images --include=web.qcow2 --exclude='*'", "/srv/"),
    ],
)
def test_images_that_rules_do_not_leave_out_are_copied(tmp_path: Path, rules: str, source: str) -> None:
    _, one = job(tmp_path, f"#!/bin/bash\nrsync -a {rules} {source} /b\n", "backup.sh")
    assert judged(one).verdict is Verdict.NONCOMPLIANT


@pytest.mark.parametrize("rules", ["--exclude-from=/etc/rules", "-F", "-f '. /etc/rules'", "--exclude='[w]eb*'"])
def test_rules_that_cannot_be_read_are_told(tmp_path: Path, rules: str) -> None:
    _, one = job(tmp_path, f"#!/bin/bash\nrsync -a {rules} / /b\n", "backup.sh")
    assert judged(one).verdict is Verdict.NOT_ASSESSABLE
    assert "line 2: rsync: whether its filter rules leave out the images is not judged" in judged(one).reason


def test_an_option_of_a_bundle_or_after_the_paths_counts(tmp_path: Path) -> None:
    _, one = job(tmp_path, "#!/bin/sh\nrsync -vaSe 'ssh -S x' /srv/images/ /b\n", "backup.sh")
    assert judged(one).verdict is Verdict.COMPLIANT
    _, one = job(tmp_path, "#!/bin/sh\nrsync -a -e S /srv/images/ /b\n", "backup.sh")
    assert judged(one).verdict is Verdict.NONCOMPLIANT
    _, one = job(tmp_path, "#!/bin/sh\nrsync -a /srv/images/ /b --sparse\n", "backup.sh")
    assert judged(one).verdict is Verdict.COMPLIANT
