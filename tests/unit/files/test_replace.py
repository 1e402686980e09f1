"""One file put in the place of another."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from reclaim.base.errors import ChangeFailed
from reclaim.files import holes
from reclaim.files.replace import HeldFile, nameless, put_in_place

if TYPE_CHECKING:
    from pathlib import Path


def test_who_asks_for_the_old_file_during_a_rewrite_finds_it(tmp_path: Path) -> None:
    path = tmp_path / "web.img"
    path.write_bytes(b"x" * 8192)
    before = path.stat()
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    with holes.opened(str(path), os.O_RDWR) as descriptor, holes.alone_with(descriptor, str(path)):
        asked = iter([None, ChangeFailed("something else wants it")])

        def still_ours() -> None:
            if (answer := next(asked)) is not None:
                raise answer

        new = nameless(folder)
        with pytest.raises(ChangeFailed):
            put_in_place(HeldFile(descriptor, folder, "web.img", still_ours), new, ".web.img.new")
        os.close(new)
    os.close(folder)
    assert path.stat().st_ino == before.st_ino
    assert [one.name for one in tmp_path.iterdir()] == ["web.img"]
