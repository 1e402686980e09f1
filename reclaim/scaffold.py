"""`python -m reclaim new`: a requirement's three files, and every other place of a checkout that names it."""

from __future__ import annotations

import importlib.util
import json
import keyword
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template

from reclaim.base.errors import ReclaimError
from reclaim.base.text import printable, trouble
from reclaim.files import whole
from reclaim.requirement import STAGES, catalogue

HANDLES = ("disk", "guest", "hypervisor", "backup", "job")
#: what is looked at inside a guest, whose sample definitions have no inside
_INSIDE = ("access", "names", "inside")
#: a line of 88 characters holds the title with its place in the check
_LONGEST_SLUG, _LONGEST_TITLE = 40, 76
#: words with which a title begins that is an instruction or a finding
NO_STATES = (
    "Check",
    "Set",
    "Enable",
    "Use",
    "Make",
    "Fix",
    "Ensure",
    "Missing",
    "Wrong",
)
#: names that begin a title as they are
_NAMES = ("fstab", "virtio")
_TEMPLATES = Path(__file__).parent / "templates"
#: what makes a folder a checkout, and what a copy of it needs to be tested
_PARTS = (
    "reclaim",
    "checks",
    "fixers",
    "tests",
    "lab",
    "docs",
    "pyproject.toml",
    "conftest.py",
    "README.md",
)
_NO_PARTS = shutil.ignore_patterns("__pycache__", "node_modules")
_TEMPORARY = "tmp"
_SAMPLES = "tests/driver/test_samples.py"
#: files that name every requirement, and are written anew
_NAMING = (
    "README.md",
    "docs/requirements.md",
    "docs/usage.md",
    "docs/matrix.md",
    "tests/driver/samples.tsv",
)
#: the pages with the short and with the whole table of requirements
_SHORT, _WHOLE = _NAMING[:2]
_LAYERS = "| layer | requirements |"
#: prints each requirement of the copy with its stage
_CATALOGUE = "from reclaim.requirement import catalogue; print(*(f'{k}={v.stage}' for k, v in catalogue().items()))"
_ROW = re.compile(r"^\| ([a-z0-9-]+) \| .* \|$")
#: settings of the developer's that would change what is run
_FOREIGN = (
    "PYTEST_ADDOPTS",
    "PYTHONSAFEPATH",
    "LIBVIRT_DEFAULT_URI",
    "VIRSH_DEFAULT_CONNECT_URI",
    "FORCE_COLOR",
)


@dataclass(frozen=True)
class Order:
    """The requirement that is asked for: `handle` is the parameter of its check and its fixer."""

    slug: str
    title: str
    handle: str
    stage: str

    @property
    def stem(self) -> str:
        """The name of its files."""
        return self.slug.replace("-", "_")

    @property
    def files(self) -> dict[str, str]:
        """The paths of its three files, by the name of their templates."""
        return {
            "check": f"checks/check_{self.stem}.py",
            "fixer": f"fixers/{self.stem}.py",
            "test": f"tests/unit/requirements/test_{self.stem}.py",
        }

    @property
    def template(self) -> str:
        """The name of the templates: what is inside a guest is read in another way than its definition."""
        is_inside = self.handle in ("guest", "disk") and self.stage in _INSIDE
        return f"{self.handle}-inside" if is_inside else self.handle


def new(order: Order, say: Callable[[str], None], root: Path | None = None) -> None:
    """Write the requirement into the checkout at *root* (the one that runs), all of it or nothing.

    All is made and tried in a copy first. Raises ReclaimError, OSError.
    """
    if root is None:
        root = Path(__file__).resolve().parent.parent
        _expect_no_other_checkout(root, Path.cwd())
    _expect_checkout(root)
    _expect_fit(order)
    _expect_free(order, root)
    with tempfile.TemporaryDirectory(prefix="reclaim-new-") as folder:
        copy = Path(folder)
        _copy(root, copy)
        _write_files(order, copy)
        _name_everywhere(order, copy)
        changed = {
            path: _text(copy / path) for path in (*order.files.values(), *_NAMING)
        }
    changed = {
        path: text for path, text in changed.items() if _text(root / path) != text
    }
    _put(root, order, changed)
    for path in changed:
        say(
            f"{'wrote' if path in order.files.values() else 'named it in'} {root / path}"
        )
    for line in _next_steps(order):
        say(line)


def _next_steps(order: Order) -> Iterator[str]:
    check, fixer, test = order.files.values()
    yield f"next: put your own facts into {check} and {fixer}, and every way of being wrong into {test};"
    yield f"      describe the fix in {_WHOLE}; then RECLAIM_DOCS=write .venv/bin/pytest {_SAMPLES}, and make quick"
    if order.handle in ("guest", "disk"):
        yield "      with real guests: expect its verdicts in lab/matrix/__init__.py (JUDGED), then make matrix"


# Refusals -------------------------------------------------------------------------------------


def _expect_no_other_checkout(root: Path, stand: Path) -> None:
    """Refuse to write into *root* if the user stands in another checkout."""
    checkouts = (path for path in (stand, *stand.parents) if not _lacking(path))
    other = next(checkouts, root)
    if not other.samefile(root):
        raise ReclaimError(
            printable(
                f"new: this command writes into {root}, and you are in the checkout {other}: run its .venv/bin/reclaim"
            )
        )


def _lacking(root: Path) -> list[str]:
    return [part for part in _PARTS if not (root / part).exists()]


def _expect_checkout(root: Path) -> None:
    missing = _lacking(root)
    if missing:
        raise ReclaimError(
            f"new: {root} is no checkout of reclaim (it has no {missing[0]}): run it in one"
        )
    if importlib.util.find_spec("ruff") is None:
        raise ReclaimError(
            "new: ruff is not installed, which formats the files: scripts/setup.sh quick"
        )


def _expect_fit(order: Order) -> None:
    if (
        reason := why_not_slug(order.slug)
        or why_not_title(order.title)
        or why_not_in_stage(order.handle, order.stage)
    ):
        raise ReclaimError(f"new: {printable(reason)}")


def why_not_slug(slug: str) -> str | None:
    """Return why *slug* names no new requirement, or None."""
    if not re.fullmatch(r"[a-z]+(-[a-z0-9]+)*", slug):
        return f"{slug!r:.60} is no slug: small letters and digits, words parted by hyphens, such as disk-serial"
    if len(slug) > _LONGEST_SLUG:
        return f"the slug {slug:.60} is longer than {_LONGEST_SLUG} characters"
    if keyword.iskeyword(slug) or slug == "conftest":
        return f"{slug} is no slug: fixers/{slug}.py could not be imported"
    if slug in catalogue():
        return f"{slug} is there already: checks/check_{slug.replace('-', '_')}.py"
    return None


def why_not_title(title: str) -> str | None:
    """Return why *title* does not state the good state, or None."""
    words = title.split()
    if (
        not title.isprintable()
        or " ".join(words) != title
        or {*title} & {"|", '"', "\\"}
    ):
        return f"the title {title!r:.100} is no line of plain words"
    if len(words) < 4 or len(title) > _LONGEST_TITLE:
        return f"the title has 4 words at least, and {_LONGEST_TITLE} characters at most: {title:.100}"
    if (
        title.endswith((".", "?", "!"))
        or words[0] in NO_STATES
        or not (title[0].isupper() or words[0] in _NAMES)
    ):
        return f"the title states the good state, such as 'The disk has a serial number', and is: {title}"
    if any(title == known.title for known in catalogue().values()):
        return f"another requirement has the title {title}"
    return None


def why_not_in_stage(handle: str, stage: str) -> str | None:
    """Return why no run would judge a requirement for *handle* in *stage*, or None."""
    if handle not in HANDLES:
        return f"--for {handle!r:.60}: a requirement is judged for one of {', '.join(HANDLES)}"
    if stage not in STAGES:
        return f"--stage {stage!r:.60}: the stages are {', '.join(STAGES)}"
    if stage == "backup" and handle in ("guest", "disk"):
        return f"--stage backup is for backup, job and hypervisor: no {handle} is judged in it"
    if stage == "definition" and handle not in ("guest", "disk"):
        return (
            f"--stage definition is for guest and disk: it asks nothing of a {handle}"
        )
    return None


def _expect_free(order: Order, root: Path) -> None:
    if there := [path for path in order.files.values() if os.path.lexists(root / path)]:
        raise ReclaimError(
            f"new: {', '.join(there)} exists already: choose another slug, or move it away"
        )


# In the copy ----------------------------------------------------------------------------------


def _copy(root: Path, copy: Path) -> None:
    (copy / _TEMPORARY).mkdir()
    for part in _PARTS:
        if (root / part).is_dir():
            shutil.copytree(root / part, copy / part, symlinks=True, ignore=_NO_PARTS)
        else:
            shutil.copyfile(root / part, copy / part)


def _write_files(order: Order, copy: Path) -> None:
    values = {
        "stem": order.stem,
        "slug": json.dumps(order.slug),
        "title": json.dumps(order.title, ensure_ascii=False),
        "stage": json.dumps(order.stage),
        "doc": f'"""{order.slug}: the check and the fixer as a pair."""',
    }
    for kind, path in order.files.items():
        text = _template(order, kind).substitute(values)
        (copy / path).write_text(text, encoding="utf-8")
    paths = list(order.files.values())
    _run(copy, "ruff", "check", "--quiet", "--fix", "--select", "I", *paths)
    _run(copy, "ruff", "format", "--quiet", *paths)


def _template(order: Order, kind: str) -> Template:
    return Template(
        (_TEMPLATES / f"{order.template}.{kind}.txt").read_text(encoding="utf-8")
    )


def _name_everywhere(order: Order, copy: Path) -> None:
    stages = dict(pair.split("=") for pair in _run(copy, "-c", _CATALOGUE).split())
    path = copy / _WHOLE
    row = (
        f"| {order.slug} | {order.title} | {_template(order, 'row').template.strip()} |"
    )
    path.write_text(
        with_row(path.read_text(encoding="utf-8"), row, order.slug, list(stages)),
        encoding="utf-8",
    )
    _run(copy, "lab.matrix.page")
    path = copy / _SHORT
    alike = [slug for slug, stage in stages.items() if stage == order.stage]
    path.write_text(
        with_slugs(path.read_text(encoding="utf-8"), order.stage, alike),
        encoding="utf-8",
    )
    names = (
        "test_every_row_about_a_definition",
        "test_the_page_shows_this_run",
        "test_the_readme_shows_the_last_lines_of_that_run",
    )
    samples = (
        [f"{_SAMPLES}::{name}" for name in names] if order.stage == "definition" else []
    )
    _run(copy, "pytest", "-q", order.files["test"], *samples)


def with_slugs(readme: str, stage: str, slugs: list[str]) -> str:
    """Return *readme* with *slugs* in the row of *stage* of its table of layers, a row for each stage.

    Raises ReclaimError if there is no such table.
    """
    lines = readme.split("\n")
    if _LAYERS not in lines:
        raise ReclaimError(
            f"new: {_SHORT}: it has no table {_LAYERS}: restore it first"
        )
    number = lines.index(_LAYERS) + 2 + STAGES.index(stage)
    layer = lines[number].split("|")[1]
    lines[number] = f"|{layer}| {', '.join(slugs)} |"
    return "\n".join(lines)


def with_row(page: str, row: str, slug: str, slugs: list[str]) -> str:
    """Return *page* with *row* in its table of requirements, which lists *slugs* in this order.

    Raises ReclaimError if the table is not in that order.
    """
    lines = page.split("\n")
    heads = [
        number
        for number, line in enumerate(lines)
        if line.startswith("| requirement | ")
    ]
    first = heads[0] + 2 if heads else len(lines)
    rows = []
    for line in lines[first:]:
        if (match := _ROW.match(line)) is None:
            break
        rows.append(match[1])
    if rows != [known for known in slugs if known != slug]:
        raise ReclaimError(
            f"new: {_WHOLE}: its table does not have the requirements in their order: fix that first"
        )
    lines.insert(first + slugs.index(slug), row)
    return "\n".join(lines)


def _run(copy: Path, module: str, *arguments: str) -> str:
    """Run a module of Python in the copy; return its output. Raises ReclaimError with its last words."""
    options = [module, *arguments] if module == "-c" else ["-m", module, *arguments]
    kept = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
    done = subprocess.run(
        [sys.executable, *options],
        cwd=copy,
        env={
            **kept,
            "PYTHONPATH": str(copy),
            "PYTHONDONTWRITEBYTECODE": "1",
            "RECLAIM_DOCS": "write",
            # below the copy: pytest takes the settings of a folder above all paths that it is given
            "PYTEST_DEBUG_TEMPROOT": str(copy / _TEMPORARY),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        said = [
            line for line in (done.stdout + done.stderr).splitlines() if line.strip()
        ]
        reason = next(
            (line for line in said if line.startswith(("E ", "FAILED", "ERROR"))),
            said[-1] if said else "",
        )
        raise ReclaimError(
            f"new: nothing was written: python {' '.join(options[:2])} fails in a copy: {printable(reason)}"
        )
    return done.stdout


# In the checkout ------------------------------------------------------------------------------


def _text(path: Path) -> str:
    """Return the text of a file; "" if there is none."""
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _put(root: Path, order: Order, changed: dict[str, str]) -> None:
    """Write the *changed* files, or leave all as they were."""
    before = {path: (root / path).read_bytes() for path in _NAMING}
    _expect_free(order, root)
    with _taken_back(root, order, before):
        for path, text in changed.items():
            whole.write(root / path, [text], mode=whole.BY_UMASK)


@contextmanager
def _taken_back(root: Path, order: Order, before: dict[str, bytes]) -> Iterator[None]:
    """Put back what was there *before* if it ends early, also by Ctrl-C."""
    try:
        yield
    except BaseException as exc:
        for path in order.files.values():
            whole.drop(root / path)
        for path, content in before.items():
            if (root / path).read_bytes() != content:
                (root / path).write_bytes(content)
        if isinstance(exc, OSError):
            raise ReclaimError(f"new: {trouble(exc)}: nothing was written") from exc
        raise
