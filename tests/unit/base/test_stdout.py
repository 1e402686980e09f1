"""Standard output for one document, in a process of its own for each case."""

from __future__ import annotations

import subprocess
import sys

import pytest

_BEGIN = "import os, subprocess, sys; from reclaim.base import stdout; print('before'); stdout.reserve(); "


def ran(code: str, shell: str = '"$@"') -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", _BEGIN + code]
    return subprocess.run(
        ["/bin/bash", "-c", shell, "bash", *words], capture_output=True, text=True, timeout=60, check=False
    )


def test_only_the_document_is_there() -> None:
    done = ran(
        "print('python'); os.write(1, b'descriptor\\n'); subprocess.run(['echo', 'program']); stdout.reserve(); "
        "stdout.write('é\\n'); print('after')"
    )
    assert done.stdout == "before\né\n"
    assert sorted(done.stderr.split()) == ["after", "descriptor", "program", "python"]


def test_the_reader_need_not_wait_for_programs_that_go_on() -> None:
    done = ran("subprocess.Popen(['sleep', '1000']); stdout.write('x')", '"$@" 2>/dev/null | cat')
    assert done.stdout == "before\nx"


def test_a_closed_standard_error_is_nowhere() -> None:
    assert ran("print('lost'); stdout.write('x')", '"$@" 2>&-').stdout == "before\nx"


@pytest.mark.parametrize(("shell", "status"), [('"$@" | true; exit ${PIPESTATUS[0]}', 0), ('"$@" >/dev/full', 1)])
def test_a_reader_that_is_gone_is_no_trouble_and_a_full_disk_is(shell: str, status: int) -> None:
    code = "stdout.write('x' * 1_000_000)"
    words = [sys.executable, "-c", _BEGIN.replace("print('before'); ", "") + code]
    done = subprocess.run(["/bin/bash", "-c", shell, "bash", *words], capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert ("No space left" in done.stderr) == bool(status)
    assert "BrokenPipe" not in done.stderr
