"""Files as block nodes, by which qemu-img is given their format and opens no other file that a header names."""

from __future__ import annotations

import json
from typing import Any


def of_file(
    path: str, kind: str, backing: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return the file at *path* as a block node of the format *kind*, whatever its first bytes are.

    A qcow2 has the backing file *backing*, or none, whatever its header names.
    """
    node: dict[str, Any] = {
        "driver": kind,
        "file": {"driver": "file", "filename": path},
    }
    if kind == "qcow2":
        node["backing"] = backing
    return node


def filename(node: dict[str, Any]) -> str:
    """Return a block node as the file name that qemu-img takes."""
    return "json:" + json.dumps(node)
