"""results.json read back, and the schema that is shipped for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from reclaim.base.errors import ReclaimError
from reclaim.record import record
from reclaim.record.record import Record
from tests import records

DOCUMENT = records.document(
    [records.row("disk-bus", "fixed", "one", "vda", changes=[records.change(applied=True)])],
    [records.storage(used=None)],
    mode="fix",
)


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads(record.SCHEMA_FILE.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())


def changed(path: str, value: Any) -> dict[str, Any]:
    """DOCUMENT with *value* at *path*; without what is there where it is `...`."""
    found = json.loads(json.dumps(DOCUMENT))
    *parents, last = path.split(".")
    at: Any = found
    for parent in parents:
        at = at[int(parent)] if parent.isdigit() else at[parent]
    if value is ...:
        del at[last]
    else:
        at[last] = value
    assert isinstance(found, dict)
    return found


WRONG = [
    pytest.param("schema", 3, id="another schema"),
    pytest.param("outcome", ..., id="schema 2 without an outcome"),
    pytest.param("outcome.status", 4, id="no status of one hypervisor"),
    pytest.param("outcome.verdicts", {"passed": 1}, id="no verdict is counted"),
    pytest.param("results.0.rolled_back", "perhaps", id="no boolean"),
    pytest.param("hypervisor.reached", None, id="null for a boolean"),
    pytest.param("run.mode", "mend", id="no mode"),
    pytest.param("run.arguments", "checks/", id="no list"),
    pytest.param("run.started", ..., id="a key is missing"),
    pytest.param("results.0.verdict", "passed", id="no verdict"),
    pytest.param("results.0.severity", "high", id="a key too many"),
    pytest.param("results.0.requirement", "<b>", id="no slug"),
    pytest.param("results.0.seconds", -1, id="negative time"),
    pytest.param("storage.0.used", "4 GiB", id="no number"),
    pytest.param("storage.0.virtual", -1, id="negative size"),
    pytest.param("reclaimed_bytes", None, id="null where it is always known"),
]


def test_the_shipped_schema_is_what_is_read() -> None:
    assert json.loads(record.SCHEMA_FILE.read_text(encoding="utf-8")) == record.json_schema()


def test_a_document_is_valid_and_is_read(validator: jsonschema.Draft202012Validator) -> None:
    validator.validate(DOCUMENT)
    assert Record.model_validate(DOCUMENT).guests == ["one"]


@pytest.mark.parametrize(("path", "value"), WRONG)
def test_schema_and_reader_refuse_the_same(
    validator: jsonschema.Draft202012Validator, tmp_path: Path, path: str, value: Any
) -> None:
    wrong = changed(path, value)
    assert not validator.is_valid(wrong)
    file = tmp_path / "results.json"
    file.write_text(json.dumps(wrong), encoding="utf-8")
    with pytest.raises(ReclaimError, match=path.rpartition(".")[2]) as caught:
        record.read(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", '{"schema": 1, "run": {"id": "2026', "[]", "\x00", "\udcff"])
def test_what_is_half_written_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "results.json").write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(ReclaimError, match="not a record of a run") as caught:
        record.read(tmp_path)
    assert "\n" not in str(caught.value)


def test_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReclaimError, match="No such file"):
        record.read(tmp_path / "none")


def test_a_run_is_named_by_its_folder_or_its_file(tmp_path: Path) -> None:
    folder = records.archive(tmp_path, DOCUMENT)
    assert record.read(folder) == record.read(folder / "results.json")


def test_every_row_has_an_anchor_of_its_own() -> None:
    found = Record.model_validate(records.fleet(500))
    anchors = {found.anchor(row) for row in found.results}
    assert len(anchors) == len(found.results)
    again = Record.model_validate(records.fleet(500, hypervisor="kvm2"))
    assert anchors.isdisjoint(again.anchor(row) for row in again.results)
