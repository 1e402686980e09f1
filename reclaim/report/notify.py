"""`--notify COMMAND`: a program of the user's that runs if something newly broke or was mended since the run before."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator

from reclaim.base.errors import ReclaimError
from reclaim.base.text import last_words, printable, trouble
from reclaim.engine.part import Part
from reclaim.processes import child
from reclaim.record import results, runs
from reclaim.record.record import Record
from reclaim.report import compare, page
from reclaim.report.compare import Comparison

#: seconds that the command has
SECONDS = 60
#: bytes of its output that are read
_MOST = 1024 * 1024


def expected(text: str) -> list[str]:
    """Return the words of the command *text*, without a shell. Raises ReclaimError if it cannot be run."""
    try:
        words = shlex.split(text)
    except ValueError as exc:
        raise ReclaimError(f"--notify {text}: {exc}") from exc
    if not words:
        raise ReclaimError("--notify: give a command")
    if shutil.which(words[0]) is None:
        raise ReclaimError(
            f"--notify {words[0]}: there is no such program, or it cannot be executed"
        )
    return words


def notify(words: list[str], part: Part) -> str:
    """Run the command *words* if the run of *part* found a change since the run before. Return its trouble, or ""."""
    if part.found is None:
        return ""
    earlier = list(_earlier(part, part.found))
    if not earlier:
        return ""  # the first run: there is nothing to compare it with
    comparison = compare.compare(earlier, part.found)
    if not comparison.broken and not comparison.mended:
        return ""
    text = _text(part, part.found, comparison)
    why = _run(words, text, _environment(part, part.found, comparison))
    return f"--notify {printable(words[0])}: {why}" if why else ""


def _earlier(part: Part, now: Record) -> Iterator[Record]:
    """Yield the runs before, the newest first, up to one that judged everything."""
    for past in runs.earlier(part.folder, now.hypervisor.uri):
        yield past
        if not compare.is_narrow(past):
            return


def _text(part: Part, now: Record, comparison: Comparison) -> str:
    """Return the comparison as the command reads it."""
    heading = (
        f"reclaim {now.run.mode} of {printable(now.hypervisor.name)}: "
        f"{len(comparison.broken)} newly broken, {len(comparison.mended)} newly mended"
    )
    lines = [heading, "", *compare.lines(comparison)]
    if report := _report(part):
        lines += ["", f"report: {printable(report)}"]
    return "".join(f"{line}\n" for line in lines)


def _report(part: Part) -> str:
    path = part.folder.absolute() / page.NAME
    return str(path) if part.is_written and path.is_file() else ""


def _environment(part: Part, now: Record, comparison: Comparison) -> dict[str, str]:
    results_file = part.folder.absolute() / results.NAME
    fields = {
        "HOST": now.hypervisor.name,
        "URI": now.hypervisor.uri,
        "RUN": now.run.id,
        "MODE": now.run.mode,
        "BROKEN": str(len(comparison.broken)),
        "MENDED": str(len(comparison.mended)),
        "REPORT": _report(part),
        "RESULTS": str(results_file) if part.is_written else "",
    }
    ours = {f"RECLAIM_{name}": printable(value) for name, value in fields.items()}
    return {**os.environ, **ours}


def _run(words: list[str], text: str, environment: dict[str, str]) -> str:
    """Run *words* with *text* to read. Return why that failed, or ""."""
    # a file in memory: there may be no room on a disk, and the command may not read at all
    with os.fdopen(os.memfd_create("comparison"), "w+b") as stdin:
        stdin.write(text.encode("utf-8", "backslashreplace"))
        stdin.seek(0)
        try:
            status, stdout, stderr = child.run_limited(
                words, SECONDS, _MOST, stdin=stdin, environment=environment
            )
        except TimeoutError:
            return f"it took longer than {SECONDS} seconds, and was ended"
        except OverflowError:
            return f"it printed more than {_MOST} bytes, and was ended"
        except OSError as exc:
            return trouble(exc)
    if status == 0:
        return ""
    printed = (
        output.decode("utf-8", "backslashreplace") for output in (stderr, stdout)
    )
    return f"status {status}: {last_words(*printed)}"
