"""Files that are there as a whole or not at all, and for whom."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from reclaim.files import whole
from reclaim.record import results
from reclaim.report import archive, metrics, publish
from tests import records


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.mark.usefixtures("umask")
def test_a_new_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    whole.write(tmp_path / "one", ["a", "b"])
    assert (tmp_path / "one").read_text() == "ab"
    assert mode(tmp_path / "one") == 0o600


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("opened", [0o644, 0o640, 0o600, 0o666])
def test_one_that_was_opened_stays_open(tmp_path: Path, opened: int) -> None:
    path = tmp_path / "one"
    path.write_text("old")
    path.chmod(opened)
    whole.write(path, ["new"])
    assert (path.read_text(), mode(path)) == ("new", opened)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_of_another_users_file_nothing_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "one"
    path.write_text("old")
    path.chmod(0o666)
    os.chown(path, 65534, 65534)
    whole.write(path, ["new"])
    assert (path.read_text(), mode(path), path.stat().st_uid) == ("new", 0o600, 0)


@pytest.mark.parametrize("name", ["pipe", "link"])
def test_a_pipe_or_a_device_stays_what_it_is(tmp_path: Path, name: str) -> None:
    """As /dev/null and /dev/stdout are, which a user may name for a page or for figures."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    with pytest.raises(OSError, match="no regular file"):
        whole.write(tmp_path / name, ["text"], mode=whole.BY_UMASK)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "pipe"]
    assert (tmp_path / "pipe").is_fifo()
    assert (tmp_path / "link").is_symlink()


def test_a_pipe_at_a_name_of_ours_is_replaced(tmp_path: Path) -> None:
    """Somebody else may have put it there."""
    os.mkfifo(tmp_path / "pipe")
    whole.write(tmp_path / "pipe", ["text"])
    assert (tmp_path / "pipe").read_text() == "text"


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("theirs")
    victim.chmod(0o644)
    (tmp_path / "one").symlink_to(victim)
    whole.write(tmp_path / "one", ["ours"])
    assert victim.read_text() == "theirs"
    assert not (tmp_path / "one").is_symlink()
    assert mode(tmp_path / "one") == 0o600


@pytest.mark.parametrize("kind", ["link", "file", "pipe"])
def test_what_lies_where_it_is_written_first_is_not_used(tmp_path: Path, kind: str) -> None:
    beside, victim = tmp_path / f".one.{os.getpid()}.new", tmp_path / "victim"
    victim.write_text("theirs")
    if kind == "link":
        beside.symlink_to(victim)
    elif kind == "file":
        beside.write_text("x")
        beside.chmod(0o666)
    else:
        os.mkfifo(beside)
    whole.write(tmp_path / "one", ["ours"])
    assert victim.read_text() == "theirs"
    assert mode(tmp_path / "one") == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "victim"]


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    def pieces() -> Iterator[str]:
        yield "a"
        raise OSError(28, "No space left on device")

    (tmp_path / "one").write_text("old")
    with pytest.raises(OSError, match="No space"):
        whole.write(tmp_path / "one", pieces())
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_each_file_of_a_run_has_its_mode(tmp_path: Path, umask: int) -> None:
    run = tmp_path / "reports/kvm1/20260101T000000Z-audit"
    run.mkdir(parents=True)
    results.write(run, results.written(records.fleet(2)))
    publish.write_report([run], run / "report.html")
    publish.write_report([run], tmp_path / "shared.html", shared=True)
    archive.update(tmp_path / "reports")
    metrics.write(tmp_path / "one.prom", [records.record([])], metrics.Attempt(records.EPOCH, success=True))
    for path in (run / "results.json", run / "report.html"):
        assert mode(path) == 0o600, path
    for name in ("index.html", ".index.json", ".index.lock"):
        assert mode(tmp_path / "reports" / name) == 0o600, name
    assert mode(tmp_path / "shared.html") == 0o666 & ~umask
    assert mode(tmp_path / "one.prom") == 0o644
    (tmp_path / "reports/index.html").chmod(0o644)
    (tmp_path / "reports").chmod(0o755)
    archive.update(tmp_path / "reports")
    assert mode(tmp_path / "reports/index.html") == 0o644
    assert mode(tmp_path / "reports") == 0o755


def test_an_address_that_an_older_index_kept_is_forgotten(tmp_path: Path) -> None:
    run = tmp_path / "kvm1/20260101T000000Z-audit"
    run.mkdir(parents=True)
    found = records.fleet(1)
    found["hypervisor"]["uri"] = "qemu+ssh://root:hunter2@kvm1/system"
    found["run"]["arguments"] = ["checks/", "--uri", "qemu+ssh://root:hunter2@kvm1/system"]
    results.write(run, results.written(found))
    archive.update(tmp_path)
    state = tmp_path / ".index.json"
    state.write_text(state.read_text().replace("(redacted)", "hunter2").replace('"version":3,', ""))
    archive.update(tmp_path)
    publish.write_report([run], run / "report.html")
    for path in (state, tmp_path / "index.html", run / "report.html"):
        assert "hunter2" not in path.read_text(), path
        assert "(redacted)" in path.read_text() or path.name == "index.html"
