"""CONTRIBUTING.md and CHANGELOG.md are true: commands, helpers, stages, markers, folders, the example."""

from __future__ import annotations

import re
from string import Template
from textwrap import dedent

import pytest
import yaml

from lab import matrix
from reclaim import __version__, scaffold
from reclaim.definition.domain import Edit
from reclaim.requirement import STAGES
from reclaim.scaffold import HANDLES, Order
from tests import support
from tests.support import ROOT

PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
CHANGES = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
EXAMPLE = Order("safe-cache", "The disk passes flushes on to its image", "disk", "definition")


def table(head: str) -> list[list[str]]:
    """Return the cells of the table that begins with *head*."""
    lines = PAGE.partition(f"\n{head}")[2].partition("\n\n")[0].splitlines()[2:]
    assert lines, head
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def first_names(head: str) -> list[str]:
    """Return the names in the first column, without their arguments."""
    return [name for row in table(head) for name in re.findall(r"`([A-Za-z_/.]+)[^`]*`", row[0])]


@pytest.mark.parametrize("kind", ["check", "fixer", "test"])
def test_the_example_is_what_new_writes(kind: str) -> None:
    path = EXAMPLE.files[kind]
    block = re.search(rf"\*\*`{path}`\*\*(?s:.*?)\n\n((?:       .*\n|\n)+)", PAGE)
    assert block is not None
    values = {
        "stem": EXAMPLE.stem,
        "slug": f'"{EXAMPLE.slug}"',
        "title": f'"{EXAMPLE.title}"',
        "stage": f'"{EXAMPLE.stage}"',
        "doc": f'"""{EXAMPLE.slug}: the check and the fixer as a pair."""',
    }
    template = (ROOT / f"reclaim/templates/{EXAMPLE.template}.{kind}.txt").read_text(encoding="utf-8")
    assert dedent(block[1]).strip() == Template(template).substitute(values).strip()


def test_the_command_could_be_given() -> None:
    command = f'new {EXAMPLE.slug} "{EXAMPLE.title}" --for {EXAMPLE.handle} --stage {EXAMPLE.stage}\n'
    assert f"    reclaim {command}" in PAGE
    scaffold._expect_fit(EXAMPLE)
    handles = PAGE.partition("`--for` is")[2].partition("The three files")[0]
    assert set(re.findall(r"`([a-z]+)`", handles)) == set(HANDLES)


def test_the_files_are_those_that_new_writes() -> None:
    by_hand = "lab/matrix/__init__.py"
    assert first_names("| file | `new` writes") == [*EXAMPLE.files.values(), *scaffold._NAMING, by_hand]
    assert matrix.JUDGED


def test_the_stages_are_in_their_order() -> None:
    assert first_names("| stage | the fixer changes") == list(STAGES)


def test_every_method_of_an_edit_is_there() -> None:
    public = {name for name in (*vars(Edit), *Edit.__dataclass_fields__) if not name.startswith("_")}
    assert set(first_names("| of an `Edit` | does")) == public - {"origin"}


def test_the_helpers_are_there() -> None:
    names = first_names("| helper | does")
    assert {"opened", "domain_xml", "mend", "verdict_of"} <= set(names)
    assert [name for name in names if not hasattr(support, name)] == []


def test_every_folder_of_tests_is_there() -> None:
    folders = {str(path.parent.relative_to(ROOT)) for path in (ROOT / "tests").glob("*/__init__.py")}
    assert set(first_names("| folder | needs")) >= folders
    assert all((ROOT / name).is_dir() for name in first_names("| folder | needs"))


def test_the_commands_are_targets_of_make() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    assert set(re.findall(r"(?:^    |`)make ([a-z-]+)", PAGE, re.MULTILINE)) <= targets


def test_every_marker_is_explained_and_quick_leaves_each_out() -> None:
    listed = (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("\nmarkers = [\n")[2].partition("\n]")[0]
    markers = set(re.findall(r'^    "(\w+):', listed, re.MULTILINE))
    quick = re.search(r"^QUICK := (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert quick is not None
    assert set(quick[1].replace("not ", "").split(" and ")) == markers
    assert {name for name in markers if f"`{name}`" in PAGE or f"mark.{name}`" in PAGE} == markers


def test_the_hooks_are_the_steps_of_make_lint() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    lint = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\nlint:")[2].partition("\n\n")[0]
    steps = [line for line in lint.splitlines() if line.startswith("\t@$(PY) -m") or "lint-imports" in line]
    assert len(hooks) == len(steps) == 4


@pytest.mark.parametrize("name", sorted(set(re.findall(r"(?:^|[ (`])((?:reclaim|tests)/[a-z_/]+\.py)", PAGE))))
def test_a_file_that_is_named_is_there(name: str) -> None:
    examples = EXAMPLE.files.values()
    assert name in examples or (ROOT / name).is_file()


# CHANGELOG.md ---------------------------------------------------------------------------------


def test_the_changelog_has_what_is_unreleased_and_the_version() -> None:
    sections = re.findall(r"^## \[(.+?)\]", CHANGES, re.MULTILINE)
    assert sections[0] == "Unreleased"
    assert __version__ in sections
    assert len(set(sections)) == len(sections)


def test_the_changelog_has_the_form_of_keep_a_changelog() -> None:
    known = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.+)$", CHANGES, re.MULTILINE)) <= known
    lines = [line for line in CHANGES.partition("\n## ")[2].splitlines() if line.startswith("- ")]
    assert len(lines) > 50
    assert [line for line in lines if not line.endswith((".", "?"))] == []
