"""Secrets kept out of the tracebacks, logs and environment that pytest and its plugins write by themselves."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from reclaim.base.secret import MARK, names_secret, redacted, redacted_arguments

#: testinfra logs each command with all that it printed
_TALKATIVE = logging.getLogger("testinfra")


def begin(config: pytest.Config) -> None:
    """Let a traceback show no value of a variable, and the logs nothing of guests, whatever the options ask for."""
    config.option.showlocals = False
    config.option.fulltrace = False  # it shows the arguments of each function
    _TALKATIVE.addFilter(_nothing)
    if config.option.debug:
        _redact_trace(config, Path(config.option.debug))


def end() -> None:
    _TALKATIVE.removeFilter(_nothing)


def _nothing(_record: logging.LogRecord) -> bool:
    return False


def _redact_trace(config: pytest.Config, path: Path) -> None:
    """Redact the log of pytest's --debug, which traces every call of a hook and has the command line in it by now."""
    stream = getattr(config.trace.root._writer, "__self__", None)  # noqa: SLF001 (there is no other way to it)
    if stream is None:
        return
    given = config.invocation_params.args
    hidden = []
    for argument, shown in zip(given, redacted_arguments(map(str, given)), strict=True):
        if shown == MARK:
            hidden.append(str(argument))

    def write(text: str) -> None:
        for argument in hidden:
            text = text.replace(argument, MARK)
        stream.write(redacted(text))

    path.chmod(0o600)
    stream.flush()
    begun = path.read_text(encoding="utf-8")
    stream.seek(0)
    stream.truncate()
    write(begun)
    config.trace.root.setwriter(write)


def traceback(excinfo: pytest.ExceptionInfo[BaseException]) -> str:
    """Return the files and lines that led to *excinfo*, without values."""
    return redacted(
        str(excinfo.getrepr(style="short", showlocals=False, funcargs=False))
    )


def redact_internal_error(shown: Any) -> None:
    """Take the secrets out of the report of a fault that ends the run, before pytest prints it."""
    for trace, crash, _ in getattr(shown, "chain", ()):
        for entry in trace.reprentries:
            entry.lines = list(map(redacted, entry.lines))
        if crash is not None:
            crash.message = redacted(crash.message)


def metadata(environment: dict[str, Any]) -> None:
    """Redact what pytest-metadata took from the environment of a CI: addresses there may have passwords in them."""
    environment.update(
        {name: _shown(name, value) for name, value in environment.items()}
    )


def _shown(name: str, value: Any) -> Any:
    if names_secret(name):
        return MARK
    return _without_secrets(value)


def _without_secrets(value: Any) -> Any:
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, dict):
        return {name: _shown(str(name), inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return list(map(_without_secrets, value))
    return value
