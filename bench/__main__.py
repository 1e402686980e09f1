"""Measure reclaim beside the programs that people would use instead, into docs/benchmarks.md and docs/benchmarks.json.

    python -m bench [TOPIC …] [--rounds N] [--quick] [--list | --words] [--page FILE] [--raw FILE]

Ends with 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench import page, topics
from bench.rounds import Failed, progress


def main(words: list[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(words)
    if options.list:
        for name in topics.NAMES:
            sys.stdout.write(f"{name:14} {topics.topic(name).title}\n")
        return 0
    if unknown := [name for name in options.topics if name not in topics.NAMES]:
        parser.error(
            f"no topic is named {unknown[0]}; there are {', '.join(topics.NAMES)}"
        )
    if options.words:
        for name, (results, about) in page.kept(options.raw).items():
            if name in (options.topics or topics.NAMES):
                text = page.described(topics.topic(name), results, about)
                page.put(options.page, name, text)
        return 0
    asked = page.Asked(options.rounds, options.quick)
    status = 0
    for name in options.topics or topics.NAMES:
        status |= _measure(topics.topic(name), asked, options.page, options.raw)
    return status


def _measure(topic: page.Topic, asked: page.Asked, into: Path, raw: Path) -> int:
    progress(f"{topic.name}: {topic.title}")
    about = page.head(asked)
    try:
        results = topic.measure(asked)
    except Failed as problem:
        progress(f"{topic.name} could not be measured: {problem}")
        return 1
    page.keep(raw, topic.name, results, about)
    text = page.described(topic, results, about)
    page.put(into, topic.name, text)
    sys.stdout.write(f"{text}\n\n")
    missed = [aim for aim in results.aims if aim.state == "missed"]
    for aim in missed:
        progress(f"{topic.name}: missed: {aim.text}: {aim.measured:.2f}")
    return 1 if missed else 0


def _rounds(text: str) -> int:
    if not text.isdecimal() or text == "0":
        raise argparse.ArgumentTypeError(f"{text} is no number of rounds: 1 or more")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m bench", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "topics", nargs="*", metavar="TOPIC", help="measure these alone (default: all)"
    )
    parser.add_argument(
        "--rounds", type=_rounds, metavar="N", help="rounds of each race"
    )
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--list", action="store_true", help="list the topics")
    parser.add_argument(
        "--words",
        action="store_true",
        help="measure nothing: write the page anew from the samples that are kept",
    )
    parser.add_argument(
        "--page", type=Path, default=page.PAGE, help="default: docs/benchmarks.md"
    )
    parser.add_argument(
        "--raw", type=Path, default=page.RAW, help="default: docs/benchmarks.json"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
