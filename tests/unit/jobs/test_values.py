"""The values of words, as far as a script determines them: expansions, the output of commands, joined branches."""

from __future__ import annotations

import pytest

from reclaim.jobs.values import MOST_WORDS, State, Text, joined
from reclaim.jobs.words import LONGEST, UNKNOWN, Origin, shown
from tests.jobs import read_shell, texts_of


def words_of(text: str) -> list[str]:
    """The words of the last command, with an ellipsis for all that is not known."""
    return [shown(word.text) for word in read_shell(text).calls[-1].words[1:]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        # quotes and backslashes
        ("a 'b c' \"d e\" f\\ g", ["b c", "d e", "f g"]),
        ("a 'b'c\"d\"", ["bcd"]),
        ('a "b\\"c\\$d\\`e\\\\f\\g"', ['b"c$d`e\\f\\g']),
        ('a "b\\\nc"', ["bc"]),
        ("a $'b'", ["b"]),
        ("a $'b\\n'", ["…"]),
        ("a ''", [""]),
        ('A=x; a "b $A c"', ["b x c"]),
        # variables
        ("A=x; a $A ${A} \"$A\" '$A' \\$A", ["x", "x", "x", "$A", "$A"]),
        ("A='x y'; a $A", ["x", "y"]),
        ("A='x y'; a \"$A\"", ["x y"]),
        ("A=x; A+=y; a $A", ["xy"]),
        ("A=; a $A b", ["b"]),
        ('A=; a "$A" b', ["", "b"]),
        ("a $A", ["…"]),
        ("A=x; a /b/$A/c.img", ["/b/x/c.img"]),
        ("A=/b; a $A/{x,y}", ["/b/{x,y}"]),
        # arrays
        ('A=(x "y z"); a "${A[@]}"', ["x", "y z"]),
        ("A=(x 'y z'); a ${A[@]}", ["x", "y", "z"]),
        ("A=(x y); A+=(z); a ${A[*]}", ["x", "y", "z"]),
        ('A=(x y); a "${A[*]}"', ["x y"]),
        ("A=(x y); a $A", ["x"]),
        ('A=(x y); a "${A[0]}"', ["x"]),
        ("A=(x y); A[1]=z; a ${A[@]}", ["…"]),
        ('A=(x y); a "${A[1]}"', ["…"]),
        ('a "${A[@]}"', ["…"]),
        # arguments
        ('set -- x "y z"; a "$@"', ["x", "y z"]),
        ('set -- x "y z"; a $*', ["x", "y", "z"]),
        ('set -- x "y z"; a "$*"', ["x y z"]),
        ('set -- x "y z"; a "${@}"', ["x", "y z"]),
        ("set -- x y; a $2 b$3", ["y", "b"]),
        ("set -- x y; a ${01} ${002}", ["x", "y"]),
        ("set -- x y; a b${100002}c${" + "9" * 5000 + "}", ["bc"]),
        ('a "$@"', ["…"]),
        ("a $0", ["…"]),
        ("set --; a ${00} ${000}", ["…", "…"]),
        # braces
        ("a {b,c}", ["b", "c"]),
        ("a x{b,c}y", ["xby", "xcy"]),
        ("a {'b',\"c\"}", ["b", "c"]),
        ("a {b}", ["{b}"]),
        ("a '{b,c}'", ["{b,c}"]),
        # defaults
        ("A=x; a ${A:-y}", ["x"]),
        ("A=; a ${A:-y}", ["y"]),
        ("A=; a ${A-y}", ["y"]),
        ("A=; a ${A:=y}", ["y"]),
        ("a ${A:-y}", ["…"]),
        ("A=x; a ${A:?none}", ["x"]),
        ("set -- x; a ${1:-y} ${2:-z}", ["x", "z"]),
        ('a "${1:-y}"', ["…"]),
        # pieces cut off
        ("A=/b/c.tar.gz; a ${A##*/}", ["c.tar.gz"]),
        ("A=/b/c.tar.gz; a ${A%/*}", ["/b"]),
        ("A=c.tar.gz; a ${A%.*} ${A%%.*} ${A#*.} ${A##*.}", ["c.tar", "c", "tar.gz", "gz"]),
        ("A=c.img; a ${A%.qcow2}", ["c.img"]),
        ('A=c.img; B=.img; a ${A%"$B"}', ["c"]),
        ("A=c.img; B=.img; a ${A%$B}", ["…"]),
        ("A=c.img; B=.img; a ${A%${B}}", ["…"]),
        ("A=c.img; a ${A%$(cat /etc/end)} ${A%`cat /etc/end`}", ["…", "…"]),
        ("A=/b/$X/c; a ${A##*/} ${A%/*}", ["c", "/b/…"]),
        ("A=$X; a ${A##*/}", ["…"]),
        ("A=/b/$X; a ${A#/b}", ["…"]),
        ("A=abc; a ${A/b/x} ${#A} ${A:1}", ["…", "…", "…"]),
        # references
        ("B=x; declare -n A=B; a $A", ["x"]),
        ("declare -n A=B; A=x; a $B", ["x"]),
        ("declare -n A=$X; B=x; A=y; a $B", ["…"]),
        ("a $((1 + 2))", ["…"]),
    ],
)
def test_the_words_that_a_command_gets(text: str, words: list[str]) -> None:
    assert words_of(text) == words


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("echo x y", ["x", "y"]),
        ("echo -n x", ["x"]),
        ("sudo echo x", ["x"]),
        ("printf '%s\\n' x y", ["x", "y"]),
        ("printf '%s' x", ["x"]),
        ("printf '%d' x", ["…"]),
        ("printf x", ["…"]),
        ("which rsync", ["rsync"]),
        ("command -v rsync", ["rsync"]),
        ("type -p rsync", ["rsync"]),
        ("which a b", ["…"]),
        ("basename /b/c.img", ["c.img"]),
        ("basename /b/c.img .img", ["c"]),
        ("basename /b/.img .img", [".img"]),
        ("basename /b/c/", ["c"]),
        ("basename c.img .img", ["c"]),
        ("basename -- /b/c", ["c"]),
        ("basename /b/$X.img .img", ["…"]),
        ("basename", ["…"]),
        ("dirname /b/c/d", ["/b/c"]),
        ("dirname c/d", ["…"]),
        ("realpath -e /b/c", ["/b/c"]),
        ("readlink -f /b/c", ["/b/c"]),
        ("realpath c", ["…"]),
        ("realpath /b /c", ["…"]),
        ("pwd", ["/work"]),
        ("cd /srv && pwd", ["…"]),
        ("losetup --find --show /b/c.img", ["/b/c.img"]),
        ("losetup -f", ["…"]),
        ("ls /b/*.img", ["/b/*.img"]),
        ("ls *.img", ["*.img"]),
        ("ls b/*.img", ["/work/b/*.img"]),
        ("ls /b/?.img", ["/b/?.img"]),
        ("cat /etc/list", ["…"]),
        ("echo x | sort", ["x"]),
        ("echo x | tee /tmp/log | uniq", ["x"]),
        ("echo x | grep y", ["…"]),
        ("echo x | frobnicate", ["…"]),
        ("echo x 2>/dev/null", ["x"]),
    ],
)
def test_the_output_of_a_command(command: str, words: list[str]) -> None:
    assert words_of(f"a $({command})") == words


def test_backquotes_are_a_substitution_too() -> None:
    assert words_of("a `basename /b/c.img .img`") == ["c"]


GUESTS = Origin("guest", every=True, runs=True)


@pytest.mark.parametrize(
    ("command", "origin"),
    [
        ("virsh list --name", GUESTS),
        ("virsh -c qemu:///system list --name", GUESTS),
        ("virsh -q list --name", GUESTS),
        ("virsh list --all --name", Origin("guest", every=True)),
        ("virsh list --inactive --name", Origin("guest")),
        ("virsh list --state-shutoff --name", Origin("guest")),
        ("virsh domblklist web", Origin("image", guest="web")),
        ("virsh dumpxml web | grep source", Origin("image", guest="web")),
        ("virsh domblklist", Origin()),
        ("virsh version", Origin()),
        ("virsh", Origin()),
        ("ls /b", Origin("found", path="/b")),
        ("ls", Origin("found", path="/work/")),
        ("ls -1 b", Origin("found", path="/work/b")),
        ("find /b -name '*.img'", Origin("found", path="/b", name="*.img")),
        ("find /b -iname '*.iM' -print", Origin("found", path="/b", name="*.[iI][mM]")),
        ("find /b -iname '[x].img' -print", Origin("found", path="/b")),
        ("find /b ! -name '*.iso'", Origin("found", path=UNKNOWN)),
        ("find /b -not -iname '*.iso'", Origin("found", path=UNKNOWN)),
        ("find /b -name $X", Origin("found", path=UNKNOWN)),
        ("find /b ! -type d -name '*.img'", Origin("found", path="/b", name="*.img")),
        ("find /b -name '*.img' -o -name '*.raw'", Origin("found", path="/b")),
        ("find b -type f", Origin("found", path="/work/b")),
        ("find -type f", Origin("found", path="/work/")),
        ("find", Origin("found", path="/work/")),
        ("find ! -type d", Origin("found", path="/work/")),
        ("find -L -O2 /b -type f", Origin("found", path="/b")),
        ("date +%F", Origin("name")),
        ("date '+%F %T'", Origin()),
        ("date +%c", Origin()),
        ("date", Origin()),
        ("hostname", Origin("name")),
        ("mktemp -d", Origin("name")),
        ("virsh list --name | sort", GUESTS),
        ("virsh list | tail -n +3", GUESTS),
        ("virsh list | tail -n +3 | awk '{print $2}'", GUESTS),
        ("virsh list --name | grep .", GUESTS),
        ("virsh list --name | sed '/^$/d'", GUESTS),
        ("virsh list --name | sed 1,2d", GUESTS),
        ("virsh list --name | tr -d x", GUESTS),
        ("virsh list --name | head -n -1", GUESTS),
        ("virsh list --name | grep web", Origin("guest", runs=True)),
        ("virsh list --name | head -n 1", Origin("guest", runs=True)),
        ("virsh list | awk '/web/ {print $2}'", Origin("guest", runs=True)),
        ("virsh list --name | perl -ne print", Origin()),
        ("virsh domblklist web | grep vda", Origin("image", guest="web")),
        ("for g in a b; do virsh domblklist $g; done", Origin("image", guest=UNKNOWN)),
        ("for g in a b; do echo $g; done", Origin()),
    ],
)
def test_the_origin_of_an_output_that_is_not_known(command: str, origin: Origin) -> None:
    script = read_shell(f'A="$({command})"\na "$A"\n')
    (mark,) = (word.text for word in script.calls[-1].words[1:])
    found = script.origins.of(mark)
    assert found is not None
    assert found.after <= len(script.calls)
    assert (found.kind, found.guest, found.path, found.name, found.every, found.runs) == (
        origin.kind,
        origin.guest,
        origin.path,
        origin.name,
        origin.every,
        origin.runs,
    )


def test_the_same_date_is_the_same_word_and_another_is_not() -> None:
    first, second, other = (
        call.words[1].text
        for call in read_shell("a $(date +%F)\na $(date +%F)\na $(date +%s)").calls
        if call.name == "a"
    )
    assert first == second != other


def test_names_that_virsh_lists_are_one_word_and_other_output_may_be_several() -> None:
    script = read_shell('for g in $(virsh list --name); do a $g /b/$g.img $X "$X" x$X /b/$X $(hostname); done\n')
    (call,) = [call for call in script.calls if call.name == "a"]
    assert [word.splits for word in call.words[1:]] == [False, False, True, False, True, True, False]


def test_a_word_of_the_file_has_its_place_and_one_of_a_variable_has_not() -> None:
    source = "A=-S\nrsync $A -a $B 'x y'\n"
    words = read_shell(source).calls[-1].words
    places = [None if word.start is None else source[word.start : word.end] for word in words]
    assert places == ["rsync", None, "-a", "$B", "'x y'"]
    assert [word.is_literal for word in words] == [True, True, True, True, True]


@pytest.mark.parametrize(
    ("word", "is_literal"), [("'--sparse'", True), ("--x", True), ('"--$A"', False), ("-$A", False)]
)
def test_a_word_with_an_expansion_in_it_is_no_literal(word: str, *, is_literal: bool) -> None:
    words = read_shell(f"A=x\nrsync {word}\n").calls[-1].words
    assert words[1].is_literal is is_literal


# Limits ---------------------------------------------------------------------------------------


def test_a_value_that_doubles_is_not_known_at_some_length() -> None:
    text = "A=aaaaaaaa\n" + "A=$A$A\n" * 12
    assert words_of(f"{text}a $A\n") == ["a" * LONGEST]
    assert words_of(f"{text}A=$A$A\na $A\n") == ["…"]


def test_an_array_of_many_words_is_not_known() -> None:
    assert words_of(f"A=({'x ' * (MOST_WORDS + 1)})\na ${{A[@]}}\n") == ["…"]
    assert len(words_of(f"A=({'x ' * MOST_WORDS})\na ${{A[@]}}\n")) == MOST_WORDS


def test_many_variables_are_not_all_kept() -> None:
    state = State()
    for number in range(1000):
        state.set(f"v{number}", ["x"])
    assert len(state.variables) == 500
    state.set("v1", ["y"])
    assert state.variables["v1"] == ("y",)


def test_a_word_longer_than_any_is_not_known() -> None:
    state = State()
    state.set("A", ["x" * (LONGEST + 1), "y" * LONGEST])
    assert state.variables["A"] == (UNKNOWN, "y" * LONGEST)


def test_expansions_within_expansions_come_to_an_end() -> None:
    assert words_of(f"a {'${A:-' * 60}x{'}' * 60}") == ["…"]
    assert words_of(f"a {'$(echo ' * 60}x{')' * 60}") == ["…"]
    assert words_of("a $(echo $(echo x))") == ["x"]


# State ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs", "both"),
    [
        (("a",), ("a",), ("a",)),
        (("a",), ("b",), (UNKNOWN,)),
        (("-a",), ("-a", "-b"), ("-a", UNKNOWN)),
        (("-a", "-b"), ("-a",), ("-a", UNKNOWN)),
        (("-a",), ("-aS",), ("-a" + UNKNOWN,)),
        (("-aS",), ("-a",), ("-a" + UNKNOWN,)),
        (("a",), None, (UNKNOWN,)),
        (("a", "b"), ("a", "c"), (UNKNOWN,)),
        (("a", "b"), ("c",), (UNKNOWN,)),
        ((), ("a",), (UNKNOWN,)),
    ],
)
def test_a_variable_that_two_branches_set(
    ours: tuple[str, ...], theirs: tuple[str, ...] | None, both: tuple[str, ...]
) -> None:
    states = [State({"A": ours}), State({} if theirs is None else {"A": theirs})]
    assert joined(states).variables == {"A": both}
    assert states[0].variables == {"A": ours}


def test_joined_branches_keep_the_arguments_that_they_share() -> None:
    assert joined([State(arguments=("a",)), State(arguments=("a",))]).arguments == ("a",)
    assert joined([State(arguments=("a",)), State(arguments=("b",))]).arguments is None
    assert joined([State(arguments=("a",))]).arguments == ("a",)


def test_joined_branches_have_the_arrays_and_references_of_all() -> None:
    both = joined([State(arrays=frozenset("a"), references={"x": "y"}), State(arrays=frozenset("b"))])
    assert both.arrays == {"a", "b"}
    assert joined([State(), State(references={"x": "y"})]).references == {"x": "y"}


def test_a_copy_of_a_state_is_its_own() -> None:
    state = State({"A": ("x",)}, ("1",), frozenset("A"), "line", {"B": "A"})
    copy = state.copy()
    assert copy == state
    copy.set("A", ["y"])
    copy.references["C"] = "A"
    assert (state.variables, state.references) == ({"A": ("x",)}, {"B": "A"})


def test_a_state_that_forgets_keeps_its_folder_alone() -> None:
    state = State({"PWD": ("/b",), "A": ("x",)})
    state.forget()
    assert state.variables == {"PWD": ("/b",), "A": (UNKNOWN,)}
    assert state.folder == "/b"
    assert State().folder == UNKNOWN


def test_a_plain_value_in_the_place_of_an_array_is_none() -> None:
    state = State()
    state.set("A", ["x", "y"], array=True)
    state.set("B", ["x"])
    assert state.arrays == {"A"}
    state.set("A", ["z"])
    assert state.arrays == frozenset()


def test_the_first_word_of_a_variable() -> None:
    state = State({"A": ("x", "y"), "B": ()})
    assert [state.first_word(name) for name in "ABC"] == ["x", "", UNKNOWN]
    assert state.first_word("C", "/usr/bin") == "/usr/bin"


def test_a_text_from_elsewhere_has_no_places() -> None:
    assert Text(b"", 7).place(3) == 10
    assert Text(b"", None).place(3) is None


def test_a_command_behind_sudo_is_read_as_that() -> None:
    assert texts_of("a $(sudo virsh list --name)")[-1][0] == "a"
