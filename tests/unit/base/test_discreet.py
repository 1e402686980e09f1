"""What pytest and its plugins write by themselves has no secret in it."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from pluggy._tracing import TagTracer

from reclaim.base import discreet
from reclaim.base.secret import MARK

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

S = "Zq7Hunter2xW"
URI = f"qemu+ssh://root:{S}@kvm1/system"


@pytest.fixture(autouse=True)
def _talkative_again() -> Iterator[None]:
    yield
    discreet.end()


def _config(*arguments: str, debug: str | None = None) -> pytest.Config:
    """The parts of pytest's configuration that are asked for; the tracer is pluggy's own."""
    option = SimpleNamespace(showlocals=True, fulltrace=True, debug=debug)
    invoked = SimpleNamespace(args=arguments)
    return cast(
        "pytest.Config", SimpleNamespace(option=option, trace=TagTracer().get("config"), invocation_params=invoked)
    )


def test_no_option_shows_values_in_a_traceback() -> None:
    config = _config()
    discreet.begin(config)
    assert (config.option.showlocals, config.option.fulltrace) == (False, False)


def test_what_a_guest_printed_is_not_logged_until_the_end(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("testinfra")
    with caplog.at_level(logging.DEBUG):
        discreet.begin(_config())
        log.warning("RUN CommandResult(stdout=b'%s')", S)
        assert caplog.records == []
        discreet.end()
        log.warning("after the run")
    assert [record.message for record in caplog.records] == ["after the run"]


def test_the_trace_of_debug_is_redacted_from_its_first_line(tmp_path: Path) -> None:
    path = tmp_path / "pytestdebug.log"
    path.touch(0o644)
    config = _config("--uri", URI, f"--password={S}", "checks/", debug=str(path))
    with path.open("w", encoding="utf-8") as stream:
        config.trace.root.setwriter(stream.write)
        stream.write(f"invocation: --uri {URI} --password={S} checks/\n")
        discreet.begin(config)
        config.trace.root.get("hook")(f"args --uri {URI}", "checks/", f"--password={S}")
        stream.flush()
    written = path.read_text(encoding="utf-8")
    assert S not in written
    assert "invocation: --uri " in written
    assert written.count("kvm1") == 2
    assert written.count("checks/") == 2
    assert "args --uri " in written
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_argument_that_is_hidden_as_a_whole_is_hidden_in_the_trace(tmp_path: Path) -> None:
    """The value of pytest's `--metadata NAME VALUE`: alone, it looks like no secret."""
    path = tmp_path / "pytestdebug.log"
    config = _config("--metadata", "token", S, debug=str(path))
    with path.open("w", encoding="utf-8") as stream:
        config.trace.root.setwriter(stream.write)
        stream.write(f"a {S} b\n")
        discreet.begin(config)
        config.trace.root.get("hook")(f"c {S} d")
        stream.flush()
    written = path.read_text(encoding="utf-8")
    assert S not in written
    assert f"a {MARK} b" in written
    assert f"c {MARK} d" in written


def test_a_trace_that_is_written_nowhere_is_left(tmp_path: Path) -> None:
    path = tmp_path / "pytestdebug.log"
    path.write_text("as it was", encoding="utf-8")
    config = _config(debug=str(path))
    config.trace.root.setwriter(lambda _text: None)
    discreet.begin(config)
    assert path.read_text(encoding="utf-8") == "as it was"


def _fails(password: str) -> None:
    local = password[::-1]
    raise RuntimeError(f"cannot connect to {URI} {len(local)}")


def _caught() -> pytest.ExceptionInfo[RuntimeError]:
    with pytest.raises(RuntimeError) as caught:
        _fails(S)
    return caught


def test_a_traceback_names_lines_and_no_values() -> None:
    said = discreet.traceback(_caught())
    assert "test_discreet.py" in said
    assert "_fails" in said
    assert "RuntimeError: cannot connect to qemu+ssh://" in said
    assert S not in said
    assert S[::-1] not in said


def test_the_report_of_an_internal_error_is_redacted() -> None:
    shown = _caught().getrepr(style="long", showlocals=False, funcargs=False)
    assert S in str(shown)
    discreet.redact_internal_error(shown)
    said = str(shown)
    assert S not in said
    assert "cannot connect to qemu+ssh://" in said
    for _, crash, _ in cast("Any", shown).chain:
        assert S not in crash.message


def test_a_report_of_another_shape_is_left() -> None:
    discreet.redact_internal_error("a line")


def test_the_environment_of_a_ci_is_redacted_at_every_depth() -> None:
    environment: dict[str, Any] = {
        "GIT_URL": f"https://ci:{S}@git.example/x",
        "API_TOKEN": S,
        "Packages": {"pytest": "9.0", "secret": S, "index": [f"https://u:{S}@pypi.example/simple", 7]},
        "Plugins": ("a", f"https://u:{S}@h/x"),
        "Number": 5,
    }
    discreet.metadata(environment)
    assert S not in str(environment)
    assert environment["API_TOKEN"] == MARK
    assert environment["Packages"]["secret"] == MARK
    assert environment["Packages"]["pytest"] == "9.0"
    assert environment["Packages"]["index"][1] == 7
    assert environment["Plugins"][0] == "a"
    assert environment["Number"] == 5
    assert environment["GIT_URL"].endswith("@git.example/x")
