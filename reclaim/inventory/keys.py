"""The types of the inventory's keys, as TOML has them."""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from reclaim.base.text import trouble
from reclaim.inventory import names

#: true or false as TOML writes them: no word, which pydantic would take for one of them
Switch = Annotated[bool, Field(strict=True)]
#: likewise: pydantic would take true for 1
Whole = Annotated[int, Field(strict=True)]
Seconds = Annotated[Whole, Field(ge=1, le=86_400)]


class Table(BaseModel):
    """A table of TOML: a key that it does not know is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class Scoped(Table):
    """A table that may be for some hypervisors alone, if one file serves several."""

    on: Annotated[list[str], Field(min_length=1)] | None = Field(
        default=None,
        description="Globs of the names of the hypervisors that the table is for, with or without their domain; "
        "every hypervisor if it is absent.",
    )

    def is_on(self, hypervisor: str) -> bool:
        return self.on is None or names.is_host(self.on, hypervisor)


def _a_word(text: str) -> str:
    """Return *text* if it can be an argument of ssh(1): no option, no blank. Else raise ValueError."""
    is_one = text.isprintable() and not re.search(r"\s", text)
    if not text or not is_one or text.startswith("-"):
        raise ValueError(f"{text!r}: give one word that does not begin with '-'")
    return text


def _a_file(path: Path) -> Path:
    try:
        path = path.expanduser()
        # not is_file(), which calls each trouble an absence from Python 3.14 on
        is_there = stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        is_there = False
    except RuntimeError as exc:
        raise ValueError(f"{path}: there is no such home directory") from exc
    except OSError as exc:
        raise ValueError(trouble(exc)) from exc
    text = str(path)
    if "%" in text or '"' in text or not text.isprintable():
        raise ValueError(
            f"{text!r}: ssh would read '%' and '\"' in it as special: give another path"
        )
    if not path.is_absolute():
        raise ValueError(f"{path}: give an absolute path, or one that begins with ~/")
    if not is_there:
        raise ValueError(f"{path}: there is no such file")
    return path


def _a_place(path: Path) -> Path:
    if "\0" in str(path):
        raise ValueError(f"{str(path)!r}: no path has a NUL in it")
    if not path.is_absolute():
        raise ValueError(f"{path}: give an absolute path")
    return path


Word = Annotated[str, AfterValidator(_a_word)]
#: a file that is there
File = Annotated[Path, AfterValidator(_a_file)]
#: an absolute path of a hypervisor
Place = Annotated[Path, AfterValidator(_a_place)]
