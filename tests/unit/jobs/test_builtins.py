"""Builtins of the shell: what is known of variables, arguments and folders after each."""

from __future__ import annotations

import pytest

from reclaim.jobs.words import UNKNOWN, Origin, is_sure
from tests.jobs import calls_of, read_shell, texts_of


def folder_after(text: str) -> str:
    """The folder in which the last command runs."""
    return calls_of(f"{text}\nlast\n")[-1].folder


@pytest.mark.parametrize(
    ("text", "folder"),
    [
        ("cd /srv", "/srv"),
        ("cd images", "/work/images"),
        ("cd /srv/", "/srv"),
        ("cd /", "/"),
        ("cd -P -- /srv", "/srv"),
        ("cd /srv; cd ../b", "/b"),
        ("cd /srv; cd -", "/work"),
        ("cd /srv; cd - ; cd -", "/srv"),
        ("pushd /srv; popd", "/work"),
        ("pushd /srv", "/srv"),
        ("(cd /srv)", "/work"),
        ("cd -", UNKNOWN),
        ("popd", UNKNOWN),
        ("cd", UNKNOWN),
        ("cd ~/x", UNKNOWN),
        ("A=/srv; cd $A", "/srv"),
    ],
)
def test_the_folder_after_a_change_of_it(text: str, folder: str) -> None:
    assert folder_after(text) == folder


@pytest.mark.parametrize("text", ["OLDPWD=(); cd -", "OLDPWD=(); popd", "PATH=()"])
def test_an_array_of_no_words_in_the_place_of_a_folder_is_none(text: str) -> None:
    assert texts_of(f"{text}\nlast\n") == [["last"]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("set -- a b c; last $1 $3", "a c"),
        ("set -e -- a; last $1", "a"),
        ("set -- a b c; shift; last $1", "b"),
        ("set -- a b c; shift 2; last $1", "c"),
        ("set -- a b c; shift 9; last x$1", "x"),
        ("set -- a b c; shift x; last $1", "b"),
        ("set -- a b; set -x; last $1", "a"),
        ("set --; last x$1", "x"),
        ("A=b; unset A; last x$A", "x"),
        ("A=b; C=d; unset -v A E C; last x$A$C", "x"),
        ("A=b; builtin unset A; last x$A", "x"),
        ("A=(b c); unset A; last $A x", "x"),
        ("A=b; unset B; last $A", "b"),
        ("PATH=/opt/bin; unset PATH; last x", "x"),
        ("OPTIONS=--sparse; unset OPTIONS; last $OPTIONS /x", "/x"),
        ("export A=b; last $A", "b"),
        ("readonly A=b; last $A", "b"),
        ("local A=b C=d; last $A $C", "b d"),
        ("A=x; export A; last $A", "x"),
        ("export A=b=c; last $A", "b=c"),
        ("export 1A=b; last x", "x"),
        ("declare -a A; last x", "x"),
    ],
)
def test_variables_and_arguments_that_are_set(text: str, words: str) -> None:
    assert texts_of(text)[-1] == ["last", *words.split()]


@pytest.mark.parametrize(
    "text",
    [
        "unset A; last $A",
        'A=(b c); unset "A[1]"; last "${A[@]}"',
        "A=(b c); unset A[1]; last ${A[@]}",
        'A=b; unset "$B"; last $A',
        "A=b; unset $B; last $A",
        'set -- $B; last "$1"',
        'shift; last "$1"',
        "read A; last $A",
        "read -r -p Name A; last $A",
        "read; last $REPLY",
        "A=b; read A; last $A",
        "A=b; getopts a: A; last $A",
        "getopts a: X; last $OPTARG",
        "A=b; printf -v A %s x; last $A",
        "A=b; printf -v A[1] %s x; last $A",
        'mapfile A; last "${A[0]}"',
        'readarray -t A; last "${A[@]}"',
        'mapfile; last "${MAPFILE[@]}"',
    ],
)
def test_a_value_from_elsewhere_is_not_known(text: str) -> None:
    words = calls_of(text)[-1].words
    assert words[0].text == "last"
    assert not is_sure(words[1].text)


def test_an_argument_is_another_one_after_a_shift() -> None:
    first, again, shifted = (call.words[1].text for call in calls_of('a "$1"\nb "$1"\nshift\nc "$1"\n'))
    assert first == again
    assert shifted != first
    assert not is_sure(shifted)


def test_a_variable_is_the_same_after_a_shift() -> None:
    first, second = (call.words[1].text for call in calls_of('a "$A"\nshift\nb "$A"\n'))
    assert first == second


def test_a_line_is_read_into_one_name_or_parted_among_several() -> None:
    script = read_shell("virsh list --name | while read -r guest; do last $guest; done\n")
    mark = script.calls[-1].words[1].text
    assert script.origins.of(mark) == Origin("guest", every=True, runs=True)
    script = read_shell("virsh list | while read id guest; do last $id $guest; done\n")
    _, number, guest = script.calls[-1].words
    assert script.origins.of(guest.text) == script.origins.of(number.text) == Origin("guest", every=True, runs=True)
    script = read_shell("virsh list | while read id guest state; do last $id $guest; done\n")
    _, number, guest = script.calls[-1].words
    assert number.text != guest.text
    assert script.origins.of(guest.text) == Origin()


@pytest.mark.parametrize("text", ["eval 'cp /a /b'", "eval cp /a /b", 'eval "cp /a" /b', "trap 'cp /a /b' EXIT"])
def test_a_script_in_a_word_is_read(text: str) -> None:
    assert texts_of(text)[-1] == ["cp", "/a", "/b"]


def test_a_trap_runs_at_the_end() -> None:
    assert texts_of("trap 'virsh resume web' EXIT INT\nvirsh suspend web\n") == [
        ["virsh", "suspend", "web"],
        ["virsh", "resume", "web"],
    ]


@pytest.mark.parametrize("text", ["trap - EXIT", "trap '' EXIT", "trap -p", "trap -- EXIT", "trap", "eval", "alias"])
def test_a_builtin_that_runs_nothing_adds_no_command(text: str) -> None:
    assert texts_of(f"{text}\nlast\n") == [["last"]]


def test_a_trap_behind_its_options_is_read() -> None:
    assert texts_of("trap -- 'cp /a /b' EXIT\n") == [["cp", "/a", "/b"]]


def test_printf_is_a_command_too() -> None:
    assert texts_of("printf '%s' x\n") == [["printf", "%s", "x"]]


def test_an_alias_may_be_any_words_until_it_is_taken_back() -> None:
    script = read_shell("alias rsync='rsync -S'\nrsync -a /x /y\nunalias rsync\nrsync -a /x /y\n")
    assert [call.line for call in script.calls] == [4]
    assert len(script.unread) == 1
    assert "line 2" in script.unread[0].text
    assert "rsync" in script.unread[0].text


def test_an_alias_that_is_only_asked_for_stands_for_nothing() -> None:
    assert texts_of("alias rsync\nrsync -a /x /y\n") == [["rsync", "-a", "/x", "/y"]]


def test_a_file_that_is_sourced_sets_variables() -> None:
    files = {"/etc/backup.conf": "TARGET=/backup\n"}
    for word in (".", "source"):
        script = read_shell(f"{word} /etc/backup.conf\ncp /a $TARGET\n", files)
        assert script.calls[-1].texts == ["/a", "/backup"]
        assert script.unread == []
