"""pytest's entry point: it wakes reclaim for a run on reclaim's own checks. In any other run it does nothing."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from reclaim.base import stdout
from reclaim.base.errors import ReclaimError
from reclaim.base.home import HOME, IS_CHECKOUT

_PLUGIN = "reclaim.plugin"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> Generator[None, object, object]:
    """Declare reclaim's options before the command line is read: then a path that is wrong is the only mistake."""
    if not _is_meant(early_config):
        return (yield)
    if "--json" in args[: args.index("--") if "--" in args else None]:
        _reserve_stdout()
    manager = early_config.pluginmanager
    manager.import_plugin(_PLUGIN)
    result = yield
    plugin = manager.get_plugin(_PLUGIN)
    if plugin is not None:  # -p no:reclaim.plugin
        plugin.habits.expect_known_options(early_config, parser, args)
    return result


def _reserve_stdout() -> None:
    """Keep standard output for the document of --json, before pytest's capturing takes hold of it."""
    try:
        stdout.reserve()
    except ReclaimError as exc:
        raise pytest.UsageError(f"--json: {exc}") from exc


def _is_meant(config: pytest.Config) -> bool:
    """True if the run was started in this checkout, or names a path of this reclaim."""
    folder = config.invocation_params.dir
    if IS_CHECKOUT and _is_ours(folder):
        return True
    paths: list[str] = getattr(config.known_args_namespace, "file_or_dir", None) or []
    return any(_is_ours(folder / path.partition("::")[0]) for path in paths)


def _is_ours(path: Path) -> bool:
    # a word behind an option that is not declared yet may be no path at all
    try:
        real = path.resolve()
    except (OSError, ValueError):
        return False
    return real == HOME or HOME in real.parents
