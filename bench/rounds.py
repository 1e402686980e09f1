"""Contenders in turn, in one run: samples, medians, ratios to a baseline, and how busy the machine was meanwhile."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

LAUNCH = Path(__file__).with_name("launch.py")
#: the share of the processors' time that a hypervisor may take away before the page calls the machine busy
STEAL = 0.02
#: of a failed command's output, the characters that are kept
_KEPT = 400
Measure = Literal["wall", "cpu", "mebibytes"]


class Failed(Exception):
    """A contender did not do its work; the message has the reason."""


@dataclass(frozen=True)
class Taken:
    """The cost of a piece of work: seconds, MiB, and figures of its own, by names that have the unit in them."""

    cpu: float | None = None
    mebibytes: float | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    #: seconds, if the harness's own clock is not the one that counts
    wall: float | None = None
    #: standard output and error; not kept in samples
    output: str = ""


@dataclass(frozen=True)
class Contender:
    """A way to do the work of a race."""

    name: str
    work: Callable[[], Taken | None]
    #: runs before each sample, and no clock runs meanwhile
    prepare: Callable[[], object] | None = None
    #: the reason why it cannot be had here; it is named on the page and does not run
    absent: str = ""
    #: the most rounds that it takes part in, for a very slow one
    rounds: int | None = None


@dataclass(frozen=True)
class Sample:
    """One contender's work, once."""

    contender: str
    round: int
    #: when in its round it was its turn, from 0
    turn: int
    wall: float
    cpu: float | None
    mebibytes: float | None
    figures: dict[str, float]
    load_before: float
    load_after: float
    #: the share of all processors' time that this machine's own hypervisor gave to others meanwhile
    steal: float


@dataclass(frozen=True)
class Race:
    """All samples of one piece of work, in one place."""

    title: str
    baseline: str
    samples: tuple[Sample, ...]
    #: contenders that are absent or failed, and the reasons
    missing: dict[str, str] = field(default_factory=dict)
    #: the ratio of the page is by this
    by: Measure = "wall"

    @property
    def contenders(self) -> list[str]:
        """Return those that have samples, in the order of the first round."""
        return list(dict.fromkeys(sample.contender for sample in self.samples))

    def values(self, contender: str, measure: str = "wall") -> list[float]:
        """Return the samples of *contender*, by a `Measure` or by the name of a figure."""
        mine = [sample for sample in self.samples if sample.contender == contender]
        if measure in ("wall", "cpu", "mebibytes"):
            values = [getattr(sample, measure) for sample in mine]
        else:
            values = [sample.figures.get(measure) for sample in mine]
        return [value for value in values if value is not None]

    def median(self, contender: str, measure: str = "wall") -> float | None:
        """Return the median, or None if *contender* has no such sample."""
        values = self.values(contender, measure)
        return statistics.median(values) if values else None

    def ratio(
        self, contender: str, to: str | None = None, measure: str | None = None
    ) -> float | None:
        """Return the median of *contender* over that of *to* (the baseline), or None if either is not there."""
        measure = measure or self.by
        mine = self.median(contender, measure)
        other = self.median(to or self.baseline, measure)
        return None if mine is None or not other else mine / other


class Processors(NamedTuple):
    """The ticks of all processors since the machine started."""

    every: int
    stolen: int

    @classmethod
    def now(cls, text: str | None = None) -> Processors:
        """Read /proc/stat: user nice system idle iowait irq softirq steal, then guests' time, which user has too."""
        text = text or Path("/proc/stat").read_text(encoding="ascii")
        ticks = [int(word) for word in text.partition("\n")[0].split()[1:9]]
        return cls(sum(ticks), ticks[7])

    def stolen_until(self, later: Processors) -> float:
        return (later.stolen - self.stolen) / max(later.every - self.every, 1)


def turns(names: Sequence[str], number: int) -> list[str]:
    """Return the order of round *number*, from 0: A B C, then C A B, then B C A."""
    split = -number % len(names) if names else 0
    return [*names[split:], *names[:split]]


def race(
    title: str,
    contenders: Sequence[Contender],
    rounds: int,
    *,
    baseline: str,
    by: Measure = "wall",
    tell: Callable[[str], None] | None = None,
) -> Race:
    """Let *contenders* work in turn for *rounds*. One that fails is left out from then on, and is named."""
    tell = tell or progress
    missing = {each.name: each.absent for each in contenders if each.absent}
    by_name = {each.name: each for each in contenders if not each.absent}
    samples = []
    for number in range(rounds):
        for turn, name in enumerate(turns(list(by_name), number)):
            contender = by_name[name]
            if name in missing or number >= (contender.rounds or rounds):
                continue
            try:
                samples.append(_sample(contender, number, turn))
            except Failed as problem:
                missing[name] = f"failed in round {number + 1}: {problem}"
                tell(f"{title}: {name} {missing[name]}")
            else:
                tell(f"{title}, round {number + 1}: {name} {samples[-1].wall:.2f} s")
    order = [each.name for each in contenders]
    samples.sort(key=lambda sample: (sample.round, order.index(sample.contender)))
    return Race(title, baseline, tuple(samples), missing, by)


def progress(line: str) -> None:
    sys.stderr.write(f"bench: {line}\n")
    sys.stderr.flush()


def _sample(contender: Contender, number: int, turn: int) -> Sample:
    if contender.prepare:
        contender.prepare()
    load, ticks, started = os.getloadavg()[0], Processors.now(), time.perf_counter()
    taken = contender.work() or Taken()
    wall = time.perf_counter() - started
    return Sample(
        contender.name,
        number,
        turn,
        wall if taken.wall is None else taken.wall,
        taken.cpu,
        taken.mebibytes,
        dict(taken.figures),
        load,
        os.getloadavg()[0],
        ticks.stolen_until(Processors.now()),
    )


def ran(
    *command: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    expected: Sequence[int] = (0,),
    seconds: float = 3600,
) -> Taken:
    """Run *command* with *env* added to the environment, and measure it and the children that it waits for.

    The seconds are those between fork and wait, without a start of Python for the measuring. Raises Failed if its
    status is not *expected*, or if it is not through after *seconds*.
    """
    words = [str(word) for word in command]
    with tempfile.TemporaryFile() as report:
        launched = [sys.executable, "-I", "-S", str(LAUNCH), str(report.fileno())]
        process = subprocess.Popen(
            [*launched, *words],
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[report.fileno()],
            start_new_session=True,
        )
        try:
            said, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired as problem:
            raise Failed(
                f"{words[0]} was not through after {seconds:.0f} s"
            ) from problem
        finally:
            _end(process)
        report.seek(0)
        text = report.read()
    if not text:
        raise Failed(f"{words[0]} was killed from outside, and what measures it too")
    measured = json.loads(text)
    output = said.decode(errors="replace")
    if measured["status"] not in expected:
        last = " ".join(output[-_KEPT:].split())
        raise Failed(f"{words[0]} ended with {measured['status']}: {last}")
    return Taken(
        cpu=measured["cpu"],
        mebibytes=measured["mebibytes"],
        wall=measured["wall"],
        output=output,
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill *process* and what it started, if it still runs."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def busy(samples: Sequence[Sample], cores: int | None = None) -> str:
    """Return a sentence about a machine that was busy with other work, or "" if it was quiet."""
    cores = cores or os.cpu_count() or 1
    loads = [sample.load_before for sample in samples]
    loaded = [load for load in loads if load > cores]
    stolen = [sample.steal for sample in samples if sample.steal > STEAL]
    parts = []
    if loaded:
        parts.append(
            f"the load average was above {cores} (the number of cores) before {len(loaded)} of {len(loads)} samples, "
            f"{max(loaded):.1f} at most"
        )
    if stolen:
        parts.append(
            f"its own hypervisor took up to {max(stolen):.0%} of its processors in {len(stolen)} of {len(loads)}"
        )
    return (
        f"The machine was busy: {'; '.join(parts)}. Ratios hold better than seconds."
        if parts
        else ""
    )
