"""The JSON schema of the inventory, for editors: completion, descriptions, and mistakes while one writes."""

from __future__ import annotations

import json
from typing import Any

from reclaim.inventory import Inventory
from reclaim.requirement import catalogue

#: its name beside the inventory that `init` writes, and in docs/
NAME = "inventory.schema.json"


def schema() -> dict[str, Any]:
    """Return the schema of the tables, with the requirements that can be waived."""
    tables = Inventory.model_json_schema()
    waiver = {"$ref": "#/$defs/Waiver"}
    reason = {"type": "string", "description": "Why it need not hold."}
    tables["$defs"]["GuestNotes"]["properties"]["waive"] = {
        "type": "object",
        "description": "Requirements that need not hold, each with the reason.",
        "additionalProperties": False,
        "properties": {
            slug: {"description": requirement.title, "anyOf": [reason, waiver]}
            for slug, requirement in catalogue().items()
        },
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **tables,
        "title": "The inventory of reclaim",
    }


def text() -> str:
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"
