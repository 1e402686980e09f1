"""Names of copies: the image that each is called after, and the kinds that are no images."""

from __future__ import annotations

import pytest

from reclaim.backups import copy_names

COPIES = [
    "web.qcow2",
    "web.img",
    "web.RAW",
    "web-copy-11-28-2026-0300.qcow2",
    "web_2026-11-28_03-00-00.img",
    "web.qcow2.20261128",
    "web.20261128.full.qcow2",
    "web.qcow2-2026-11-28T03:00:00+01:00",
    "web.qcow2.2026-11-28T030000Z",
    "web-20261128T0300.qcow2",
    "web_20261128_030000.inc.img",
    "web.base.img",
    "web_Sun.qcow2",
    "web-saturday.qcow2",
    "web-Nov.qcow2",
    "web-daily.qcow2",
    "web.weekly.3.qcow2",
    "web-snap1.qcow2",
    "web-kw48.qcow2",
    "web (copy).qcow2",
    "web (copy 2).qcow2",
    "web [1].qcow2",
    "web.qcow2.1",
    "web.qcow2.~2~",
    "web.qcow2~",
    "web.qcow2.bkp",
    "web.qcow2.BAK",
    "web.qcow2.orig",
    "web-before-upgrade.qcow2",
    "web-pre-bookworm-20261128.qcow2",
    "web.qcow2.before-upgrade",
    "web-latest.img",
    "web-prev.img",
    "web-v2.img",
    "web-03h00.img",
    "web-w48.img",
]
FRONTS = [
    "backup-web.img",
    "bak_web.qcow2",
    "2026-11-28-web.qcow2",
    "20261128T0300_web.img",
    "daily.web.qcow2",
    "copy of web.qcow2",
    "Backup_of_web_20261128.qcow2",
    "[old] web.img",
    "backup-web-copy.qcow2",
]
NO_FRONTS = [
    "web.img",
    "backupweb.img",
    "of-web.img",
    "db-web.img",
    "old-intraweb.img",
    "backup-web-shop.img",
    "old-webweb.img",
    "web-web.img",
]
OTHERS = [
    "website.qcow2",
    "web-shop.qcow2",
    "web-test.img",
    "web2.qcow2",
    "webbak.img",
    "intraweb.qcow2",
    "web-before.qcow2",
    "web-copy-shop.qcow2",
]


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_called_after_its_image(name: str) -> None:
    assert copy_names.looks_like_an_image(f"/backup/{name}")
    assert copy_names.is_called(copy_names.stem(f"/backup/{name}"), "web")
    assert copy_names.stream(f"/backup/{name}") is None


@pytest.mark.parametrize("name", FRONTS)
def test_what_people_add_may_stand_in_front(name: str) -> None:
    assert copy_names.is_called_behind(copy_names.stem(f"/backup/{name}"), "web")
    assert not copy_names.is_called(copy_names.stem(f"/backup/{name}"), "web")


@pytest.mark.parametrize("name", NO_FRONTS)
def test_another_word_in_front_is_another_image(name: str) -> None:
    assert not copy_names.is_called_behind(copy_names.stem(f"/backup/{name}"), "web")


@pytest.mark.parametrize("name", OTHERS)
def test_another_name_is_another_images(name: str) -> None:
    assert not copy_names.is_called(copy_names.stem(f"/backup/{name}"), "web")


@pytest.mark.parametrize(
    ("name", "stem", "words"),
    [
        ("db.img.gz", "db", "compressed by gzip"),
        ("db.qcow2.xz", "db", "compressed by xz"),
        ("db.raw.zst", "db", "compressed by zstd"),
        ("db-20261128.img.lz4", "db-20261128", "compressed by lz4"),
        ("db.qcow2.20261128.gz", "db", "compressed by gzip"),
        ("db.vma.zst", "db", "a Proxmox archive (vma)"),
        ("db.img.tar.gz", "db", "an archive by tar"),
        ("db.tgz", "db", "an archive by tar"),
        ("db.img.gz.gpg", "db", "compressed by gzip"),
        ("db.qcow2.GZ", "db", "compressed by gzip"),
        ("vda.full.data", "vda", "a backup by virtnbdbackup"),
        ("vda.inc.virtnbdbackup.12.data", "vda", "a backup by virtnbdbackup"),
        ("sda.copy.data", "sda", "a backup by virtnbdbackup"),
    ],
)
def test_a_stream_is_a_kind_of_its_own(name: str, stem: str, words: str) -> None:
    found = copy_names.stream(f"/backup/{name}")
    assert found is not None
    assert found.words == words
    assert found.restore
    assert copy_names.stem(f"/backup/{name}") == stem


@pytest.mark.parametrize("name", ["notes.txt", "web", "etc.gz", ".gz", "web.xml", "data", "x.data", ".qcow2"])
def test_what_is_no_copy_is_none(name: str) -> None:
    assert copy_names.stem(f"/backup/{name}") in (name, name.removesuffix(".gz"))
    assert not copy_names.looks_like_an_image(f"/backup/{name}")


def test_a_name_of_many_parts_is_read_to_its_end() -> None:
    assert copy_names.is_called("web" + "-1" * 100_000, "web")
    assert not copy_names.is_called("web" + "-1" * 100_000 + "-shop", "web")


@pytest.mark.parametrize(
    ("called", "name"),
    [("2026-11-01", "01"), ("full-1", "1"), ("web-backup-old", "old"), ("snap-base", "base"), ("x-copy of", "copy of")],
)
def test_a_name_that_people_add_to_others_is_not_looked_for_behind_them(called: str, name: str) -> None:
    assert not copy_names.is_called_behind(called, name)
