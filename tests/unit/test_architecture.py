"""docs/architecture.md has every package, and the packages are as it says."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.support import ROOT

PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
PACKAGES = sorted(path.parent for path in (ROOT / "reclaim").glob("*/__init__.py"))
MOST_MODULES = 25


def modules_of(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*.py") if path.name != "__init__.py"]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_a_package_has_its_sentence(package: Path) -> None:
    sentence = re.search(rf"^\| `reclaim/{package.name}/` \| (.+) \|$", PAGE, re.MULTILINE)
    assert sentence is not None
    docstring = ast.get_docstring(ast.parse((package / "__init__.py").read_text(encoding="utf-8")))
    assert docstring is not None
    assert len(docstring.partition("\n")[0]) > 20


def test_the_page_names_no_package_that_is_not_there() -> None:
    named = set(re.findall(r"`reclaim/(\w+)/`", PAGE))
    assert named == {path.name for path in PACKAGES}


@pytest.mark.parametrize("folder", [ROOT / "reclaim", *PACKAGES], ids=lambda path: path.name)
def test_no_folder_has_more_modules_than_a_reader_can_take_in(folder: Path) -> None:
    assert len(modules_of(folder)) <= MOST_MODULES


def test_the_contract_knows_every_package_in_the_order_of_the_page() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    layers = re.findall(r'^    "(\w+)",$', text.partition("layers = [")[2].partition("]")[0], re.MULTILINE)
    shown = re.findall(r"^\| `reclaim/(\w+)(?:/|\.py)` \|", PAGE, re.MULTILINE)
    assert layers == [name for name in shown if name not in ("plugin", "__main__")]


def test_every_module_is_reached_by_a_package() -> None:
    """A folder without __init__.py would be left out of the wheel."""
    folders = {path.parent for path in (ROOT / "reclaim").rglob("*.py")}
    assert all((folder / "__init__.py").is_file() for folder in folders)
