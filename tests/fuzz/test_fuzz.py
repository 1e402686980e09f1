"""A short pass over every parser, the same each time; `make fuzz` goes on for as long as it is given."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from tests.faults import record
from tests.fuzz.drive import TooMuch, give, silence
from tests.fuzz.mutate import inputs
from tests.fuzz.targets import TARGETS, Target

#: inputs of each parser; the slow ones get fewer
_MOST = {"facts-answer": 25, "backup-jobs": 25}
_INPUTS = 40
_TIMES = 40
#: calls for each byte that are nothing to speak of
_SLACK = 10


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_is_too_much(name: str, request: pytest.FixtureRequest) -> None:
    """No exception but the project's own, no more calls than the length allows, and what the target asserts."""
    one = TARGETS[name]
    silence()
    tried = 0
    for seed in one.seeds:
        give(one, seed)

    @settings(
        derandomize=True,
        database=None,
        max_examples=_MOST.get(name, _INPUTS),
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs(one.seeds))
    def try_one(data: bytes) -> None:
        nonlocal tried
        tried += 1
        give(one, data)

    try_one()
    record.note(request.node.nodeid, {"inputs": tried + len(one.seeds)})
    assert tried >= 10


@pytest.mark.parametrize("name", [name for name, one in TARGETS.items() if one.repeats])
def test_time_grows_with_the_length_alone(name: str, request: pytest.FixtureRequest) -> None:
    """Four times as much takes four times as many calls, and a little."""
    one = TARGETS[name]
    silence()
    for seed in one.given:
        short, long = (give(one, _repeated(seed, times)) for times in (_TIMES, 4 * _TIMES))
        assert long <= 5 * short + 3 * _TIMES * _SLACK * len(seed), (
            f"{short} calls for {_TIMES} times {seed[:40]!r}…, {long} for {4 * _TIMES}"
        )
    record.note(request.node.nodeid, {"inputs": len(one.given)})


def _repeated(seed: bytes, times: int) -> bytes:
    joint = b"" if seed.endswith(b"\n") else b"\n" if b"\n" in seed else b" "
    return joint.join([seed] * times)


def _passed(one: Target) -> None:
    @settings(derandomize=True, database=None, max_examples=200, deadline=None)
    @given(inputs(one.given))
    def try_one(data: bytes) -> None:
        give(one, data * 4)

    try_one()


def test_a_parser_that_fails_is_found() -> None:
    """The pass is no formality: one that stumbles over a length is found, and one that counts in squares."""

    def stumbles(data: bytes) -> None:
        if len(data) % 7 == 3:  # any input has it with one chance in seven
            raise ValueError(data)

    def squares(data: bytes) -> None:
        for one in data:
            for other in data:
                max(one, other)

    found = []
    for check in (stumbles, squares):
        one = Target("bad", check, [b"a = b\n" * 40], calls_a_byte=1)
        with pytest.raises((ValueError, TooMuch)) as caught:
            _passed(one)
        found.append(type(caught.value).__name__)
    assert found == ["ValueError", "TooMuch"]
