"""What the tests of faults have counted, kept for docs/faults.md where RECLAIM_FAULTS names a folder."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

_VARIABLE = "RECLAIM_FAULTS"


def note(request_node: str, counts: dict[str, int]) -> None:
    """Keep the *counts* of the test of this name."""
    folder = os.environ.get(_VARIABLE)
    if not folder:
        return
    path = Path(folder) / f"{re.sub(r'[^A-Za-z0-9]+', '-', request_node)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"test": request_node, "counts": counts}) + "\n", encoding="utf-8")
