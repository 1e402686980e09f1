"""No bytecode is kept that others may write."""

from __future__ import annotations

import os
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from reclaim.processes import bytecode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def umask() -> Iterator[None]:
    """Restore the umask that the test began with."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


class World:
    """A folder of bytecode, and the interpreter that has modules from there."""

    def __init__(self, folder: Path) -> None:
        self.cache = folder / "__pycache__"
        self.cache.mkdir()
        for name, mode in (("open.pyc", 0o666), ("group.pyc", 0o664), ("ours.pyc", 0o644), ("open.txt", 0o666)):
            (self.cache / name).write_bytes(b"x")
            (self.cache / name).chmod(mode)
        self.cache.chmod(0o777)
        self.modules = {"one": self._module(str(self.cache / "ours.pyc")), "odd": self._module(None)}
        self.modules["bare"] = ModuleType("bare")
        self.modules["gone"] = self._module(str(folder / "not-there" / "x.pyc"))

    @staticmethod
    def _module(cached: str | None) -> ModuleType:
        module = ModuleType("made")
        module.__dict__["__cached__"] = cached
        return module


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[World, SimpleNamespace]:
    made = World(tmp_path)
    interpreter = SimpleNamespace(modules=made.modules, dont_write_bytecode=False)
    monkeypatch.setattr(bytecode, "sys", interpreter)
    return made, interpreter


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("mask", [0o000, 0o002, 0o022, 0o077, 0o020, 0o775])
def test_the_umask_decides_and_stays(world: tuple[World, SimpleNamespace], mask: int) -> None:
    made, interpreter = world
    os.umask(mask)
    bytecode.guard()
    lets_all_write = not mask & 0o002
    assert os.umask(0o022) == mask
    assert interpreter.dont_write_bytecode is lets_all_write
    assert _mode(made.cache) == (0o755 if lets_all_write else 0o777)


@pytest.mark.usefixtures("umask")
def test_what_others_could_have_written_is_removed_and_nothing_else(world: tuple[World, SimpleNamespace]) -> None:
    made, _ = world
    os.umask(0)
    bytecode.guard()
    assert sorted(path.name for path in made.cache.iterdir()) == ["open.txt", "ours.pyc"]
    assert _mode(made.cache / "open.txt") == 0o666


@pytest.mark.usefixtures("umask")
def test_a_folder_of_ours_alone_keeps_its_mode(world: tuple[World, SimpleNamespace]) -> None:
    made, _ = world
    made.cache.chmod(0o2700)
    os.umask(0)
    bytecode.guard()
    assert made.cache.stat().st_mode & 0o7777 == 0o2700


@pytest.mark.usefixtures("umask")
def test_other_bits_of_a_folder_stay(world: tuple[World, SimpleNamespace]) -> None:
    made, _ = world
    made.cache.chmod(0o3775)
    os.umask(0)
    bytecode.guard()
    assert made.cache.stat().st_mode & 0o7777 == 0o3755


@pytest.mark.usefixtures("umask")
def test_a_link_is_not_followed(world: tuple[World, SimpleNamespace], tmp_path: Path) -> None:
    made, interpreter = world
    link = tmp_path / "link"
    link.symlink_to(made.cache)
    interpreter.modules = {"one": World._module(str(link / "ours.pyc"))}
    os.umask(0)
    bytecode.guard()
    assert _mode(made.cache) == 0o777
    assert (made.cache / "open.pyc").exists()
