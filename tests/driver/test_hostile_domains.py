"""A domain whose name or definition does harm costs its own rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.command import Outcome, audit
from tests.hostile import ESCAPES, TAG, domain
from tests.support import disk_xml, domain_xml, letters, node


def _rows(done: Outcome, guest: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for row in done.document["results"]:
        if row["guest"] == guest:
            found.setdefault(row["requirement"], set()).add(row["verdict"])
    return found


def _expect_calm(done: Outcome) -> None:
    assert done.status == 1
    assert "INTERNALERROR" not in done.said
    assert "Traceback" not in done.said
    assert _rows(done, "calm")["disk-bus"] == {"noncompliant"}


def _disks(count: int) -> list[str]:
    return [
        f"<disk type='file'><source file='/i/{k}'/><target dev='vd{letters(k)}' bus='virtio'/></disk>"
        for k in range(count)
    ]


@pytest.mark.parametrize("option", ["--definitions-only", "--plan"])
@pytest.mark.parametrize(
    "evil",
    [
        pytest.param(domain_xml(*_disks(1100), name="evil"), id="more-disks-than-anybody-has"),
        pytest.param(
            domain_xml(disk_xml(), name="evil", metadata=f"<x:y xmlns:x='urn:x'>{'z' * (9 << 20)}</x:y>"),
            id="more-than-is-read",
        ),
    ],
)
def test_a_definition_that_is_too_large_is_an_error_of_its_own(tmp_path: Path, evil: str, option: str) -> None:
    done = audit(tmp_path / "reports", option, uri=node(tmp_path, evil, domain_xml(disk_xml(), name="calm")))
    _expect_calm(done)
    assert _rows(done, "evil")["machine-type"] == {"error"}
    assert "more than reclaim" in done.stdout
    assert len(done.document["results"]) < 60


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("n" * 300, id="long"),
        pytest.param(ESCAPES, id="escapes"),
        pytest.param(TAG, id="tag"),
        pytest.param("\u202egnp.exe\u2066", id="bidi"),
        pytest.param("a b\u00a0c", id="blanks"),
        pytest.param("-rf", id="an-option"),
        pytest.param("$(reboot);`reboot`", id="shell"),
        pytest.param("e\u0301\U0001f4a9", id="wide"),
    ],
)
def test_a_name_is_shown_and_nothing_else(tmp_path: Path, name: str) -> None:
    uri = node(tmp_path, domain(name, "/images/evil.img"), domain_xml(disk_xml(), name="calm"))
    done = audit(tmp_path / "reports", uri=uri)
    _expect_calm(done)
    assert _rows(done, name)["disk-bus"] == {"noncompliant"}
    assert all(character.isprintable() or character == "\n" for character in done.stdout)
