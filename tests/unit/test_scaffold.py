"""`python -m reclaim new`: its refusals, the row of the page of requirements, and that all is written or nothing."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

from reclaim import scaffold
from reclaim.__main__ import main
from reclaim.base.errors import ReclaimError
from reclaim.files import whole
from reclaim.requirement import STAGES, catalogue
from reclaim.scaffold import HANDLES, Order
from tests.command import reclaim
from tests.support import ROOT

TITLE = "The disk has a serial number"
ORDER = Order("disk-serial", TITLE, "disk", "definition")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        pytest.param(("disk-bus", TITLE, "disk", "definition"), "disk-bus is there already", id="slug-exists"),
        pytest.param(("Disk_Serial", TITLE, "disk", "definition"), "'Disk_Serial' is no slug", id="no-slug"),
        pytest.param(("../disk", TITLE, "disk", "definition"), "'../disk' is no slug", id="path"),
        pytest.param(("", TITLE, "disk", "definition"), "'' is no slug", id="empty"),
        pytest.param(("disk\nbus", TITLE, "disk", "definition"), r"'disk\nbus' is no slug", id="two-lines"),
        pytest.param(("class", TITLE, "disk", "definition"), "fixers/class.py could not be imported", id="keyword"),
        pytest.param(("conftest", TITLE, "disk", "definition"), "could not be imported", id="pytest's"),
        pytest.param(("d" * 41, TITLE, "disk", "definition"), "longer than 40 characters", id="long-slug"),
        pytest.param(("disk-serial", "Serial", "disk", "definition"), "4 words at least", id="short-title"),
        pytest.param(
            ("disk-serial", "The " + "very " * 20, "disk", "definition"), "no line of plain words", id="blank"
        ),
        pytest.param(
            ("disk-serial", "A very" + " long" * 20 + " one", "disk", "definition"), "76 characters", id="long"
        ),
        pytest.param(("disk-serial", "The disk|has a serial", "disk", "definition"), "plain words", id="table"),
        pytest.param(("disk-serial", "The disk\x1b has a serial", "disk", "definition"), "plain words", id="terminal"),
        pytest.param(("disk-serial", "Set the disk's serial number", "disk", "definition"), "good state", id="order"),
        pytest.param(("disk-serial", "Has the disk a serial?", "disk", "definition"), "good state", id="question"),
        pytest.param(
            ("disk-serial", "The disk is on the scsi bus", "disk", "power"), "has the title", id="title-exists"
        ),
        pytest.param(("disk-serial", TITLE, "cdrom", "definition"), "judged for one of disk, guest", id="no-handle"),
        pytest.param(("disk-serial", TITLE, "disk", "boot"), "the stages are access, names, definition", id="no-stage"),
        pytest.param(("disk-serial", TITLE, "disk", "backup"), "no disk is judged in it", id="never-judged"),
        pytest.param(("job-mail", TITLE, "job", "definition"), "it asks nothing of a job", id="no-definition"),
    ],
)
def test_a_refusal_is_one_line_and_writes_nothing(
    asked: tuple[str, str, str, str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    slug, title, handle, stage = asked
    before = lying_in(ROOT)
    assert main(["new", slug, title, "--for", handle, "--stage", stage]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("reclaim: new: ")
    assert words in err
    assert len(err.splitlines()) == 1
    assert err.rstrip("\n").isprintable()
    assert lying_in(ROOT) == before


def lying_in(root: Path) -> dict[str, bytes]:
    """Every file that `new` could have written or changed, with its content."""
    folders = ("checks", "fixers", "tests/unit/requirements")
    paths = [path for folder in folders for path in (root / folder).glob("*.py")]
    return {str(path): path.read_bytes() for path in (*paths, *(root / name for name in scaffold._NAMING))}


@pytest.mark.slow
def test_what_is_installed_is_no_checkout(tmp_path: Path) -> None:
    """A wheel has these three folders."""
    for name in ("reclaim", "checks", "fixers"):
        shutil.copytree(ROOT / name, tmp_path / "site" / name, ignore=shutil.ignore_patterns("__pycache__"))
    site = tmp_path / "site"
    words = ("new", "disk-serial", TITLE, "--for", "disk", "--stage", "definition")
    done = reclaim(*words, stand=site, env={**os.environ, "PYTHONPATH": str(site)})
    assert done.returncode == 2
    assert done.stderr == f"reclaim: new: {site} is no checkout of reclaim (it has no tests): run it in one\n"
    assert not (site / "checks/check_disk_serial.py").exists()


def test_another_checkout_is_not_written_into(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = lying_in(ROOT)
    monkeypatch.chdir(checkout / "docs")
    assert main(["new", "disk-serial", TITLE, "--for", "disk", "--stage", "definition"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"reclaim: new: this command writes into {ROOT}, and you are in the checkout {checkout}: ")
    assert lying_in(ROOT) == before


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with what a checkout has, its files empty."""
    root = tmp_path / "checkout"
    for part in scaffold._PARTS:
        (root / part).mkdir(parents=True) if "." not in part else (root / part).touch()
    for path in (*ORDER.files.values(), *scaffold._NAMING):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
    for path in scaffold._NAMING:
        (root / path).write_text("as it was\n")
    return root


@pytest.mark.parametrize("path", ORDER.files.values())
@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_file_in_the_way_is_named_and_left(checkout: Path, path: str, kind: str) -> None:
    if kind == "file":
        (checkout / path).write_text("mine\n")
    else:
        (checkout / path).symlink_to(checkout / "nowhere")
    with pytest.raises(ReclaimError, match=f"^new: {path} exists already"):
        scaffold.new(ORDER, print, checkout)
    assert sorted(file for file in ORDER.files.values() if os.path.lexists(checkout / file)) == [path]
    assert all((checkout / name).read_text() == "as it was\n" for name in scaffold._NAMING)


@pytest.mark.parametrize("exc", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("number", range(6))
def test_all_is_written_or_nothing(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, number: int, exc: BaseException
) -> None:
    real = whole.write
    done: list[Path] = []

    def write(path: Path, pieces: Iterable[str], *, mode: int | None) -> None:
        if len(done) == number:
            raise exc
        done.append(path)
        real(path, pieces, mode=mode)

    monkeypatch.setattr(whole, "write", write)
    changed = dict.fromkeys((*ORDER.files.values(), *scaffold._NAMING), "new\n")
    with pytest.raises(ReclaimError if isinstance(exc, OSError) else KeyboardInterrupt):
        scaffold._put(checkout, ORDER, changed)
    assert len(done) == number
    assert not [path for path in ORDER.files.values() if (checkout / path).exists()]
    assert {(checkout / name).read_text() for name in scaffold._NAMING} == {"as it was\n"}


@pytest.mark.slow
def test_what_fails_in_the_copy_leaves_the_checkout_as_it_was(checkout: Path) -> None:
    """This one has no linter's settings, no catalogue and no tests."""
    with pytest.raises(ReclaimError, match=r"^new: nothing was written: "):
        scaffold.new(ORDER, print, checkout)
    assert not [path for path in ORDER.files.values() if (checkout / path).exists()]
    assert {(checkout / name).read_text() for name in scaffold._NAMING} == {"as it was\n"}


TABLE = "# r\n\n| requirement | holds when | `--fix` |\n|---|---|---|\n| a | A | x |\n| c-2 | C | y |\n\nEnd | of it\n"


@pytest.mark.parametrize("slug", ["0", "b", "d"])
def test_a_row_goes_where_the_catalogue_has_it(slug: str) -> None:
    slugs = sorted(["a", "c-2", slug])
    text = scaffold.with_row(TABLE, f"| {slug} | new | new |", slug, slugs)
    lines = text.splitlines()
    assert [line[2 : line.index(" |", 2)] for line in lines[4:7]] == slugs
    assert "\n".join(line for line in lines if "new" not in line) + "\n" == TABLE


@pytest.mark.parametrize("text", ["", "no table\n", TABLE.replace("| a |", "| b |")])
def test_a_table_in_another_order_is_named(text: str) -> None:
    with pytest.raises(ReclaimError, match="its table does not have the requirements in their order"):
        scaffold.with_row(text, "| d | new | new |", "d", ["a", "c-2", "d"])


LAYERS = (
    "# r\n\n| layer | requirements |\n|---|---|\n" + "".join(f"| of {stage} | a, b |\n" for stage in STAGES) + "\nEnd\n"
)


@pytest.mark.parametrize("stage", STAGES)
def test_the_short_table_has_the_slugs_of_a_stage_in_its_row(stage: str) -> None:
    text = scaffold.with_slugs(LAYERS, stage, ["a", "b", "c-2"])
    assert text == LAYERS.replace(f"| of {stage} | a, b |", f"| of {stage} | a, b, c-2 |")


def test_a_page_without_the_short_table_is_named() -> None:
    with pytest.raises(ReclaimError, match=r"README\.md: it has no table"):
        scaffold.with_slugs(TABLE, "names", ["a"])


def test_there_are_templates_for_what_a_check_can_take() -> None:
    assert {parameter for one in catalogue().values() for parameter in one.parameters} <= set(HANDLES)
    folder = Path(scaffold.__file__).parent / "templates"
    orders = [Order("a", "a", handle, stage) for handle in HANDLES for stage in ("inside", "power")]
    wanted = {f"{one.template}.{kind}.txt" for one in orders for kind in ("check", "fixer", "test", "row")}
    assert {path.name for path in folder.iterdir()} == wanted
