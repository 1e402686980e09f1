"""How long definitions take to be judged, beside what pytest itself needs for as many empty tests.

    python -m bench.definitions [--guests 1000] [--rounds 3] [--profile]

Both are whole processes on this machine, in turn, in one run; the median of the rounds counts. pytest runs without any
plugin, reclaim with all that it writes (report.html, results.json). Ends with 1 where the ratio is above the target.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lxml import etree

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = ROOT / "lab/samples/fleet.xml"
TARGET = 2.0
FINDINGS = 1


def main() -> int:
    arguments = _parser().parse_args()
    with tempfile.TemporaryDirectory(prefix="reclaim-bench-") as name:
        folder = Path(name)
        fleet = folder / "fleet.xml"
        fleet.write_bytes(node(arguments.guests))
        if arguments.profile:
            return _profile(folder, fleet)
        rows = _judge(folder / "first", fleet)[1]
        plain = folder / "plain"
        plain.mkdir()
        (plain / "test_empty.py").write_text(empty_tests(rows), encoding="ascii")
        (plain / "pytest.ini").write_text(
            "[pytest]\naddopts = -p no:cacheprovider\n", encoding="ascii"
        )
        ours, theirs = [], []
        for number in range(arguments.rounds):
            theirs.append(_empty(plain))
            ours.append(_judge(folder / str(number), fleet)[0])
    ratio = statistics.median(ours) / statistics.median(theirs)
    lines = (
        f"{arguments.guests} guests, {rows} verdicts on definitions; median of {arguments.rounds} rounds:",
        f"  reclaim --definitions-only   {_seconds(ours)}",
        f"  pytest, as many empty tests  {_seconds(theirs)}",
        f"  ratio {ratio:.2f} (target: at most {TARGET:.1f})",
    )
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if ratio <= TARGET else 1


def node(guests: int) -> bytes:
    """A node file for libvirt's test driver: the sample fleet over and over, *guests* in all."""
    samples = etree.parse(SAMPLES).getroot()
    domains = samples.findall("domain")
    root = etree.Element("node", nsmap=samples.nsmap)
    for number in range(guests):
        domain = etree.fromstring(etree.tostring(domains[number % len(domains)]))
        for path in ("name", "uuid"):
            element = domain.find(path)
            if element is None or not element.text:
                raise SystemExit(f"{SAMPLES}: a domain without {path}")
            element.text = (
                f"{element.text}-{number:05}"
                if path == "name"
                else f"{element.text[:-8]}{number:08x}"
            )
        root.append(domain)
    return etree.tostring(root)


def empty_tests(count: int, functions: int = 4) -> str:
    """The text of a module with *count* empty tests, shared out among *functions*."""
    shares = [
        count // functions + (number < count % functions) for number in range(functions)
    ]
    return "import pytest\n" + "".join(
        f"\n\n@pytest.mark.parametrize('one', range({share}))\ndef test_{number}(one):\n    pass\n"
        for number, share in enumerate(shares)
    )


def _judge(folder: Path, fleet: Path) -> tuple[float, int]:
    """Seconds for one audit of *fleet*, and the number of its verdicts."""
    seconds = _timed(_audit(folder, fleet), ROOT, FINDINGS)
    (results,) = folder.glob("*/2*/results.json")
    return seconds, len(json.loads(results.read_text(encoding="utf-8"))["results"])


def _audit(folder: Path, fleet: Path) -> list[str]:
    return [
        "checks/",
        "--definitions-only",
        "--uri",
        f"test://{fleet}",
        "--reports",
        str(folder),
    ]


def _empty(folder: Path) -> float:
    return _timed([str(folder)], folder, 0, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")


def _timed(arguments: list[str], where: Path, expected: int, **more: str) -> float:
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=where,
        env={**os.environ, **more, "PYTEST_ADDOPTS": ""},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - started
    if done.returncode != expected:
        said = done.stdout[-2000:] + done.stderr[-2000:]
        raise SystemExit(
            f"pytest {' '.join(arguments)} ended with {done.returncode}:\n{said}"
        )
    return seconds


def _seconds(rounds: list[float]) -> str:
    return f"{statistics.median(rounds):6.2f} s  ({', '.join(f'{one:.2f}' for one in rounds)})"


def _profile(folder: Path, fleet: Path) -> int:
    """Show where one audit spends its time."""
    import pytest  # noqa: PLC0415 - only here is it run in this process

    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    with cProfile.Profile() as profile:
        pytest.main([*_audit(folder, fleet), "-q"])
    for order in ("tottime", "cumulative"):
        pstats.Stats(profile).sort_stats(order).print_stats(45)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m bench.definitions", description="Definitions, beside pytest itself."
    )
    parser.add_argument("--guests", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--profile",
        action="store_true",
        help="show where one audit spends its time instead",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
