"""docs/faults.md names tests that there are, and is made of what they counted."""

from __future__ import annotations

import ast
import json

from tests.command import ROOT
from tests.faults import page
from tests.faults.table import FAULTS
from tests.faults.test_killed import SCENARIOS
from tests.faults.test_refused import ERRORS


def test_every_test_that_is_named_is_there() -> None:
    for one in FAULTS:
        path, _, rest = one.test.partition("::")
        name, _, parameters = rest.partition("[")
        assert (ROOT / path).is_file(), one.test
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        functions = [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        assert not name or name in functions, one.test
        if parameters:
            known = {*SCENARIOS, *ERRORS, "away", "restarted", "edited", "undefined", "renamed"}
            words = [parameters.rstrip("]")] if parameters.rstrip("]") in known else parameters.rstrip("]").split("-")
            assert set(words) <= known, one.test


def test_the_page_is_made_of_the_record() -> None:
    known = json.loads(page.COUNTS.read_text(encoding="utf-8"))
    assert page.PAGE.read_text(encoding="utf-8") == page.page(known)
    assert known, "nothing was counted"
