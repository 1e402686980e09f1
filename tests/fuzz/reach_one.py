"""One target under atheris: `python -m tests.fuzz.reach_one TARGET SECONDS`."""

from __future__ import annotations

import sys

import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]

from tests.command import ROOT

with atheris.instrument_imports(include=["reclaim"]):
    from tests.fuzz.drive import silence
    from tests.fuzz.targets import TARGETS


def main() -> None:
    name, seconds = sys.argv[1:]
    one = TARGETS[name]
    silence()
    corpus = ROOT / "reports" / "fuzz" / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(one.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    arguments = [f"-max_total_time={seconds}", f"-artifact_prefix={corpus}/crash-", "-rss_limit_mb=2048", str(corpus)]
    atheris.Setup([sys.argv[0], *arguments], one.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
