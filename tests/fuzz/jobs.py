"""Backup jobs as inputs: the five formats that a job comes in."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from reclaim.backups import job as jobs
from reclaim.backups import job_files
from reclaim.base.errors import NotAssessable, ReclaimError

JOB_SEEDS = (
    b"#!/bin/bash\nset -e\nSRC=/var/lib/libvirt/images/\nOPTS=(-a --delete)\nfor i in 1 2; do\n"
    b' nice -n 19 rsync "${OPTS[@]}" "$SRC" /backup/$i/\ndone\nsudo sh -c \'rsync -aS /var/lib/libvirt/images/ b:/x\'\n'
    b"cp -a --sparse=never a b\ntar czf x.tgz /var/lib/libvirt/images\ndd if=/dev/x of=y bs=1M\ncat <<EOF\nrsync\nEOF\n",
    b"SHELL=/bin/sh\n17 3 * * * root rsync -a --inplace /var/lib/libvirt/images/ /backup/ >/dev/null 2>&1\n"
    b"@daily root test -x x && rsync a b % stdin\n",
    b"1 5 cron.daily nice run-parts /etc/cron.daily\n7 10 backup rsync -a /a /b\n",
    b'[Unit]\n[Service]\nType=oneshot\nEnvironment=A=1 "B=x y"\nExecStartPre=-/bin/true\n'
    b"ExecStart=@/usr/bin/rsync rsync -a ${A} \\\n # c\n $B /var/lib/libvirt/images/ /b/ ; /bin/sh -c 'rsync -a /x /y'\n",
    b"config_version\t1.2\nsnapshot_root\t/b/\ncmd_rsync\t/usr/bin/rsync\nrsync_long_args\t--delete --sparse\n"
    b"backup\t/var/lib/libvirt/images/\tl/\t+rsync_long_args=--inplace\nexclude\t*.iso\n",
)
_HOME = "reclaim.jobs" if importlib.util.find_spec("reclaim.jobs") else "reclaim"
rsync: Any = importlib.import_module(f"{_HOME}.rsync")
_PATHS = ("/etc/cron.d/b", "/etc/crontab", "/etc/anacrontab", "/x/b.service", "/etc/rsnapshot.conf", "/x/b.sh", "/x/y")
_IMAGE = "/var/lib/libvirt/images/a.qcow2"


def job(data: bytes) -> None:
    """The same text in a file of each kind."""
    for path in _PATHS:
        job_files.format_of(path, data)
        _holds(job_files.read(path, data), len(data))


def _holds(script: Any, size: int) -> None:
    for call in script.calls:
        for word in call.words:
            if word.start is not None and word.end is not None:
                assert 0 <= word.start <= word.end <= size, "a word outside of its file"
        assert call.insert is None or 0 <= call.insert <= size, "an option would be added outside of the file"
        if call.name == "rsync":
            _read(rsync.read(call.words))


def _read(line: Any) -> None:
    _ = line.paths, line.target, line.is_local, line.doubtful, line.keeps_unchanged_blocks
    for source in line.sources:
        line.leaves_out(source.text, _IMAGE)


def rsync_line(text: str) -> None:
    _read(rsync.read(tuple(rsync.Word(word) for word in text.split(" "))))


def rsync_version(text: str) -> None:
    rsync.version(text)


@dataclass(eq=False)
class _Given(jobs.Job):
    """A job whose text is given, on a hypervisor whose rsync is a modern one."""

    text: bytes = b""

    def source(self) -> bytes:
        return self.text


def mended(owner: Any, data: bytes) -> None:
    """What a mend adds is added once; nothing but options comes or goes."""
    for path in _PATHS:
        try:
            findings = _Given(owner, path, (), data).assess().findings
            once = jobs.edited(data, findings)
            left = _Given(owner, path, (), once).assess().findings
        except (ReclaimError, NotAssessable):
            continue
        assert jobs.edited(once, left) == once, f"{path}: mending twice is not mending once"
        more = len(once.splitlines()) - len(data.splitlines())
        assert more == 0 or (more == 1 and b"\t" in once), f"{path}: a line came or went"  # of rsnapshot.conf


def owner_of(hypervisor: Any) -> Any:
    """*hypervisor* with a shell that runs nothing."""
    answer = SimpleNamespace(rc=0, stdout="rsync  version 3.4.1  protocol version 31\n", stderr="")
    hypervisor.shell = SimpleNamespace(run=lambda *_more, **_named: answer, backend=SimpleNamespace(NAME="local"))
    return hypervisor
