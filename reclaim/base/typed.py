"""Commands that are printed to be typed: they run as they are, whatever the PATH and wherever the user stands."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlsplit

from reclaim.base.home import PACKAGE
from reclaim.base.text import printable

_NAME = "reclaim"


def command(*words: str, stand: Path | None = None) -> str:
    """Return the command that runs this very reclaim with *words*, quoted for a shell.

    *stand* is the folder in which it is typed. Without one it can be typed anywhere.
    """
    return shlex.join(map(printable, [*_program(stand), *words]))


def program() -> list[str]:
    """Return the words that start this very reclaim, whatever the PATH and the folder."""
    script = _script()
    if script is not None:
        return [str(script)]
    words = [sys.executable, "-m", _NAME]
    return ["/usr/bin/env", f"PYTHONPATH={PACKAGE.parent}", *words]


def here() -> Path | None:
    """Return the folder of this process, or None if it is gone."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None


def _program(stand: Path | None) -> list[str]:
    """Return the words that start this reclaim."""
    script = _script()
    if script is not None:
        return [_NAME] if _is_on_path(script) else [_as_seen(script, stand)]
    python = [_as_seen(Path(sys.executable), stand), "-m", _NAME]
    if stand == PACKAGE.parent:
        return python
    return ["env", f"PYTHONPATH={PACKAGE.parent}", *python]


def _as_seen(path: Path, stand: Path | None) -> str:
    """Return *path* as it is typed in *stand*: below it without the folders that both share, else whole."""
    if stand is None or stand == Path(stand.anchor) or not path.is_relative_to(stand):
        return str(path)
    seen = str(path.relative_to(stand))
    return seen if "/" in seen else f"./{seen}"


def _is_on_path(script: Path) -> bool:
    chosen = shutil.which(_NAME)
    with suppress(OSError):
        return chosen is not None and script.samefile(chosen)
    return False


@cache
def _script() -> Path | None:
    """Return the script that runs this reclaim, or None if none is installed."""
    started = Path(sys.argv[0] if sys.argv else "")
    if started.name == _NAME:
        with suppress(FileNotFoundError):  # its folder is gone
            if _is_program(started.absolute()):
                return started.absolute()
    beside = Path(sys.executable).parent, Path(sysconfig.get_path("scripts"))
    for folder in beside:
        if _is_program(folder / _NAME) and PACKAGE in _installed():
            return folder / _NAME
    return None


def _is_program(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def _installed() -> Iterator[Path]:
    """Yield the packages that the scripts of this Python import: there may be a checkout beside an installed one."""
    places = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    for distribution in metadata.distributions(name=_NAME, path=places):
        yield Path(str(distribution.locate_file(_NAME))).resolve()
        # https://packaging.python.org/en/latest/specifications/direct-url/
        origin = distribution.read_text("direct_url.json")
        if origin is not None:
            address = urlsplit(json.loads(origin)["url"])
            yield Path(unquote(address.path), _NAME).resolve()
