"""The collection itself: built, linted and documented; its modules take nothing from a hypervisor on trust."""

from __future__ import annotations

import configparser
import io
import re
import sys
import tarfile
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from tests.ansible.playing import COLLECTION, ROOT, Controller
from tests.command import ran

_BIN = Path(sys.executable).parent
VERBS = ("audit", "fix", "install", "undo", "uninstall")
_RUN = "20260101T000000Z-fix"
Member = tuple[str, bytes]


@pytest.fixture
def unpack(controller: Controller, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(controller.folder / "collections"))
    for name in [name for name in sys.modules if name.partition(".")[0] == "ansible_collections"]:
        monkeypatch.delitem(sys.modules, name)
    return import_module("ansible_collections.reclaim.fleet.plugins.modules.unpack")


def _packed(folder: Path, *members: Member, kind: bytes = tarfile.REGTYPE) -> str:
    path = folder / "fetched.tar.gz"
    with tarfile.open(path, "w:gz") as packed:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.type = len(data), 0o666, kind
            member.linkname = "/etc/passwd"
            packed.addfile(member, io.BytesIO(data))
    return str(path)


def test_the_files_of_a_run_are_for_their_owner_alone(unpack: ModuleType, tmp_path: Path) -> None:
    archive = _packed(tmp_path, (f"{_RUN}/results.json", b"{}"), (f"{_RUN}/journal.jsonl", b"secret"))
    assert unpack.unpacked(archive, str(tmp_path / "kvm1")) == str(tmp_path / "kvm1" / _RUN)
    files = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "kvm1" / _RUN).iterdir()}
    assert files == {"results.json": 0o600, "journal.jsonl": 0o600}
    archive = _packed(tmp_path, (f"{_RUN}/results.json", b"{1}"))
    unpack.unpacked(archive, str(tmp_path / "kvm1"))
    assert (tmp_path / "kvm1" / _RUN / "results.json").read_bytes() == b"{1}", "a record is fetched again after undo"


@pytest.mark.parametrize(
    "names",
    [
        ["../evil/results.json"],
        ["/etc/results.json"],
        [f"{_RUN}/../results.json"],
        [f"{_RUN}/.bashrc"],
        [f"{_RUN}/results.json/x"],
        ["latest/results.json"],
        [f"{_RUN}/results.json", "20260102T000000Z-fix/results.json"],
        [],
    ],
)
def test_an_archive_of_anything_else_is_refused(unpack: ModuleType, tmp_path: Path, names: list[str]) -> None:
    archive = _packed(tmp_path, *((name, b"x") for name in names))
    with pytest.raises(ValueError, match=r"no file of a run|several runs|empty"):
        unpack.unpacked(archive, str(tmp_path / "kvm1"))
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_a_link_is_no_file(unpack: ModuleType, tmp_path: Path, kind: bytes) -> None:
    archive = _packed(tmp_path, (f"{_RUN}/results.json", b""), kind=kind)
    with pytest.raises(ValueError, match="no file of a run"):
        unpack.unpacked(archive, str(tmp_path / "kvm1"))


def test_an_endless_file_is_refused(unpack: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "MOST", 3)
    with pytest.raises(ValueError, match="has 4 bytes"):
        unpack.unpacked(_packed(tmp_path, (f"{_RUN}/results.json", b"1234")), str(tmp_path / "kvm1"))


def test_every_verb_has_a_playbook_without_facts() -> None:
    playbooks = sorted((COLLECTION / "playbooks").glob("*.yml"))
    assert tuple(path.stem for path in playbooks) == VERBS
    for path in playbooks:
        (play,) = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert play["gather_facts"] is False
        assert play["vars"]["reclaim_verb"] == path.stem
        assert ("serial" in play, play.get("max_fail_percentage")) == (
            (True, 0) if path.stem == "fix" else (False, None)
        )


def test_every_variable_is_described() -> None:
    defaults = yaml.safe_load((COLLECTION / "roles/reclaim/defaults/main.yml").read_text(encoding="utf-8"))
    readme = (COLLECTION / "README.md").read_text(encoding="utf-8")
    described = set(re.findall(r"^\| `(reclaim_\w+)`", readme, re.MULTILINE))
    assert described == {*defaults, "reclaim_hosts", "reclaim_become", "reclaim_serial"}


def test_the_examples_name_what_there_is() -> None:
    examples = ROOT / "docs/examples"
    texts = {path.name: path.read_text(encoding="utf-8") for path in examples.iterdir()}
    for name, text in texts.items():
        if name.endswith(".yml"):
            assert yaml.safe_load(text), name
        assert set(re.findall(r"reclaim\.fleet\.(\w+)", text)) <= {*VERBS}, name
        variables = set(re.findall(r"\b(reclaim_\w+)", text)) - {"reclaim_into", "reclaim_bundles"}
        assert all(f"`{variable}`" in (COLLECTION / "README.md").read_text(encoding="utf-8") for variable in variables)
    (templates,) = yaml.safe_load(texts["awx.yml"])
    assert {template["playbook"] for template in templates["vars"]["templates"]} <= texts.keys()
    ara = configparser.ConfigParser()
    ara.read_string(texts["ara.cfg"])
    assert ara["defaults"]["callbacks_enabled"] == "ara_default"
    job = yaml.safe_load(texts["gitlab-ci.yml"])["reclaim"]
    for line in (*job["script"], *job["after_script"]):
        assert line.split()[0] in ("ansible-galaxy", "ansible-playbook", "reclaim")
        assert all(word in texts for word in line.split() if word.endswith(".yml"))
    assert job["after_script"] == ["reclaim index reports-of-the-fleet"]
    known = ran(_BIN / "ansible-doc", "-t", "callback", "--json", "ansible.builtin.junit").stdout
    assert all(name in known for name in job["variables"] if name.startswith("JUNIT_"))


@pytest.mark.slow
def test_it_is_built_and_installed_as_others_are(controller: Controller, tmp_path: Path) -> None:
    galaxy, env = _BIN / "ansible-galaxy", controller.environment
    env["ANSIBLE_COLLECTIONS_PATH"] = str(tmp_path / "there")
    built = ran(galaxy, "collection", "build", COLLECTION, "--output-path", tmp_path, env=env)
    assert built.returncode == 0, built.stderr
    (archive,) = tmp_path.glob("reclaim-fleet-*.tar.gz")
    installed = ran(galaxy, "collection", "install", archive, "--offline", "-p", tmp_path / "there", env=env)
    assert installed.returncode == 0, installed.stderr
    for module in ("job", "program", "unpack"):
        shown = ran(_BIN / "ansible-doc", f"reclaim.fleet.{module}", env=env)
        assert (shown.returncode, "OPTIONS" in shown.stdout) == (0, True), shown.stderr
    for verb in VERBS:
        words = ("-i", "localhost,", "--syntax-check", f"reclaim.fleet.{verb}")
        assert ran(_BIN / "ansible-playbook", *words, env=env, stand=tmp_path).returncode == 0


@pytest.mark.slow
def test_ansible_lint_finds_nothing_in_its_profile_for_production(controller: Controller) -> None:
    place = controller.folder / "collections/ansible_collections/reclaim/fleet"
    place.unlink()
    ran("cp", "-r", COLLECTION, place)
    words = ("--offline", "--profile", "production", "--strict", "--nocolor")
    linted = ran(_BIN / "ansible-lint", *words, stand=place, env=controller.environment, seconds=300)
    assert linted.returncode == 0, linted.stdout + linted.stderr
    assert "Profile 'production' was required, and it passed" in linted.stdout + linted.stderr
