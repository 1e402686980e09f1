"""Fleets of definitions for libvirt's test driver, and where an audit of one spends its time.

    python -m bench.definitions [--guests 1000]

`python -m bench definitions` measures them beside other programs (bench/topics/definitions.py).
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import sys
import tempfile
from pathlib import Path

import pytest
from lxml import etree

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = ROOT / "lab/samples/fleet.xml"
#: the status of an audit that has findings
FINDINGS = 1


def node(guests: int) -> bytes:
    """Return a node file for libvirt's test driver: the sample fleet over and over, *guests* in all."""
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
    """Return the text of a module with *count* empty tests, shared out among *functions*."""
    shares = [
        count // functions + (number < count % functions) for number in range(functions)
    ]
    return "import pytest\n" + "".join(
        f"\n\n@pytest.mark.parametrize('one', range({share}))\ndef test_{number}(one):\n    pass\n"
        for number, share in enumerate(shares)
    )


def audit(folder: Path, uri: str) -> list[str]:
    """Return pytest's arguments for an audit of the definitions of *uri*, with its reports in *folder*."""
    words = ["checks/", "--definitions-only", "--uri", uri, "--reports", str(folder)]
    return [*words, "-p", "no:cacheprovider"]


def main() -> int:
    parser = argparse.ArgumentParser(
        "python -m bench.definitions",
        description="Profile one audit of definitions.",
    )
    parser.add_argument("--guests", type=int, default=1000)
    arguments = parser.parse_args()
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    with tempfile.TemporaryDirectory(prefix="reclaim-bench-") as name:
        fleet = Path(name, "fleet.xml")
        fleet.write_bytes(node(arguments.guests))
        with cProfile.Profile() as profile:
            pytest.main([*audit(Path(name, "reports"), f"test://{fleet}"), "-q"])
    for order in ("tottime", "cumulative"):
        pstats.Stats(profile).sort_stats(order).print_stats(45)
    return 0


if __name__ == "__main__":
    sys.exit(main())
