"""`make hosts`: the project's commands on a fresh machine with another release of Debian.

python -m lab.fresh [--suite bookworm|trixie|sid] [--set small|quick|full|guests|package|truth [--resume] [--only …]]
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from lab import paths, tools
from lab.error import LabError
from lab.fresh import machine, root
from lab.fresh.machine import Machine, Ran
from lab.fresh.settings import Settings, settings
from lab.sources import KEYRING

CHECKOUT = Path(__file__).parents[2]
#: where people who are root clone
CLONE = "/root/reclaim"
SUITES = ("trixie", "sid")
#: of the suite of this machine or an older one only the package is looked at
PACKAGED = ("bookworm", *SUITES)
STEP_SECONDS = 3600.0
#: for the step that takes a quarter of an hour on two idle cores: a busy machine makes an hour of it
LONG_SECONDS = 3 * STEP_SECONDS
MEBIBYTE = 1 << 20
_TOOLS = {"mmdebstrap": "mmdebstrap", "git": "git", "unshare": "util-linux"}
_SUMMARY = re.compile(r"=+ (\d+ [\w-]+(?:, \d+ [\w-]+)*) in [\d.]+s.*")


@dataclass(frozen=True)
class Step:
    """One command in the clone; `good` are the exit statuses that it may have.

    `seconds` is its limit; `brings` are the files of the clone that are copied into the checkout if it writes them.
    """

    name: str
    command: str
    good: tuple[int, ...] = (0,)
    seconds: float = STEP_SECONDS
    brings: tuple[str, ...] = ()


_PYTEST = ".venv/bin/python -m pytest -rs"
_README = (
    # its status is 1 for findings, which the sample definitions have
    Step("make audit", "make audit", (0, 1)),
    Step("set-up", "scripts/setup.sh test"),
)
_PACKAGE = Step("Debian package", "sh -eu lab/fresh/package.sh")
SMALL = (
    *_README,
    Step("quick", "make quick"),
    Step("old definitions", f"{_PYTEST} tests/corpus/test_other_qemu.py"),
)
_TESTS = (
    *_README,
    Step(
        "unit and driver",
        f"{_PYTEST} -n auto tests/unit tests/driver",
        seconds=LONG_SECONDS,
    ),
    Step("corpus", f"{_PYTEST} tests/corpus"),
)
_GUESTS = Step(
    "real guests",
    # else the guest that was moved is left out, since it takes minutes
    f"RECLAIM_GUESTS=all {_PYTEST} tests/guest/test_road.py tests/guest/test_moved.py",
)
#: the package comes last: it removes what the build alone needs
SETS = {
    "package": (_PACKAGE,),
    "small": SMALL,
    "quick": (*_TESTS, _PACKAGE),
    "guests": (_README[1], _GUESTS),
    "full": (*_TESTS, _GUESTS, _PACKAGE),
}
TRUTH = "truth"
TRUTH_SECONDS = 12 * 3600.0
#: the page of the truth matrix of each suite
PAGES = {"trixie": "docs/truth-qemu10.md", "sid": "docs/truth-sid.md"}
#: where the guests that are done outlive the machine: in the lab's cache, which is kept
_PROGRESS = "/var/lib/reclaim-lab/cache/truth.json"


def truth(suite: str, options: Sequence[str] = ()) -> tuple[Step, ...]:
    """Return the steps that write the truth matrix of a suite, with more `options` for `lab.truth`."""
    page = PAGES[suite]
    by = "make hosts ARGS='--set truth'"
    if suite != SUITES[0]:
        by = f"make hosts SUITE={suite} ARGS='--set truth'"
    argv = [".venv/bin/python", "-m", "lab.truth", "--write", page, "--by", by]
    argv += ["--progress", _PROGRESS, *options]
    step = Step(
        "the truth matrix",
        shlex.join(argv),
        seconds=TRUTH_SECONDS,
        brings=(page, str(Path(page).with_suffix(".json"))),
    )
    return _README[1], step


class Stopped(BaseException):
    """A signal asked for the end."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


def main() -> int:
    """Do what the arguments ask for; return the exit status."""
    parser = _parser()
    arguments = parser.parse_args()
    if arguments.suite not in SUITES and arguments.set != "package":
        parser.error(f"--suite {arguments.suite} goes with --set package")
    if arguments.set != TRUTH and (arguments.resume or arguments.only):
        parser.error(f"--resume and --only go with --set {TRUTH}")
    if reason := _why_not():
        print(f"hosts: no fresh machine can be made here: {reason}", file=sys.stderr)
        return 1 if os.environ.get("CI") else 0
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    try:
        return _all(arguments.suite, _steps(arguments))
    except Stopped as stopped:
        print(f"hosts: {stopped}; the machine is removed", file=sys.stderr)
        return 128 + stopped.number
    except LabError as error:
        print(f"hosts: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    about = "Run the project's commands on a fresh machine with another Debian."
    parser = argparse.ArgumentParser(prog="python3 -m lab.fresh", description=about)
    parser.add_argument("--suite", default="trixie", choices=PACKAGED)
    parser.add_argument(
        "--set",
        default="quick",
        choices=[*SETS, TRUTH],
        help="small: make audit, make quick, and definitions of an older QEMU; "
        "quick: make audit, the tests of units, driver and corpus, and the Debian package; full: real guests too; "
        "guests: the real guests alone; package: build, install and remove the Debian package; "
        "truth: the truth matrix of that QEMU, into docs/ of this checkout; it takes hours",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="with the set truth: go on from the guests that an earlier run kept",
    )
    parser.add_argument(
        "--only",
        metavar="'MACHINE BUS [stores]'",
        help="with the set truth: one guest, for a try; no page is written",
    )
    return parser


def _steps(arguments: argparse.Namespace) -> tuple[Step, ...]:
    if arguments.set != TRUTH:
        return SETS[arguments.set]
    options = ["--resume"] if arguments.resume else []
    options += ["--only", arguments.only] if arguments.only else []
    return truth(arguments.suite, options)


def _why_not() -> str:
    if os.geteuid() != 0:
        return "not root"
    path = tools.environment()["PATH"]
    for tool, package in _TOOLS.items():
        if shutil.which(tool, path=path) is None:
            return f"{tool} is missing: install {package}"
    if not KEYRING.exists():
        return "Debian's archive keys are missing: install debian-archive-keyring"
    return machine.why_not_possible()


def _stop(number: int, _frame: FrameType | None) -> None:
    # a second signal must not end the removal half way
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    raise Stopped(number)


def _all(suite: str, steps: tuple[Step, ...]) -> int:
    log = paths.root() / f"fresh-{suite}.log"
    with root.place(suite) as folder:
        log.write_bytes(b"")
        print(f"hosts: Debian {suite}; everything is written to {log}", flush=True)
        found = settings()
        with _timed(f"a minimal root of {suite}"):
            packed = root.archive(suite, folder)
            root.unpack(packed, folder / "root", found)
        with _timed("clone"):
            head = root.clone(CHECKOUT, folder / "root" / CLONE.lstrip("/"))
        print(f"hosts: it has {head}, the HEAD of {CHECKOUT}", flush=True)
        fresh = Machine(folder / "root", _environment(found), _kept(suite), log)
        failed = [step.name for step in steps if not _run(fresh, step)]
    if failed:
        print(f"hosts: {suite}: failed: {', '.join(failed)}; see {log}")
        return 1
    print(f"hosts: {suite}: all of it passed")
    return 0


def _environment(found: Settings) -> dict[str, str]:
    handed_on = {name: os.environ[name] for name in ("CI",) if os.environ.get(name)}
    return {**found.environment, **handed_on, "npm_config_cache": "/root/.cache/npm"}


def _kept(suite: str) -> dict[Path, str]:
    """Return the folders with what was downloaded: they save a second run the network."""
    kept = {}
    places = {
        "apt": "/var/cache/apt/archives",
        "home": "/root/.cache",
        "lab": "/var/lib/reclaim-lab/cache",
    }
    for name, place in places.items():
        folder = paths.cache() / f"fresh-{suite}-downloads" / name
        folder.mkdir(parents=True, exist_ok=True)
        kept[folder] = place
    return kept


def _run(fresh: Machine, step: Step) -> bool:
    start = fresh.log.stat().st_size
    began = time.monotonic()
    script = f"cd {CLONE} && {step.command}"
    clone = fresh.folder / CLONE.lstrip("/")
    before = _written(clone, step.brings)
    try:
        ran = fresh.run(["sh", "-c", script], step.seconds)
    except LabError as error:
        print(f"hosts: {step.name}: {error}", flush=True)
        return False
    bring(clone, before, CHECKOUT)
    passed = ran.status in step.good
    text = fresh.log.read_bytes()[start:].decode(errors="replace")
    verdict = "passed" if passed else f"FAILED (status {ran.status})"
    seconds = time.monotonic() - began
    print(
        f"hosts: {step.name}: {verdict}, {seconds:.0f} s{_more(text, ran)}", flush=True
    )
    if not passed:
        print(_why(text), flush=True)
    return passed


def _written(clone: Path, names: Iterable[str]) -> dict[str, int | None]:
    """Return when each file was written, in ns; None: it is not there."""
    found = {}
    for name in names:
        path = clone / name
        found[name] = path.stat().st_mtime_ns if path.is_file() else None
    return found


def bring(clone: Path, before: Mapping[str, int | None], checkout: Path) -> None:
    """Copy the files of `clone` that were written since `before` into the checkout."""
    for name, now in _written(clone, before).items():
        if now is not None and now != before[name]:
            shutil.copyfile(clone / name, checkout / name)
            print(f"hosts: {name} is written", flush=True)


def _more(text: str, ran: Ran) -> str:
    counts = _SUMMARY.search(tools.last_lines(text, 3))
    tests = f", {counts[1]}" if counts else ""
    most, left = ran.tmp_most // MEBIBYTE, ran.tmp_left // MEBIBYTE
    return f"{tests}; /tmp took {most} MiB at most, {left} MiB at the end"


def _why(text: str) -> str:
    """Return the tests that failed, or the last lines if none is named."""
    named = [
        line for line in text.splitlines() if line.startswith(("FAILED ", "ERROR "))
    ]
    return "\n".join(named[-40:]) or tools.last_lines(text, 20)


@contextmanager
def _timed(name: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    print(f"hosts: {name}: {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
