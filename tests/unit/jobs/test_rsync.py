"""rsync's command line: the options that hold, the paths, and the rules that leave files out."""

from __future__ import annotations

from pathlib import Path

import pytest

from reclaim.base.verdict import Verdict
from reclaim.jobs.rsync import Line, is_called_so, is_device, is_remote, read, version
from reclaim.jobs.words import UNKNOWN, Word
from tests.jobs import job, judged, rsync

__all__ = ["rsync"]


@pytest.mark.parametrize(
    ("rules", "source"),
    [
        ("--exclude=/srv/images", "/"),
        ("--exclude /srv/images/", "/"),
        ("--exclude='*.qcow2'", "/srv/images"),
        ("--exclude=images/**", "/srv/"),
        ("--exclude=/images", "/srv/"),
        ("--exclude=/srv/images", "/srv"),
        ("-aR --exclude=/srv/im?ges/***", "/srv"),
        ("-f '- images/*'", "/srv"),
        ("--filter='exclude images'", "/srv"),
        ('--exclude={"/dev/*","/srv/*"}', "/"),
        ("--include=/srv/ --exclude='/s*/images' --exclude-from=/etc/rules", "/"),
    ],
)
def test_images_that_rules_leave_out_are_not_copied(tmp_path: Path, rules: str, source: str) -> None:
    _, one = job(tmp_path, f"#!/bin/bash\nrsync -a {rules} {source} /b\n", "backup.sh")
    assert "no command in it copies a guest's image" in judged(one).reason


@pytest.mark.parametrize(
    ("rules", "source"),
    [
        ("--exclude=/images", "/"),
        ("--exclude=/srv/images", "/srv/"),
        ("--exclude=images/", "/srv/images/"),
        ("--exclude=web.qcow2/", "/srv/images"),
        ("--exclude='/*.qcow2'", "/srv"),
        ("--include=images --include=web.qcow2 --exclude='*'", "/srv/"),
    ],
)
def test_images_that_rules_do_not_leave_out_are_copied(tmp_path: Path, rules: str, source: str) -> None:
    _, one = job(tmp_path, f"#!/bin/bash\nrsync -a {rules} {source} /b\n", "backup.sh")
    assert judged(one).verdict is Verdict.NONCOMPLIANT


@pytest.mark.parametrize("rules", ["--exclude-from=/etc/rules", "-F", "-f '. /etc/rules'", "--exclude='[w]eb*'"])
def test_rules_that_cannot_be_read_are_told(tmp_path: Path, rules: str) -> None:
    _, one = job(tmp_path, f"#!/bin/bash\nrsync -a {rules} / /b\n", "backup.sh")
    assert judged(one).verdict is Verdict.NOT_ASSESSABLE
    assert "line 2: rsync: whether its filter rules leave out the images is not judged" in judged(one).reason


def test_an_option_of_a_bundle_or_after_the_paths_counts(tmp_path: Path) -> None:
    _, one = job(tmp_path, "#!/bin/sh\nrsync -vaSe 'ssh -S x' /srv/images/ /b\n", "backup.sh")
    assert judged(one).verdict is Verdict.COMPLIANT
    _, one = job(tmp_path, "#!/bin/sh\nrsync -a -e S /srv/images/ /b\n", "backup.sh")
    assert judged(one).verdict is Verdict.NONCOMPLIANT
    _, one = job(tmp_path, "#!/bin/sh\nrsync -a /srv/images/ /b --sparse\n", "backup.sh")
    assert judged(one).verdict is Verdict.COMPLIANT


# The command line -----------------------------------------------------------------------------


def line_of(text: str) -> Line:
    """Read the words of *text*, parted at blanks; `?` is a word that is not known, and may be several."""
    words = [Word(UNKNOWN, splits=True) if word == "?" else Word(word) for word in text.split(" ")]
    return read(tuple(words))


def holding(line: Line) -> dict[str, str]:
    """The options that hold, with the word that set each."""
    return {name: word.text for name, word in line.options.items()}


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("rsync -aS /x /y", {"sparse": "-aS"}),
        ("rsync --sparse /x /y", {"sparse": "--sparse"}),
        ("rsync -S --no-sparse /x /y", {"no-sparse": "--no-sparse"}),
        ("rsync --no-sparse -S /x /y", {"sparse": "-S"}),
        ("rsync --no-S /x /y", {"no-sparse": "--no-S"}),
        ("rsync -S --no-S --sparse /x /y", {"sparse": "--sparse"}),
        ("rsync -W --no-whole-file /x /y", {"no-whole-file": "--no-whole-file"}),
        ("rsync --no-W /x /y", {"no-whole-file": "--no-W"}),
        ("rsync --append /x /y", {"append": "--append", "inplace": "--append"}),
        ("rsync --append-verify /x /y", {"append-verify": "--append-verify", "inplace": "--append-verify"}),
        ("rsync --write-devices /x /y", {"write-devices": "--write-devices", "inplace": "--write-devices"}),
        ("rsync -nRxu /x /y", {"dry-run": "-nRxu", "relative": "-nRxu", "one-file-system": "-nRxu", "update": "-nRxu"}),
        ("rsync -e S /x /y", {}),
        ("rsync -aeS /x /y", {}),
        ("rsync -aSe ssh /x /y", {"sparse": "-aSe"}),
        ("rsync --rsh --sparse /x /y", {"rsh": "--rsh"}),
        ("rsync --partial-dir=.p /x /y", {"partial-dir": "--partial-dir=.p"}),
        ("rsync /x /y --sparse", {"sparse": "--sparse"}),
        ("rsync -- --sparse /y", {}),
        ("rsync", {}),
        ("rsync --rsh", {"rsh": "--rsh"}),
        ("rsync -e", {}),
    ],
)
def test_the_options_that_hold_in_the_end(text: str, options: dict[str, str]) -> None:
    assert holding(line_of(text)) == options


@pytest.mark.parametrize(
    ("text", "sources", "target"),
    [
        ("rsync -a /x /y", ["/x"], "/y"),
        ("rsync -a /x /z /y", ["/x", "/z"], "/y"),
        ("rsync /x -a /y -S", ["/x"], "/y"),
        ("rsync -e ssh -B 1024 /x /y", ["/x"], "/y"),
        ("rsync -e'ssh' /x /y", ["/x"], "/y"),
        ("rsync --temp-dir /t --bwlimit=1 /x /y", ["/x"], "/y"),
        ("rsync -- -x -y", ["-x"], "-y"),
        ("rsync - /y", ["-"], "/y"),
        ("rsync /x", [], None),
        ("rsync", [], None),
        ("rsync ? /y", [UNKNOWN], "/y"),
    ],
)
def test_the_words_that_are_paths(text: str, sources: list[str], target: str | None) -> None:
    line = line_of(text)
    assert [word.text for word in line.sources] == sources
    assert (line.target and line.target.text) == target


def test_words_that_may_be_options_are_in_doubt() -> None:
    assert [word.text for word in line_of("rsync ? /x /y").doubtful] == [UNKNOWN]
    assert line_of("rsync -a /x /y").doubtful == []
    unknown = Word(UNKNOWN)
    assert read((Word("rsync"), unknown, Word("/x"), Word("/y"))).doubtful == [unknown]
    assert read((Word("rsync"), unknown, Word("/y"))).doubtful == []
    assert read((Word("rsync"), Word("/x"), Word("/z"), unknown)).doubtful == []
    partly = Word(f"-a{UNKNOWN}", splits=True)
    line = read((Word("rsync"), partly, Word("/x"), Word("/y")))
    assert (line.doubtful, [word.text for word in line.paths]) == ([partly], ["/x", "/y"])


@pytest.mark.parametrize(
    ("text", "is_local", "writes_here"),
    [
        ("rsync /x /y", True, True),
        ("rsync kvm1:/x /y", False, True),
        ("rsync /x kvm1:/y", False, False),
        ("rsync /x rsync://kvm1/y", False, False),
        ("rsync /x kvm1::module/y", False, False),
        ("rsync ./a:b /y", True, True),
        ("rsync /x", True, False),
    ],
)
def test_the_end_that_writes(text: str, *, is_local: bool, writes_here: bool) -> None:
    line = line_of(text)
    assert (line.is_local, line.writes_here) == (is_local, writes_here)


@pytest.mark.parametrize(
    ("text", "keeps"),
    [
        ("rsync --inplace /x /y", False),
        ("rsync --inplace --no-whole-file /x /y", True),
        ("rsync --inplace --no-W --whole-file /x /y", False),
        ("rsync --inplace /x kvm2:/y", True),
        ("rsync --inplace -W /x kvm2:/y", False),
        ("rsync --no-whole-file /x /y", False),
        ("rsync --append /x kvm2:/y", True),
    ],
)
def test_blocks_that_did_not_change_stay_if_the_file_is_written_in_place(text: str, *, keeps: bool) -> None:
    assert line_of(text).keeps_unchanged_blocks is keeps


@pytest.mark.parametrize(
    ("text", "is_sparse", "writes_devices"),
    [
        ("rsync -M--sparse /x kvm2:/y", True, False),
        ("rsync -M -S /x kvm2:/y", True, False),
        ("rsync --remote-option=--sparse /x kvm2:/y", True, False),
        ("rsync --remote-option --sparse kvm2:/x /y", False, False),
        ("rsync -M--sparse /x", False, False),
        ("rsync -M--write-devices /x kvm2:/dev/y", False, True),
        ("rsync --rsync-path=rsync\u00a0--write-devices /x kvm2:/y", False, True),
        (f"rsync --rsync-path={UNKNOWN} /x kvm2:/y", False, True),
        ("rsync --rsync-path=/opt/rsync /x kvm2:/y", False, False),
        ("rsync --write-devices /x /y", False, True),
    ],
)
def test_the_options_of_the_other_end(text: str, *, is_sparse: bool, writes_devices: bool) -> None:
    line = line_of(text)
    assert (line.has("sparse"), line.writes_devices) == (is_sparse, writes_devices)


@pytest.mark.parametrize(
    ("size", "largest"),
    [
        ("100", 100),
        ("1k", 1024),
        ("1K", 1024),
        ("1KiB", 1024),
        ("1.5m", 1_572_864),
        ("2G", 2 * 1024**3),
        ("1tb", 1024**4),
        ("7b", 7),
        ("x", 0),
        ("1p", 0),
        ("", 0),
        ("-1", 0),
    ],
)
def test_the_largest_file(size: str, largest: int) -> None:
    assert line_of(f"rsync --max-size={size} /x /y").largest == largest
    assert line_of(f"rsync --max-size {size or 'x'} /x /y").largest == largest
    assert line_of("rsync --min-size=1 /x /y").largest is None


IMAGE_BELOW = "/srv/images/web.qcow2"


@pytest.mark.parametrize(
    ("options", "source", "left_out"),
    [
        ("", "/srv/images", False),
        ("--exclude=web.qcow2", "/srv/images", True),
        ("--exclude=images", "/srv/images", True),
        ("--exclude=images", "/srv/images/", False),
        ("--exclude=/images", "/srv/images", True),
        ("--exclude=/web.qcow2", "/srv/images", False),
        ("--exclude=/web.qcow2", "/srv/images/", True),
        ("--exclude=/web.qcow2", "/srv/images/.", True),
        ("--exclude=srv", "/srv/images", False),
        ("-R --exclude=srv", "/srv/images", False),
        ("-R --exclude=/srv/images", "/srv/images", True),
        ("--exclude=*.qcow2", "/", True),
        ("--exclude=*.qcow", "/", False),
        ("--exclude=web.qcow?", "/", True),
        ("--exclude=srv/*/web.qcow2", "/", True),
        ("--exclude=srv/*", "/", True),
        ("--exclude=srv/**", "/", True),
        ("--exclude=**/web.qcow2", "/", True),
        ("--exclude=**.qcow2", "/", True),
        ("--exclude=srv/***", "/", True),
        ("--exclude=web.qcow2/***", "/", False),
        ("--exclude=web.qcow2/", "/", False),
        ("--exclude=images/", "/", True),
        ("--include=images --exclude=*", "/srv/images", True),
        ("--include=images --include=*.qcow2 --exclude=*", "/srv/images", False),
        ("--exclude=*.qcow2 --include=web.qcow2", "/", True),
        ("--include=web.qcow2 --exclude=*.qcow2", "/", False),
        ("--filter=-_*.qcow2", "/", True),
        ("--filter=exclude_*.qcow2", "/", True),
        ("--filter=+_*.qcow2 --exclude=*.qcow2", "/", False),
        ("--filter=include_*.qcow2 --exclude=*.qcow2", "/", False),
        ("-f -_*.qcow2", "/", True),
        ("-f-_*.qcow2", "/", True),
        ("-F", "/", None),
        ("-f merge", "/", None),
        ("--exclude-from=/r", "/", None),
        ("--include-from /r", "/", None),
        ("--files-from=/r", "/", None),
        ("--exclude=[w]eb.qcow2", "/", None),
        ("--exclude=w\\eb", "/", None),
        (f"--exclude={UNKNOWN}", "/", None),
        ("--exclude-from=/r --exclude=*.qcow2", "/", None),
        ("--exclude=*.qcow2 --exclude-from=/r", "/", True),
        ("--exclude={a,*.qcow2}", "/", True),
        ("--exclude={a,b}", "/", False),
        ("--exclude={a", "/", None),
        ("--exclude=w(e)b", "/", False),
    ],
)
def test_rules_that_leave_an_image_out(options: str, source: str, left_out: bool | None) -> None:  # noqa: FBT001
    line = line_of(f"rsync -a {options} {source} /b".replace("  ", " "))
    assert line.leaves_out(source, IMAGE_BELOW) is left_out


def test_a_file_that_is_named_itself_is_asked_about_too() -> None:
    assert line_of(f"rsync --exclude=*.qcow2 {IMAGE_BELOW} /b").leaves_out(IMAGE_BELOW, IMAGE_BELOW) is True
    assert line_of(f"rsync --exclude=images {IMAGE_BELOW} /b").leaves_out(IMAGE_BELOW, IMAGE_BELOW) is False


# Names and versions ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "is_rsync"),
    [
        ("rsync", True),
        ("rsync3", True),
        ("rsync-3.4.1", True),
        ("rsync_3", True),
        ("rsyncd", False),
        ("rsync-ssl", False),
        ("lsyncd", False),
        ("xrsync", False),
    ],
)
def test_rsync_is_known_by_its_name(name: str, *, is_rsync: bool) -> None:
    assert is_called_so(name) is is_rsync


@pytest.mark.parametrize(
    ("path", "far", "device"),
    [
        ("/dev/vg/x", False, True),
        ("kvm2:/dev/vg/x", True, True),
        ("/dev/shm/x", False, False),
        ("kvm2:/dev/shm/x", True, False),
        ("/b/dev/x", False, False),
        ("/b/a:/dev/x", False, False),
        ("rsync://kvm2/dev/x", True, False),
        ("kvm2:x", True, False),
        ("", False, False),
    ],
)
def test_places_elsewhere_and_devices(path: str, *, far: bool, device: bool) -> None:
    assert (is_remote(path), is_device(path)) == (far, device)


@pytest.mark.parametrize(
    ("output", "number"),
    [
        ("rsync  version 3.4.1  protocol version 32\nCopyright", (3, 4, 1)),
        ("rsync  version v3.2.7pre1  protocol", (3, 2, 7)),
        ("rsync version 10.20.30", (10, 20, 30)),
        ("openrsync: protocol version 29", None),
        ("rsync  version 3.4", None),
        (f"rsync  version {'1' * 5000}.1.1", None),
        ("", None),
    ],
)
def test_the_version_of_a_program(output: str, number: tuple[int, ...] | None) -> None:
    assert version(output) == number
