"""Shell scripts, read command by command: functions, loops, choices, scripts that they start."""

from __future__ import annotations

from pathlib import Path

import pytest

from reclaim.base.verdict import Verdict
from reclaim.engine.engine import Subject
from tests.jobs import IMAGES, declared_job, judged, rsync, says_version
from tests.support import engine, requirement

__all__ = ["rsync"]


def test_a_script_that_cron_starts_is_read_and_not_edited(tmp_path: Path, rsync: Path) -> None:
    says_version(rsync, "3.4.1")
    script = tmp_path / "copy-images"
    script.write_text(f'#!/bin/bash\n. {tmp_path}/settings\nrsync -a "$FROM/" "$1/"\n')
    (tmp_path / "settings").write_text(f"FROM={IMAGES}\n")
    one = declared_job(tmp_path, "cron.d/copies", text=f"0 3 * * * root {script} /backup\n")
    result = engine(one.hypervisor, tmp_path).run(requirement("backup-job"), Subject(one.hypervisor, job=one))
    assert result.verdict is Verdict.NONCOMPLIANT
    assert f"{script} line 3: rsync without --sparse" in result.reason
    assert result.changes == []
    assert "--sparse" not in script.read_text()


def test_scripts_that_run_one_another_come_to_an_end(tmp_path: Path, rsync: Path) -> None:
    says_version(rsync, "3.4.1")
    first, second = tmp_path / "first.sh", tmp_path / "second.sh"
    first.write_text(f"#!/bin/sh\n{second}\n")
    second.write_text(f"#!/bin/sh\n{first}\n")
    one = declared_job(tmp_path, "job.sh", text=f"#!/bin/sh\n{first}\n")
    found = judged(one)
    assert found.verdict is Verdict.NOT_ASSESSABLE
    assert "run one another too deep" in found.reason


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "(" * 100_000 + ")" * 100_000,
        "echo " + "$(" * 30_000 + ")" * 30_000,
        "a && " * 50_000 + "b\n",
        "x=aaaaaaaaaaaaaaaa\n" + "x=$x$x\n" * 10_000,
        "a=(" + "w " * 500 + ")\n" + 'cp "${a[@]}" /b\n' * 3000,
        "".join(f"for v{n} in {'w ' * 40}; do " for n in range(8)) + "cp /a /b; " + "done; " * 8,
        "".join(f"f{n}() {{ f{n + 1}; f{n + 1}; }}\n" for n in range(500)) + "f0\n",
        "f() { f; }\nf\n",
        'rsync() { command rsync "$@"; }\nrsync -a IMG/ /b\n',
        "cp /" + "*a" * 5000 + " /b\n",
        "cp /v$a/$b/$c/$d/$e/$f/$g/i /b\n" * 500,
        "for x in a; do\n" + "b && continue\ncp /x /y\n" * 5000 + "done\n",
        "\n" * 200_000,
        "if\n" + "!(a)" * 2000,
        "\U000f0000\U000f0001 -a \ufffd\n",
        "trap 'trap \"x\" EXIT' EXIT\neval 'eval \"eval a\"'\nset --\nshift 99999\n. \n$\n`\n",
        "rsync\ncp\ntar\ndd\nvirsh\nlvcreate -s\nbtrfs send\nmount\nmv\nssh\nfind -exec\nxargs\n",
        "screen\nsu -c\nborg create\n",
        "rsync --exclude\nrsync -e\ntar -f\ntar c -C\nvirsh --domain\nvirsh -c\ndd if\nqemu-img convert\n",
        "cp -t\nssh -p\n",
    ],
)  # fmt: skip
def test_odd_texts_are_read_to_an_end(tmp_path: Path, rsync: Path, text: str) -> None:
    says_version(rsync, "3.4.1")
    one = declared_job(tmp_path, "job.sh", text="#!/bin/bash\n" + text.replace("IMG", IMAGES))
    assert judged(one).verdict in (Verdict.NOT_ASSESSABLE, Verdict.NONCOMPLIANT)
