"""The documents are true: each link leads somewhere, each command that is shown can be typed, each option is listed."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from reclaim import __main__ as entry
from reclaim import options, verbs
from tests.command import reclaim
from tests.support import ROOT

#: of README.md, which is read on two screens
_MOST_LINES, _MOST_COLUMNS = 120, 120
PAGES = [
    *sorted(path.name for path in ROOT.glob("*.md")),
    *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
    "lab/README.md",
]
USAGE = "docs/usage.md"
_VERBS = {verb.name: verb for _, group in entry.GROUPS for verb in group}
_RUNS = {verb.name for verb in verbs.RUNS}
#: words that stand for others in a command that is shown
_SYNOPSIS = re.compile(r"[\[\]]")
_COMMAND = re.compile(
    r"(?:\$ )?(?:make audit ARGS=|(?:\S*/)?pytest checks/|(?:\S*/)?reclaim (?!\w+: )|python3? -m reclaim )"
)


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


# Links ----------------------------------------------------------------------------------------


def without_code(text: str) -> str:
    return re.sub(r"(?ms)^```.*?^```$|^ {4}.*?$|`[^`\n]*`", "", text)


def links(name: str) -> list[str]:
    return re.findall(r"\]\(([^()\s]+)\)", without_code(text_of(name)))


def anchors(name: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"(?ms)^```.*?^```$", "", text_of(name))
    made: set[str] = set()
    for heading in re.findall(r"^#+ +(.+?) *$", text, re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        again = (f"{anchor}-{number}" for number in range(1, 1000))
        made.add(anchor if anchor not in made else next(other for other in again if other not in made))
    return made


@pytest.mark.parametrize("name", PAGES)
def test_every_link_leads_to_a_file_and_a_heading(name: str) -> None:
    astray = []
    for link in links(name):
        if re.match(r"https?://", link):
            continue
        target, _, anchor = link.partition("#")
        path = ((ROOT / name).parent / target if target else ROOT / name).resolve()
        is_there = path.is_relative_to(ROOT) and path.exists()
        if not is_there or (anchor and anchor not in anchors(str(path.relative_to(ROOT)))):
            astray.append(link)
    assert astray == []


def test_the_anchors_are_those_of_github() -> None:
    made = anchors("docs/guests.md")
    assert {"no-linux", "qemus-own-arguments", "disc-max-and-fstrim-timer"} <= made
    assert "guestnamessh" in anchors("docs/inventory.md")


def test_the_list_of_documents_has_every_document() -> None:
    listed = {((ROOT / "docs") / link).resolve().relative_to(ROOT).as_posix() for link in links("docs/README.md")}
    beside = {"docs/README.md", "lab/README.md"}
    assert listed >= {*PAGES, "docs/reclaim.1", "docs/inventory.schema.json"} - beside


# Commands -------------------------------------------------------------------------------------


@cache
def flags_of_pytest() -> frozenset[str]:
    done = reclaim("help", "pytest")
    shown = re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", done.stdout)
    # it shows one of two spellings
    return frozenset({*shown, "--junitxml"} if "--junit-xml" in shown else shown)


def commands(name: str) -> Iterator[str]:
    """Yield the commands that a page shows: a line of code, or `code`, without the description behind it."""
    text = text_of(name)
    shown = [*re.findall(r"^ {4}(\S.*)$", text, re.MULTILINE), *re.findall(r"`([^`\n]+)`", text)]
    for block in re.findall(r"(?ms)^```\w*\n(.*?)^```$", text):
        shown += block.splitlines()
    for line in shown:
        command = re.split(r" {2,}|\s\|\s|\s[12]?>", line.strip().removeprefix("- "))[0]
        if _COMMAND.match(command):
            yield from alternatives(command.removeprefix("$ "))


def alternatives(command: str) -> Iterator[str]:
    """Yield *command* once for each word of `one|other` in it."""
    words = re.search(r"\S+\|\S+|$", command)
    assert words is not None
    yield from (command.replace(words[0], word) if word else command for word in words[0].split("|"))


def why_not_typed(command: str) -> str | None:
    """Return why *command* is none of reclaim's, or None."""
    words = shlex.split(_SYNOPSIS.sub("", command))
    if words[0] == "make":
        return why_not_run("", shlex.split(words[2].partition("=")[2]))
    if Path(words[0]).name == "pytest":
        return why_not_run("", words[2:])
    verb, *behind = words[3:] if words[0].startswith("python") else words[1:]
    if verb in _RUNS:
        return why_not_run(verb, behind)
    if verb in ("help", "VERB", "--version"):
        return None if {*behind} <= {"VERB", "pytest", *_RUNS, *_VERBS} else f"help has no {behind}"
    if verb not in _VERBS:
        return f"{verb} is no verb"
    if not behind or command.endswith(tuple(verbs_of(_VERBS[verb]))):
        return None  # the verb is named, and not its arguments
    return why_not_done(_VERBS[verb], [word for word in behind if word != "…"], whole="…" not in behind)


def why_not_run(verb: str, words: list[str]) -> str | None:
    """Return why a run, or pytest if *verb* is "", does not take *words*, or None."""
    ours = {option.flag for option in options.every() if not verb or verb in option.verbs}
    barred = {option.flag for option in options.every()} - ours
    given = {word.partition("=")[0] for word in words if word.startswith("-")}
    unknown = given - ours - ((flags_of_pytest() | {"--hosts"}) - barred)
    return f"{sorted(unknown)} are no options of {verb or 'pytest'}" if unknown else None


def why_not_done(verb: verbs.Verb, words: list[str], *, whole: bool) -> str | None:
    if whole:
        try:
            verbs.parser(verb).parse_args(["1" if word == "N" else word for word in words])
        except SystemExit:
            return f"reclaim {verb.name} does not take {words}"
    unknown = {word for word in words if word.startswith("--")} - {*flags(verb)}
    return f"{sorted(unknown)} are no options of {verb.name}" if unknown else None


def flags(verb: verbs.Verb) -> Iterator[str]:
    """Yield the options of *verb*, and of its own verbs."""
    for parser in (verbs.parser(verb), *verbs_of(verb).values()):
        for action in parser._actions:
            yield from action.option_strings


def verbs_of(verb: verbs.Verb) -> dict[str, argparse.ArgumentParser]:
    """Return the parsers of the verbs of *verb*, such as those of `reclaim inventory`."""
    actions = verbs.parser(verb)._actions
    return {
        name: parser
        for action in actions
        if isinstance(action, argparse._SubParsersAction)
        for name, parser in action.choices.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_every_command_that_is_shown_can_be_typed(name: str) -> None:
    wrong = [f"{command}: {reason}" for command in commands(name) if (reason := why_not_typed(command))]
    assert wrong == []


def test_the_pages_show_commands() -> None:
    shown = {name: [*commands(name)] for name in PAGES}
    assert {name for name, found in shown.items() if found} >= {"README.md", USAGE, "docs/undo.md", "docs/backups.md"}
    assert "pytest checks/ --plan" in shown["README.md"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        "reclaim audits",
        "reclaim audit --restart",
        "reclaim plan --fix",
        "reclaim audit --prove-it",
        "reclaim undo RUN --force",
        "reclaim inventory write",
        "reclaim new SLUG … --stages names",
        "reclaim help verbs",
        "pytest checks/ --fixes",
        'make audit ARGS="--plans"',
    ],
)
def test_a_command_that_is_none_is_found(command: str) -> None:
    assert _COMMAND.match(command)
    assert why_not_typed(command) is not None


# Options --------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", [group.title for group in options.GROUPS])
def test_the_page_of_usage_has_the_options_of_each_group_in_order(group: str) -> None:
    heading = group.removeprefix("reclaim: ").capitalize()
    part = text_of(USAGE).partition(f"\n### {heading}\n")[2].partition("\n## ")[0].partition("\n### ")[0]
    declared = [option.flag for known in options.GROUPS if known.title == group for option in known.options]
    assert re.findall(r"^\| `(--[a-z-]+)", part, re.MULTILINE) == declared


def test_the_page_of_usage_has_no_other_option() -> None:
    told = re.findall(r"^\| `(--[a-z-]+)", text_of(USAGE), re.MULTILINE)
    # --hosts is testinfra's own
    assert sorted(told) == sorted([*(option.flag for option in options.every()), "--hosts"])


#: options of other programs that a page names, and that are none of ours
OF_OTHERS = {
    "CHANGELOG.md": {"--now"},
    "CONTRIBUTING.md": {"--set"},
    "lab/README.md": {"--resume"},
    "docs/install.md": {"--python", "--system-site-packages"},
    "docs/fleet.md": {"--check"},
    "docs/monitoring.md": {"--collector.textfile.directory"},
    "docs/backups.md": {
        *("--delay-updates", "--disk-only", "--diskspec", "--inplace", "--link-dest", "--max-size"),
        *("--no-whole-file", "--partial-dir", "--preallocate", "--sparse", "--write-devices"),
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_an_option_that_a_page_names_is_there(name: str) -> None:
    ours = {option.flag for option in options.every()} | {"--hosts", "--version"} | flags_of_pytest()
    ours |= {flag for verb in _VERBS.values() for flag in flags(verb)}
    spans = [span for span in re.findall(r"`([^`\n]+)`", text_of(name)) if span.startswith("--")]
    named = {word.partition("=")[0] for span in spans for word in span.split() if word.startswith("--")}
    assert named - ours == OF_OTHERS.get(name, set())


# README.md ------------------------------------------------------------------------------------


def test_the_readme_is_two_screens() -> None:
    lines = text_of("README.md").splitlines()
    assert len(lines) <= _MOST_LINES
    # output is shown as it is, and a picture has one line
    assert [line for line in lines if len(line) > _MOST_COLUMNS and not line.startswith(("    SAMPLES: ", "!["))] == []


def test_the_readme_answers_first_whether_it_is_safe() -> None:
    headings = re.findall(r"^## (.+)$", text_of("README.md"), re.MULTILINE)
    assert headings[:2] == ["Is it safe?", "Install"]


def test_the_picture_of_the_readme_is_small_and_described() -> None:
    ((words, path),) = re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", text_of("README.md"))
    picture = (ROOT / path).read_bytes()
    assert picture.startswith(b"\x89PNG\r\n")
    assert len(picture) <= 200 * 1024
    assert len(words.split()) >= 5


@pytest.mark.parametrize("head", ["| 0 | ", "| 1 | ", "| 2 | ", "| 4 | ", "| 5 | ", "| 6 | "])
def test_each_exit_status_is_on_both_pages(head: str) -> None:
    for name in ("README.md", USAGE):
        assert f"\n{head}" in text_of(name)


# docs/install.md ------------------------------------------------------------------------------


def test_the_packages_are_those_of_the_set_up() -> None:
    listed = text_of("scripts/setup.sh").partition("packages=(\n")[2].partition("\n)")[0]
    commands_of_setup = re.findall(r'^    \[[a-z-]+\]="(.+)"$', listed, re.MULTILINE)
    assert len(commands_of_setup) > 3
    assert re.findall(r"^\| .+ \| `(.+)` \|$", text_of("docs/install.md"), re.MULTILINE) == commands_of_setup
