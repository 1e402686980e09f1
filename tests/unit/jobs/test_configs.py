"""Configurations of backup programs, which are no shell."""

from __future__ import annotations

from pathlib import Path

import pytest

from reclaim.base.verdict import Verdict
from reclaim.jobs.calls import Call, Script
from reclaim.jobs.configs import is_one, read
from reclaim.jobs.words import UNKNOWN, Word
from tests.jobs import declared_job, judged, rsync

__all__ = ["rsync"]


@pytest.mark.slow
@pytest.mark.parametrize("text", ["[" * 20_000, "- " * 20_000, "a: &a [x]\nb: *a\n", "a: !!python/object:x {}\n", "\0"])
def test_odd_yaml_is_read_to_an_end(tmp_path: Path, rsync: Path, text: str) -> None:
    one = declared_job(tmp_path, "job.yaml", text=text)
    assert judged(one).verdict is Verdict.NOT_ASSESSABLE


@pytest.mark.parametrize(
    ("path", "source", "is_config"),
    [
        ("/etc/borgmatic/config.yaml", b"", True),
        ("/etc/x.yml", b"", True),
        ("/etc/x.toml", b"", True),
        ("/etc/x.json", b"{}", True),
        ("/etc/x.ini", b"", True),
        ("/etc/x.conf", b"key = value\n", True),
        ("/etc/x.conf", b"rsync -a /x /y\n", False),
        ("/etc/x.conf", b"  for x in a; do\n", False),
        ("/etc/x.conf", b"# rsync\n", True),
        ("/etc/backup", b"--- # yaml\n", True),
        ("/etc/backup", b"---\nx: 1\n", True),
        ("/etc/backup", b"----\n", False),
        ("/etc/backup", b"[global]\nx = 1\n", True),
        ("/etc/backup", b"x\n[a b.c-d]  \n", True),
        ("/etc/backup", b"[ -f /x ] && y\n", False),
        ("/etc/backup", b"volume /mnt\n  subvolume images\n", True),
        ("/etc/backup", b"subvolume images\nsnapshot_dir snaps\n", True),
        ("/etc/backup", b"subvolume images\n", False),
        ("/etc/backup", b"rsync -a /x /y\n", False),
        ("/etc/backup", b"", False),
    ],
)
def test_a_configuration_is_known_by_its_name_or_its_content(path: str, source: bytes, *, is_config: bool) -> None:
    assert is_one(path, source) is is_config


def read_config(source: str, path: str = "/etc/config.yaml") -> Script:
    """The commands in a configuration; pieces of shell are commands of one word, in their lines."""
    script = Script()

    def shell(text: bytes, line: int) -> None:
        script.calls.append(Call((Word(text.decode("utf-8", errors="surrogateescape")),), line))

    read(path, source.encode("utf-8", errors="surrogateescape"), script, shell)
    return script


def told(source: str, path: str = "/etc/config.yaml") -> str:
    """The one part that was not understood."""
    script = read_config(source, path)
    assert script.calls == []
    (part,) = script.unread
    return part.text


def commands(source: str) -> list[tuple[int, list[str]]]:
    script = read_config(source)
    assert script.unread == []
    return [(call.line, [word.text for word in call.words]) for call in script.calls]


def test_btrbk_sends_its_subvolumes() -> None:
    script = read_config(
        "# x\nvolume /mnt/pool\n  subvolume images\n  subvolume /srv/vm\n  target /b\nsubvolume\n", "/x"
    )
    assert script.calls == []
    first, second = (part.text for part in script.unread)
    assert "line 3" in first
    assert "/mnt/pool/images" in first
    assert "line 4" in second
    assert " /srv/vm" in second


def test_borgmatic_copies_its_folders_between_its_commands() -> None:
    source = """source_directories:
    - /var/lib/libvirt/images
    - 7
repositories:
    - path: /b
before_backup:
    - virsh suspend web
after_backup:
    - virsh resume web
on_error:
    - echo no
"""
    assert commands(source) == [
        (7, ["virsh suspend web"]),
        (1, ["borg", "create", "repository", "/var/lib/libvirt/images"]),
        (9, ["virsh resume web"]),
        (11, ["echo no"]),
    ]


def test_borgmatic_of_older_and_newer_versions() -> None:
    old = """location:
    source_directories: [/images]
    exclude_patterns: ['*.iso']
hooks:
    before_backup: [virsh suspend web]
    other: [no]
"""
    assert commands(old) == [
        (5, ["virsh suspend web"]),
        (2, ["borg", "create", "--patterns-from=configuration", "repository", "/images"]),
    ]
    new = """source_directories: [/images]
commands:
    - before: action
      run: [virsh suspend web, 7]
    - after: action
      run: [virsh resume web]
    - nothing
    - before: action
"""
    assert [words for _, words in commands(new)] == [
        ["virsh suspend web"],
        ["borg", "create", "repository", "/images"],
        ["virsh resume web"],
    ]


@pytest.mark.parametrize(
    ("source", "folders"),
    [
        ("source_directories: $X\n", [UNKNOWN]),
        ("source_directories:\n", [UNKNOWN]),
        ("source_directories: []\n", []),
        ('source_directories: ["\\U000f0000"]\n', [UNKNOWN]),
        ("x: &x /images\nsource_directories: [*x]\n", [UNKNOWN]),
    ],
)
def test_folders_of_borgmatic_that_are_not_known(source: str, folders: list[str]) -> None:
    ((_, words),) = commands(source)
    assert words == ["borg", "create", "repository", *folders]


def test_a_command_of_borgmatic_that_is_folded_has_some_line() -> None:
    source = "source_directories: [/x]\nbefore_backup:\n    - >-\n      virsh\n      suspend web\n"
    assert commands(source)[0] == (1, ["virsh suspend web"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("- hosts: all\n  tasks: []\n", "Ansible"),
        ("- roles: [x]\n", "Ansible"),
        ("services:\n  x: {}\n", "Compose"),
        ("locations: {}\nbackends: {}\n", "autorestic"),
        ("locations: {}\n", "YAML"),
        ("x: 1\n", "YAML"),
        ("- x\n", "YAML"),
        ("x\n", "YAML"),
        ("", "YAML"),
        ("location: x\n", "YAML"),
        ("x: 1\ny: [\n", "line 3"),
        ("x: @\n", "line 1"),
        ("x: !!python/object:os.system {}\n", "line 1"),
        ("x: '\\xff'\n  y", "line"),
        ("a: " + "[" * 3000, "YAML"),
    ],
)
def test_yaml_that_is_not_read_is_told(source: str, words: str) -> None:
    assert words in told(source)


def test_yaml_larger_than_any_configuration_is_not_read() -> None:
    assert "65536" in told("x: 1\n" + "#" * 65_536)
    assert "65536" not in told("x: 1\n" + "#" * (65_536 - 5))


def test_aliases_make_no_large_file_of_a_small_one() -> None:
    lines = ["a0: &a0 [x]\n", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 30))]
    assert "YAML" in told("".join(lines))


@pytest.mark.parametrize(
    ("source", "path", "words"),
    [
        ("bank:\n  /b\n", "/etc/x.conf", "dirvish"),
        ("x: 1\n", "/etc/dirvish/master.conf", "dirvish"),
        ("[x]\ny = 1\n", "/etc/other.ini", "other.ini"),
    ],
)
def test_another_program_is_named(source: str, path: str, words: str) -> None:
    assert words in told(source, path)
