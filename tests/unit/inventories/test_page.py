"""docs/inventory.md has every key of the inventory, with its type, default and meaning; docs has its JSON schema."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import BaseModel

from reclaim.inventories import schema
from reclaim.inventory import BackupNotes, GuestNotes, Inventory, Policy, Ssh, SshOfGuests, Waiver, Window, read_file
from reclaim.inventory.mistakes import _TABLES
from reclaim.requirement import catalogue
from tests.support import ROOT

PAGE = (ROOT / "docs/inventory.md").read_text(encoding="utf-8")
HEADINGS: dict[type[BaseModel], str] = {
    Policy: "[policy]",
    GuestNotes: "[guest.NAME]",
    Ssh: "[guest.NAME.ssh]",
    Waiver: "[guest.NAME.waive]",
    SshOfGuests: "[[ssh]]",
    Window: "[[window]]",
    BackupNotes: "[[backup]]",
}


def rows(table: type[BaseModel]) -> Iterator[str]:
    """The rows of the page for the keys of *table*, but for the tables in it."""
    properties = table.model_json_schema()["properties"]
    for key, info in table.model_fields.items():
        shown = info.alias or key
        if shown in ("ssh", "waive"):
            continue
        kind = _kind(properties[shown])
        default = "required" if info.is_required() else _default(info.default)
        yield f"| `{shown}` | {kind} | {default} | {info.description} |"


def _kind(found: dict[str, Any]) -> str:
    choices = [choice for choice in found.get("anyOf", [found]) if choice.get("type") != "null"]
    (choice,) = choices
    kind = choice["type"]
    if "enum" in choice:
        return " or ".join(f'`"{name}"`' for name in choice["enum"])
    if kind == "array":
        names = choice["items"].get("enum")
        return f"list of {', '.join(names)}" if names else "list of texts"
    if kind == "integer":
        return f"{choice['minimum']} to {choice['maximum']}"
    if kind == "string":
        return {"path": "path", "date": "date"}.get(choice.get("format", ""), "text")
    return {"boolean": "true or false"}[kind]


def _default(value: Any) -> str:
    return "" if value is None else f"`{json.dumps(value)}`"


def section(heading: str) -> str:
    match = re.search(rf"^## `{re.escape(heading)}`$(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert match, heading
    return match[1]


@pytest.mark.parametrize("table", HEADINGS, ids=lambda table: table.__name__)
def test_the_page_has_every_key_and_no_other(table: type[BaseModel]) -> None:
    found = re.findall(r"^\| `.*\|$", section(HEADINGS[table]), re.MULTILINE)
    assert found == list(rows(table))


def test_the_page_has_every_table() -> None:
    assert set(HEADINGS) == set(_TABLES.values()) - {Inventory}
    assert set(Inventory.model_fields) == {"policy", "guest", "ssh", "window", "backup"}


@pytest.mark.parametrize("heading", HEADINGS.values())
def test_each_table_has_an_example_that_is_read(tmp_path: Path, heading: str) -> None:
    examples = re.findall(r"^```toml\n(.*?)^```$", section(heading), re.MULTILINE | re.DOTALL)
    assert examples
    key = tmp_path / "key"
    key.touch()
    path = tmp_path / "inventory.toml"
    for example in examples:
        path.write_text(example.replace("~/.ssh/guests", str(key)), encoding="utf-8")
        data = read_file(path, catalogue())._data
        jsonschema.validate(_plain(data), schema.schema())


def _plain(value: Any) -> Any:
    """*value* as JSON has it: a date is a text."""
    return json.loads(json.dumps(value, default=str))


def test_the_schema_in_the_repository_is_that_of_the_tables() -> None:
    assert (ROOT / "docs" / schema.NAME).read_text(encoding="utf-8") == schema.text()


def test_the_schema_describes_every_key() -> None:
    found = schema.schema()
    jsonschema.Draft202012Validator.check_schema(found)
    for table in (found, *found["$defs"].values()):
        assert table["additionalProperties"] is False
        for key, value in table["properties"].items():
            assert value.get("description"), key
    assert list(found["$defs"]["GuestNotes"]["properties"]["waive"]["properties"]) == list(catalogue())


@pytest.mark.parametrize(
    ("data", "is_valid"),
    [
        ({"policy": {"boot_seconds": 5}}, True),
        ({"policy": {"boot_second": 5}}, False),
        ({"policy": {"boot_seconds": 0}}, False),
        ({"guest": {"w*": {"waive": {"disk-bus": "it is old"}}}}, True),
        ({"guest": {"w*": {"waive": {"disk-bus": {"reason": "it is old", "until": "2027-01-31"}}}}}, True),
        ({"guest": {"w*": {"waive": {"diskbus": "it is old"}}}}, False),
        ({"guest": {"w*": {"waive": {"disk-bus": {"until": "2027-01-31"}}}}}, False),
        ({"window": [{"from": "22:00", "to": "24:00", "zone": "UTC", "days": ["sat"]}]}, True),
        ({"window": [{"from": "22:60", "to": "24:00", "zone": "UTC"}]}, False),
        ({"window": [{"begin": "22:00", "to": "24:00", "zone": "UTC"}]}, False),
    ],
)
def test_the_schema_takes_what_a_run_takes(tmp_path: Path, data: dict[str, Any], *, is_valid: bool) -> None:
    assert jsonschema.Draft202012Validator(schema.schema()).is_valid(data) is is_valid
    waive = data.get("guest", {}).get("w*", {}).get("waive", {})
    for waiver in waive.values():
        if isinstance(waiver, dict):
            waiver["until"] = date.fromisoformat(waiver["until"])
    path = tmp_path / "inventory.toml"
    path.write_text(_toml(data), encoding="utf-8")
    if is_valid:
        read_file(path, catalogue())
    else:
        with pytest.raises(Exception, match="inventory"):
            read_file(path, catalogue())


def _toml(value: Any) -> str:
    return "\n".join(f"{key} = {_inline(inner)}" for key, inner in value.items())


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_inline(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return value.isoformat() if isinstance(value, date) else json.dumps(value)
