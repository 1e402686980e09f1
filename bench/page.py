"""docs/benchmarks.md and docs/benchmarks.json: a part for each topic, written anew when that topic is measured."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

import libvirt

import reclaim
from bench.rounds import Race, Sample, busy

ROOT = Path(__file__).resolve().parent.parent
PAGE, RAW = ROOT / "docs/benchmarks.md", ROOT / "docs/benchmarks.json"
SCHEMA = 1


@dataclass(frozen=True)
class Asked:
    """The options of a run of `python -m bench`."""

    #: None: as many as the topic has by default
    rounds: int | None = None
    #: small sizes
    quick: bool = False

    def rounds_or(self, default: int) -> int:
        return self.rounds or default


@dataclass(frozen=True)
class Aim:
    """A target as a ratio, and the ratio that was measured (None: one of the two sides is missing)."""

    text: str
    measured: float | None
    limit: float
    side: Literal["at most", "at least"] = "at most"
    #: the reason, in a sentence, which the page has only if the target is missed
    why: str = ""

    @property
    def state(self) -> str:
        """Return met, missed, or not measured."""
        if self.measured is None:
            return "not measured"
        low, high = sorted((self.measured, self.limit))
        good = (low if self.side == "at most" else high) == self.measured
        return "met" if good else "missed"


@dataclass(frozen=True)
class Results:
    """All that one run of a topic measured."""

    races: tuple[Race, ...]
    aims: tuple[Aim, ...] = ()
    #: sentences about figures that are no races
    notes: tuple[str, ...] = ()
    #: the programs that took part, and their versions
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def samples(self) -> list[Sample]:
        return [sample for race in self.races for sample in race.samples]


@dataclass(frozen=True)
class Topic:
    """A comparison: `python -m bench NAME`."""

    name: str
    title: str
    #: a paragraph of Markdown: the work, the contenders, and how each is used
    about: str
    measure: Callable[[Asked], Results]


# The head -------------------------------------------------------------------------------------


def head(asked: Asked) -> dict[str, Any]:
    """Return the machine, the versions and the time of a run."""
    release = platform.freedesktop_os_release().get("PRETTY_NAME", "unknown")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "when": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "reclaim": reclaim.__version__,
        "commit": _commit(),
        "quick": asked.quick,
        "rounds": asked.rounds,
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "memory_mib": memory // 1024**2,
            "kernel": platform.release().partition("-")[0],
            "system": release,
            "python": platform.python_version(),
            "libvirt": _dotted(libvirt.getVersion()),
        },
    }


def _commit() -> str | None:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or None


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _dotted(version: int) -> str:
    return f"{version // 1_000_000}.{version // 1000 % 1000}.{version % 1000}"


# The raw samples ------------------------------------------------------------------------------


def keep(raw: Path, name: str, results: Results, about: dict[str, Any]) -> None:
    """Put all that a topic measured into the JSON file *raw*, in the place of its last run."""
    document: dict[str, Any] = {"schema": SCHEMA, "topics": {}}
    if raw.exists():
        document = json.loads(raw.read_text(encoding="utf-8"))
    part: dict[str, Any] = {"head": {**about, "versions": dict(results.versions)}}
    part |= asdict(results)
    part.pop("versions")
    for aim, shown in zip(results.aims, part["aims"], strict=True):
        shown["state"] = aim.state
    document["topics"][name] = part
    document["topics"] = dict(sorted(document["topics"].items()))
    text = json.dumps(_rounded(document), indent=1, ensure_ascii=False)
    raw.write_text(f"{text}\n", encoding="utf-8")


def _rounded(value: Any) -> Any:
    """Return *value* with floats of six digits at most: a clock knows no more."""
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(each) for each in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def kept(raw: Path) -> dict[str, tuple[Results, dict[str, Any]]]:
    """Return the results of each topic in the JSON file *raw*, and the head that they were measured under."""
    parts = json.loads(raw.read_text(encoding="utf-8"))["topics"]
    return {name: (_restored(part), part["head"]) for name, part in parts.items()}


def _restored(part: dict[str, Any]) -> Results:
    races = []
    for race in part["races"]:
        samples = tuple(Sample(**sample) for sample in race["samples"])
        races.append(Race(**{**race, "samples": samples}))
    aims = [
        Aim(**{key: value for key, value in aim.items() if key != "state"})
        for aim in part["aims"]
    ]
    versions = part["head"]["versions"]
    return Results(tuple(races), tuple(aims), tuple(part["notes"]), versions)


# The page -------------------------------------------------------------------------------------


def marks(name: str) -> tuple[str, str]:
    return f"<!-- topic: {name} -->", f"<!-- end of {name} -->"


def put(page: Path, name: str, text: str) -> None:
    """Put *text* between the marks of the topic *name* in *page*; at its end if it has none."""
    begin, end = marks(name)
    whole = page.read_text(encoding="utf-8")
    part = f"{begin}\n\n{text}\n\n{end}"
    if begin in whole:
        before, _, rest = whole.partition(begin)
        _, found_end, after = rest.partition(end)
        if not found_end:
            raise SystemExit(f"bench: {page}: {begin} has no {end}: put it back")
        page.write_text(f"{before}{part}{after}", encoding="utf-8")
    else:
        page.write_text(f"{whole.rstrip()}\n\n{part}\n", encoding="utf-8")


def described(topic: Topic, results: Results, about: dict[str, Any]) -> str:
    """Return the part of the page that *topic* has."""
    parts = [f"## {topic.title}", topic.about, _measured(topic, results, about)]
    if aims := _aims(results.aims):
        parts.append(aims)
    for race in results.races:
        parts.append(f"### {race.title}")
        if race.samples:
            parts.append(table(race))
        if race.missing:
            parts.append(
                "\n".join(
                    f"- Not measured: {_cell(name)}: {_cell(reason)}"
                    for name, reason in race.missing.items()
                )
            )
    parts += results.notes
    return "\n\n".join(parts)


def _measured(topic: Topic, results: Results, about: dict[str, Any]) -> str:
    machine = about["machine"]
    versions = {
        "reclaim": about["reclaim"],
        "Python": machine["python"],
        "libvirt": machine["libvirt"],
        **results.versions,
    }
    counts = {
        len(race.values(name)) for race in results.races for name in race.contenders
    }
    rounds = f"{min(counts)} to {max(counts)}" if len(counts) > 1 else f"{max(counts)}"
    size = (
        " with small sizes (option quick), which stand for no real ones,"
        if about["quick"]
        else ""
    )
    cores = f"{machine['cores']} cores ({machine['processor']})"
    programs = ", ".join(f"{name} {version}" for name, version in versions.items())
    text = (
        f"Measured by `python -m bench {topic.name}`{size} on {about['when']}: {rounds} rounds, {cores}, "
        f"{machine['memory_mib'] / 1024:.0f} GiB, {machine['system']}, Linux {machine['kernel']}; {programs}."
    )
    return f"{text} {busy(results.samples, machine['cores'])}".rstrip()


def _aims(aims: tuple[Aim, ...]) -> str:
    if not aims:
        return ""
    lines = ["| target | limit | measured | |", "|---|---:|---:|---|"]
    for aim in aims:
        shown = "–" if aim.measured is None else f"{aim.measured:.2f}"
        state = f"**{aim.state}**" if aim.state == "missed" else aim.state
        lines.append(
            f"| {_cell(aim.text)} | {aim.side} {aim.limit:g} | {shown} | {state} |"
        )
    missed = [aim for aim in aims if aim.state == "missed" and aim.why]
    lines += ["", *(f"- {aim.text}: {aim.why}" for aim in missed)] if missed else []
    return "\n".join(lines)


def table(race: Race) -> str:
    """Return the medians of *race* in Markdown, their lowest and highest seconds, and the ratio to the baseline."""
    names = race.contenders
    figures = list(dict.fromkeys(key for each in race.samples for key in each.figures))
    columns = {
        "CPU, s": "cpu",
        "peak MiB": "mebibytes",
        **{key: key for key in figures},
    }
    columns = {
        title: measure
        for title, measure in columns.items()
        if any(race.values(name, measure) for name in names)
    }
    titles = ["", "seconds", "lowest to highest", *columns, _ratio_title(race)]
    lines = [f"| {' | '.join(titles)} |", "|---" + "|---:" * (len(titles) - 1) + "|"]
    for name in names:
        walls = race.values(name)
        ratio = race.ratio(name)
        cells = [
            name,
            number(race.median(name)),
            f"{number(min(walls))} to {number(max(walls))}",
            *(number(race.median(name, measure)) for measure in columns.values()),
            "–" if ratio is None else f"{ratio:.2f}",
        ]
        lines.append(f"| {' | '.join(map(_cell, cells))} |")
    return "\n".join(lines)


def _ratio_title(race: Race) -> str:
    unit = {"wall": "", "cpu": " in CPU", "mebibytes": " in memory"}[race.by]
    return f"times {race.baseline}{unit}"


def number(value: float | None) -> str:
    """Return *value* with three digits or so."""
    if value is None:
        return "–"
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 0.01 else f"{value:.1g}"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
