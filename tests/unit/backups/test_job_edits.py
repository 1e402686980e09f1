"""Every form of edit that backup-job makes, run: the edited job copies a small image three times, and bit by bit.

The image's zeros move from run to run. It is tried with each rsync that Debian's suites have here.
"""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest

from reclaim.backups.job import declared
from reclaim.engine.engine import Subject
from reclaim.inventory import BackupNotes
from reclaim.jobs import rsync
from tests import rsyncs
from tests.support import disk_xml, domain_xml, engine, opened, requirement

MIB = 1024 * 1024
SIZE = 8 * MIB
#: name -> (the job, with IMG for the image, FROM for its folder, TO for the copy's; does the target keep snapshots?)
FORMS: dict[str, tuple[str, bool]] = {
    "plain": ("rsync -a IMG TO/\n", False),
    "folder": ("rsync -a --delete FROM/ TO/\n", False),
    "options in a variable": ('how="-a --delete"\nrsync $how FROM/ TO/\n', False),
    "options in an array": ('how=(-a)\nhow+=(--delete)\nrsync "${how[@]}" FROM/ TO/\n', False),
    "function": ('copy() {\n  rsync -a "$1" "$2"\n}\ncopy FROM/ TO/\n', False),
    "loop": ("for f in FROM/*.img; do\n  rsync -a $f TO/\ndone\n", False),
    "find": ("find FROM -name '*.img' -exec rsync -a {} TO/ \\;\n", False),
    "xargs": ("find FROM -name '*.img' -print0 | xargs -0 -I{} rsync -a {} TO/\n", False),
    "shell in a shell": ("sh -c 'rsync -a IMG TO/'\n", False),
    "over lines": ("rsync -a \\\n  --delete \\\n  FROM/ \\\n  TO/\n", False),
    "at a line's begin": ("rsync -a \\\n--delete \\\nFROM/ TO/\n", False),
    "no-sparse": ("rsync -a --no-sparse IMG TO/\n", False),
    "no-sparse alone on its line": ("rsync -a \\\n--no-sparse \\\nIMG TO/\n", False),
    "preallocate": ("rsync -a --preallocate IMG TO/\n", False),
    "preallocate and sparse": ("rsync -aS --preallocate IMG TO/\n", False),
    "preallocate last": ("rsync -a IMG TO/ --preallocate\n", False),
    "inplace": ("rsync -a --inplace IMG TO/\n", False),
    "inplace and sparse": ("rsync -aS --inplace IMG TO/\n", False),
    "inplace with blocks kept": ("rsync -a --inplace --no-whole-file IMG TO/\n", False),
    "inplace in a variable": ('how="-a --inplace --no-whole-file"\nrsync $how IMG TO/\n', False),
    "snapshots": ("rsync -a IMG TO/\n", True),
    "snapshots and sparse": ("rsync -aS IMG TO/\n", True),
    "snapshots and whole files": ("rsync -aS --inplace --whole-file IMG TO/\n", True),
    "snapshots and blocks kept": ("rsync -a --inplace --no-whole-file IMG TO/\n", True),
    "links to the last": ("rsync -a --link-dest=TO/../last IMG TO/\n", False),
}


@pytest.fixture(
    scope="module", params=("this machine's", *(pytest.param(suite, marks=pytest.mark.long) for suite in rsyncs.SUITES))
)
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An rsync, in a folder of its own that comes first in PATH."""
    if request.param == "this machine's":
        return Path("/usr/bin/rsync")
    try:
        return rsyncs.fetch(request.param, tmp_path_factory.mktemp(request.param))
    except rsyncs.NotHere as exc:
        pytest.skip(f"rsync of {request.param}: {exc}")


def image(path: Path, turn: int) -> None:
    """Data and zeros at other places each time: blocks that end in zeros, a hole at the end."""
    rng = random.Random(turn)
    with path.open("wb") as stream:
        stream.truncate(SIZE)
        for place in range(0, SIZE - MIB, MIB // 2):
            if rng.random() < 0.5:
                stream.seek(place)
                stream.write(rng.randbytes(rng.choice((700, 4096, 65_537, MIB // 2))))
        if turn == 1:
            stream.seek(SIZE - MIB)
            stream.write(bytes([turn]) * MIB)  # gone in the next turn
    os.utime(path, (turn * 86_400, turn * 86_400))


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_an_edited_job_copies_bit_by_bit(
    form: str, program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/sbin:/usr/bin:/sbin:/bin")
    source, target = tmp_path / "images", tmp_path / "copies"
    source.mkdir()
    target.mkdir()
    (tmp_path / "last").mkdir()
    original = source / "guest.img"
    text, snapshots = FORMS[form]
    text = text.replace("IMG", str(original)).replace("FROM", str(source)).replace("TO", str(target))
    job = tmp_path / "job.sh"
    job.write_text(f"#!/bin/bash\nset -e\n{text}")
    image(original, 0)
    subprocess.run(["bash", str(job)], check=True)

    owner = opened(tmp_path, domain_xml(disk_xml(source=str(original)), running=False))
    (one,) = declared(owner, [BackupNotes(job=job, snapshots=snapshots)])
    engine(owner, tmp_path).run(requirement("backup-job"), Subject(owner, job=one))

    for turn in (1, 2, 3):
        image(original, turn)
        subprocess.run(["bash", str(job)], check=True)
        assert (target / "guest.img").read_bytes() == original.read_bytes(), job.read_text()
    edited = job.read_text()
    if "--sparse" in edited and "--inplace" not in edited:
        assert (target / "guest.img").stat().st_blocks <= original.stat().st_blocks + 64


def test_half_a_mend_is_seen_by_these_images(program: Path, tmp_path: Path) -> None:
    """--sparse beside an --inplace that stays, before rsync 3.3.0: else the tests above show nothing."""
    told = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=True).stdout
    version = rsync.version(told)
    assert version is not None
    if version >= rsync.SAFE:
        pytest.skip(f"rsync {version} is mended")
    original, copy = tmp_path / "guest.img", tmp_path / "copies"
    copy.mkdir()
    options = ["-a", "--sparse", "--inplace", "--no-whole-file"]
    differs = False
    for turn in range(4):
        image(original, turn)
        subprocess.run([str(program), *options, str(original), str(copy)], check=True)
        differs = differs or (copy / "guest.img").read_bytes() != original.read_bytes()
    assert differs
