"""Definitions: an audit of many guests, beside reading the same XML with other programs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path

import libvirt

from bench.definitions import FINDINGS, ROOT, audit, empty_tests, node
from bench.fleet import typical
from bench.page import Aim, Asked, Results, Topic
from bench.peers import __path__ as peers
from bench.rounds import Contender, Failed, Race, Taken, progress, race, ran
from tests.corpus import private

PEERS = Path(peers[0])
OURS = "reclaim audit --definitions-only"
RAW = "libvirt-python and lxml"
VIRTINST = "virt-xml's library"
LOOP = "virsh dumpxml, xmllint, in a loop"
PYTEST = "pytest, as many empty tests"
#: the most guests of the test driver that the loop is measured with
_LOOPED = 100
#: the most guests for the target beside pytest's empty tests
_PLAIN = 1000
#: of the distribution, which sees its packages
_SYSTEM_PYTHON = "/usr/bin/python3"
LINEAR, PLAIN = 1.2, 2.0

_WHY_NOT_PLAIN = (
    "The start, which the first table has, is a large share of it; "
    "beyond that, a verdict with its reason in three files costs more than pytest's own work for a test."
)

ABOUT = f"""\
Every definition is read and judged: `{OURS}` writes its report, results.json and all, for four requirements a guest \
or disk. The others read the same facts (machine type; bus and `discard` of each disk; models of SCSI controllers) and \
print them, without a verdict, a reason or a report: a script of libvirt-python and lxml, a script of virt-manager's \
library (Debian's virtinst, which virt-xml is built on), and a shell loop with one `virsh dumpxml` and one \
`xmllint --xpath` a guest. pytest by itself runs as many empty tests, without plugins. All are whole processes, start \
included; CPU is that of these processes, and not of a libvirtd. An answer is a verdict, or a value that is printed."""


def measure(asked: Asked) -> Results:
    sizes = (10, 100, 300) if asked.quick else (100, 1000, 10_000)
    real = 50 if asked.quick else 1000
    with tempfile.TemporaryDirectory(prefix="reclaim-bench-") as name:
        folder = Path(name)
        start = _started(folder, asked)
        races = [
            _on_the_test_driver(folder, guests, asked.rounds_or(3)) for guests in sizes
        ]
        real_one = _on_a_libvirtd(folder, real, asked.rounds_or(3))
    return Results(
        (start, *races, real_one), _aims(start, races, sizes), versions=_versions()
    )


def _started(folder: Path, asked: Asked) -> Race:
    """Measure one guest: that is the start."""
    return _on_the_test_driver(folder, 1, asked.rounds_or(5))


def _on_the_test_driver(folder: Path, guests: int, rounds: int) -> Race:
    fleet = folder / f"{guests}.xml"
    fleet.write_bytes(node(guests))
    contenders = _contenders(folder / f"of-{guests}", f"test://{fleet}", guests)
    if guests > _LOOPED:
        reason = (
            "each virsh would read the test driver's file of all guests anew, so the time would be that of the driver; "
            "a real libvirtd is below"
        )
        contenders[-1] = replace(contenders[-1], absent=reason)
    title = (
        f"{guests:,} guests of the test driver"
        if guests > 1
        else "The start: one guest of the test driver"
    )
    return race(title, contenders, rounds, baseline=RAW, by="cpu")


def _on_a_libvirtd(folder: Path, guests: int, rounds: int) -> Race:
    title = f"{guests:,} guests of a real libvirtd"
    try:
        with _libvirtd(folder / "daemon", guests) as uri:
            contenders = _contenders(folder / "of-libvirtd", uri, guests)
            return race(title, contenders, rounds, baseline=RAW, by="cpu")
    except (OSError, RuntimeError, libvirt.libvirtError) as problem:
        progress(f"{title}: {problem}")
        return Race(title, RAW, (), {"all": f"no libvirtd of its own: {problem}"})


@contextmanager
def _libvirtd(folder: Path, guests: int) -> Iterator[str]:
    """Run a libvirtd of its own, with typical guests; give its URI."""
    with private.libvirtd(folder) as uri:
        connection = libvirt.open(uri)
        for definition in typical(guests, "qemu"):
            connection.defineXML(definition)
        connection.close()
        yield uri


def _contenders(folder: Path, uri: str, guests: int) -> list[Contender]:
    numbers = count()

    def judge() -> Taken:
        reports = folder / f"reports-{next(numbers)}"
        taken = ran(
            *(sys.executable, "-m", "pytest", *audit(reports, uri)),
            cwd=ROOT,
            env={"PYTEST_ADDOPTS": ""},
            expected=(0, FINDINGS),
        )
        rows = _rows(reports)
        shutil.rmtree(reports)
        return _shared(taken, guests, rows)

    first = judge()  # also writes the bytecode
    rows = int(first.figures["answers"])
    plain = folder / "plain"
    plain.mkdir()
    (plain / "test_empty.py").write_text(empty_tests(rows), encoding="ascii")
    (plain / "pytest.ini").write_text(
        "[pytest]\naddopts = -p no:cacheprovider\n", encoding="ascii"
    )

    def run_empty() -> Taken:
        taken = ran(
            *(sys.executable, "-m", "pytest", plain),
            cwd=plain,
            env={"PYTEST_ADDOPTS": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        )
        return _shared(taken, guests, rows)

    def read(*command: str | Path) -> Taken:
        taken = ran(*command, uri)
        lines = taken.output.splitlines()
        answers = sum(len(line.partition("\t")[2].split()) for line in lines)
        if len(lines) != guests or answers < guests:
            raise Failed(f"{len(lines)} of {guests} guests: {taken.output[-200:]}")
        return _shared(taken, guests, answers)

    return [
        Contender(OURS, judge),
        Contender(PYTEST, run_empty),
        Contender(
            RAW, lambda: read(sys.executable, "-I", PEERS / "definitions_lxml.py")
        ),
        Contender(
            VIRTINST,
            lambda: read(_SYSTEM_PYTHON, PEERS / "definitions_virtinst.py"),
            absent=_why_no_virtinst(),
        ),
        Contender(
            LOOP,
            lambda: read("sh", PEERS / "definitions.sh"),
            absent=_why_not_in_path("virsh", "xmllint"),
        ),
    ]


def _rows(reports: Path) -> int:
    (results,) = reports.glob("*/2*/results.json")
    return len(json.loads(results.read_text(encoding="utf-8"))["results"])


def _shared(taken: Taken, guests: int, answers: int) -> Taken:
    """Share the CPU out among guests and answers."""
    assert taken.cpu is not None
    figures = {
        "ms of CPU a guest": taken.cpu / guests * 1e3,
        "answers": float(answers),
        "µs of CPU an answer": taken.cpu / answers * 1e6,
    }
    return replace(taken, figures=figures)


def _why_no_virtinst() -> str:
    folder = "/usr/share/virt-manager"
    probe = f"import sys; sys.path.insert(0, {folder!r}); import virtinst"
    done = subprocess.run(
        [_SYSTEM_PYTHON, "-c", probe], capture_output=True, check=False
    )
    return "" if done.returncode == 0 else "the package virtinst is not installed"


def _why_not_in_path(*programs: str) -> str:
    missing = [name for name in programs if not shutil.which(name)]
    return f"{' and '.join(missing)} not installed" if missing else ""


def _versions() -> dict[str, str]:
    versions = {}
    for package in ("virtinst", "libxml2-utils", "libvirt-clients"):
        done = subprocess.run(
            ["dpkg-query", "-W", "-f=${Version}", package],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0 and done.stdout:
            versions[package] = done.stdout
    return versions


def _aims(start: Race, races: list[Race], sizes: tuple[int, ...]) -> tuple[Aim, ...]:
    least, middle, most = (
        (guests, each) for guests, each in zip(sizes, races, strict=True)
    )
    plain = middle if most[0] > _PLAIN else most
    return (
        Aim(
            f"CPU a guest at {most[0]:,}, over that at {least[0]:,}, start included",
            _over(_each(*most), _each(*least)),
            LINEAR,
        ),
        Aim(
            f"CPU a guest at {most[0]:,}, over that at {middle[0]:,}, without the start",
            _over(_each(*most, start), _each(*middle, start)),
            LINEAR,
            why="The time of an audit is not linear in its guests.",
        ),
        Aim(
            f"CPU of {plain[0]:,} guests, over as many empty tests of pytest",
            plain[1].ratio(OURS, PYTEST, "cpu"),
            PLAIN,
            why=_WHY_NOT_PLAIN,
        ),
    )


def _each(guests: int, held: Race, start: Race | None = None) -> float | None:
    """Return seconds of CPU a guest, without those of *start*, which is a run with one guest."""
    total = held.median(OURS, "cpu")
    if start is None:
        return None if total is None else total / guests
    first = start.median(OURS, "cpu")
    return None if total is None or first is None else (total - first) / (guests - 1)


def _over(one: float | None, other: float | None) -> float | None:
    return one / other if one is not None and other else None


TOPIC = Topic("definitions", "Definitions", ABOUT, measure)
