"""lvm.conf(5), taken apart."""

from __future__ import annotations

import pytest

from reclaim.inside.boot import lvmconf
from reclaim.inside.boot.lvmconf import NotUnderstoodError


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param(
            'devices {\n filter = [ "a|x|", "r|.*|" ]\n}\n', {"devices/filter": ["a|x|", "r|.*|"]}, id="usual"
        ),
        pytest.param('devices/filter="r|.*|"', {"devices/filter": ["r|.*|"]}, id="path-and-one-string"),
        pytest.param('devices{filter=["a|x|" "r|y|",]}', {"devices/filter": ["a|x|", "r|y|"]}, id="without-commas"),
        pytest.param(
            'devices {\n filter = [ "a|x|", # "a|y|"\n # "a|z|",\n\n  \'r#.*#\' ]\n}',
            {"devices/filter": ["a|x|", "r#.*#"]},
            id="over-lines-with-comments",
        ),
        pytest.param(r'a = [ "q\"\\d\." ' r"'\"\d' ]", {"a": [r'q"\d\.', r"\"\d"]}, id="escapes"),
        pytest.param("devices { a = 1 a = 2 }", {"devices/a": ["2"]}, id="the-last-counts"),
        pytest.param("a{b{c=-5 d=[]}e=1.5}", {"a/b/c": ["-5"], "a/b/d": [], "a/e": ["1.5"]}, id="sections-in-sections"),
        pytest.param("devices { filter = a|x| }", {"devices/filter": ["a|x|"]}, id="a-bare-string"),
        pytest.param("", {}, id="empty"),
        pytest.param("# filter = 1", {}, id="comment"),
        pytest.param('devices { filter = [ "a|x|" }', None, id="an-array-that-does-not-end"),
        pytest.param('devices { filter = "a|x }', None, id="a-string-that-does-not-end"),
        pytest.param("devices { filter = 1", None, id="a-section-that-does-not-end"),
        pytest.param("filter\n", None, id="no-value"),
        pytest.param("}", None, id="an-end-too-many"),
        pytest.param("a{" * 1000, None, id="deep"),
        pytest.param('"' * 99_999, None, id="quotes"),
        pytest.param("[" * 99_999, None, id="brackets"),
    ],
)
def test_lvm_conf_is_taken_apart_as_lvm2_does(text: str, found: dict[str, list[str]] | None) -> None:
    if found is None:
        with pytest.raises(NotUnderstoodError):
            lvmconf.settings(text)
    else:
        assert lvmconf.settings(text) == found
