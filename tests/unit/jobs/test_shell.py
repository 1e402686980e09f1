"""Shell scripts, read command by command: functions, loops, choices, scripts that they start."""

from __future__ import annotations

from pathlib import Path

import pytest

from reclaim.base.verdict import Verdict
from reclaim.engine.engine import Subject
from reclaim.jobs.calls import Script
from reclaim.jobs.shell import Shell, language_of
from reclaim.jobs.values import Text
from reclaim.jobs.words import shown
from tests.jobs import IMAGES, calls_of, declared_job, judged, read_shell, rsync, says_version
from tests.support import engine, requirement

__all__ = ["rsync"]


def test_a_script_that_cron_starts_is_read_and_not_edited(tmp_path: Path, rsync: Path) -> None:
    says_version(rsync, "3.4.1")
    script = tmp_path / "copy-images"
    script.write_text(f'#!/bin/bash\n. {tmp_path}/settings\nrsync -a "$FROM/" "$1/"\n')
    (tmp_path / "settings").write_text(f"FROM={IMAGES}\n")
    one = declared_job(tmp_path, "cron.d/copies", text=f"0 3 * * * root {script} /backup\n")
    result = engine(one.hypervisor, tmp_path).run(requirement("backup-job"), Subject(one.hypervisor, job=one))
    assert result.verdict is Verdict.NONCOMPLIANT
    assert f"{script} line 3: rsync without --sparse" in result.reason
    assert result.changes == []
    assert "--sparse" not in script.read_text()


def test_scripts_that_run_one_another_come_to_an_end(tmp_path: Path, rsync: Path) -> None:
    says_version(rsync, "3.4.1")
    first, second = tmp_path / "first.sh", tmp_path / "second.sh"
    first.write_text(f"#!/bin/sh\n{second}\n")
    second.write_text(f"#!/bin/sh\n{first}\n")
    one = declared_job(tmp_path, "job.sh", text=f"#!/bin/sh\n{first}\n")
    found = judged(one)
    assert found.verdict is Verdict.NOT_ASSESSABLE
    assert "run one another too deep" in found.reason


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "(" * 100_000 + ")" * 100_000,
        "echo " + "$(" * 30_000 + ")" * 30_000,
        "a && " * 50_000 + "b\n",
        "x=aaaaaaaaaaaaaaaa\n" + "x=$x$x\n" * 10_000,
        "a=(" + "w " * 500 + ")\n" + 'cp "${a[@]}" /b\n' * 3000,
        "".join(f"for v{n} in {'w ' * 40}; do " for n in range(8)) + "cp /a /b; " + "done; " * 8,
        "".join(f"f{n}() {{ f{n + 1}; f{n + 1}; }}\n" for n in range(500)) + "f0\n",
        "f() { f; }\nf\n",
        'rsync() { command rsync "$@"; }\nrsync -a IMG/ /b\n',
        "cp /" + "*a" * 5000 + " /b\n",
        "cp /v$a/$b/$c/$d/$e/$f/$g/i /b\n" * 500,
        "for x in a; do\n" + "b && continue\ncp /x /y\n" * 5000 + "done\n",
        "\n" * 200_000,
        "if\n" + "!(a)" * 2000,
        "\U000f0000\U000f0001 -a \ufffd\n",
        "trap 'trap \"x\" EXIT' EXIT\neval 'eval \"eval a\"'\nset --\nshift 99999\n. \n$\n`\n",
        "rsync\ncp\ntar\ndd\nvirsh\nlvcreate -s\nbtrfs send\nmount\nmv\nssh\nfind -exec\nxargs\n",
        "screen\nsu -c\nborg create\n",
        "rsync --exclude\nrsync -e\ntar -f\ntar c -C\nvirsh --domain\nvirsh -c\ndd if\nqemu-img convert\n",
        "cp -t\nssh -p\n",
    ],
)  # fmt: skip
def test_odd_texts_are_read_to_an_end(tmp_path: Path, rsync: Path, text: str) -> None:
    says_version(rsync, "3.4.1")
    one = declared_job(tmp_path, "job.sh", text="#!/bin/bash\n" + text.replace("IMG", IMAGES))
    assert judged(one).verdict in (Verdict.NOT_ASSESSABLE, Verdict.NONCOMPLIANT)


# Statements -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "commands"),
    [
        ("a; b\nc", ["a", "b", "c"]),
        ("a && b || c", ["a", "b", "c"]),
        ("! a", ["a"]),
        ("(a; b)", ["a", "b"]),
        ("{ a; b; }", ["a", "b"]),
        ("a | b | c", ["a", "b", "c"]),
        ("if a; then b; elif c; then d; else e; fi", ["a", "b", "c", "d", "e"]),
        ("case $x in a) b;; c|d) e;; esac", ["b", "e"]),
        ("while a; do b; done", ["a", "b"]),
        ("until a; do b; done", ["a", "b"]),
        ("for x in a b; do c $x; done", ["c a", "c b"]),
        ("set -- a b; for x; do c $x; done", ["c a", "c b"]),
        ("select x in a b; do c $x; done", ["c a", "c b"]),
        ("for ((i = 0; i < 3; i++)); do a; done", ["a"]),
        ("f() { a $1; }\nf b; f c", ["a b", "a c"]),
        ("function f { a; }\nf", ["a"]),
        ("f() { a; }", []),
        ("f() { a; }\nf() { b; }\nf", ["b"]),
        ("f() { command f $1; }\nf x", ["f x"]),
        ("f() { f; }\nf", ["f"]),
        ('f() { "$@"; }\nf a b', ["a b"]),
        ("x=$(a)", ["a"]),
        ('b "$(a)" <(c)', ["a", "c", "b … …"]),
        ("export x=$(a)", ["a"]),
        ("x=(a b); c ${x[@]}", ["c a b"]),
        ("a >/x 2>&1 </y", ["a"]),
        ("a <<EOF\nb\nEOF", ["a"]),
        ("a <<EOF | b\nx\nEOF", ["a", "b"]),
        ("a <<EOF && b\nx\nEOF", ["a", "b"]),
        ("# a\nb", ["b"]),
        ("sudo -u x nice a", ["a"]),
        ("x=y a", ["a"]),
        ("sh -c 'a; b'", ["a", "b"]),
        ("bash -ec 'a'", ["a"]),
        ("bash <<EOF\na\nEOF", ["a"]),
        ("bash -s x <<EOF\na\nEOF", ["a"]),
        ("bash <<< 'a b'", ["a b"]),
        ("[[ -f /x ]] && a", ["a"]),
        ("trap 'a' EXIT; b", ["b", "a"]),
    ],
)
def test_commands_come_in_the_order_in_which_they_run(text: str, commands: list[str]) -> None:
    script = read_shell(f"{text}\n")
    assert [shown(" ".join(word.text for word in call.words)) for call in script.calls] == commands
    assert script.unread == []
    assert script.whole


def values_of(text: str) -> list[str]:
    """The words of the last command."""
    return [shown(word.text) for word in read_shell(f"{text}\n").calls[-1].words[1:]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x=a; if b; then x=c; else x=c; fi; d $x", ["c"]),
        ("x=a; if b; then x=c; fi; d $x", ["…"]),
        ("x=-a; if b; then x='-a -S'; fi; d $x", ["-a…"]),
        ("x=a; if b; then c; fi; d $x", ["a"]),
        ("x=a; case $y in b) x=c;; esac; d $x", ["…"]),
        ("x=a; b && x=c; d $x", ["…"]),
        ("x=a; b || exit 1; d $x", ["a"]),
        ("x=a; while b; do x=c; done; d $x", ["…"]),
        ("x=a; (x=b); d $x", ["a"]),
        ("x=a; sh -c 'x=b'; d $x", ["a"]),
        ("x=a; y=$(x=b); d $x", ["a"]),
        ("x=a; { x=b; }; d $x", ["b"]),
        ("f() { x=b; }; x=a; f; d $x", ["b"]),
        ("f() { set -- z; }; set -- a; f b; d $1", ["a"]),
        ("x=a; for y in b c; do x=$y; done; d $x", ["c"]),
        ("x=a; for ((;;)); do x=b; done; d $x", ["…"]),
        ("x=a\nx=b d $x", ["a"]),
        ("x=a\ny=b\nd $x$y", ["ab"]),
        ("for x in $(e); do d $x; done", ["…"]),
        ("x=a; y=${x}b z=c; d $y $z", ["ab", "c"]),
        ("declare -r x=a; d $x", ["a"]),
        ("local x=a y=b; d $x $y", ["a", "b"]),
    ],
)
def test_a_value_is_known_if_every_way_leads_to_it(text: str, words: list[str]) -> None:
    assert values_of(text) == words


# Places ---------------------------------------------------------------------------------------


def test_a_command_has_its_line_and_the_place_of_its_options() -> None:
    text = "#!/bin/sh\n\nsudo rsync -a \\\n  /x /y\n"
    (call,) = calls_of(text)
    assert call.line == 3
    assert call.insert is not None
    assert text[: call.insert].endswith("sudo rsync")


def test_a_script_between_quotes_is_edited_where_it_stands() -> None:
    text = 'true\nsh -c \'rsync -a /x /y\'\nsh -c "rsync -a /x \\"y\\""\n'
    _, first, second = calls_of(text)
    assert first.insert is not None
    assert text[: first.insert].endswith("sh -c 'rsync")
    assert second.insert is None


def test_a_text_behind_another_offset_has_places_in_the_file() -> None:
    script = Script()
    Shell(script).read(Text(b"rsync -a /x /y\n", 100, 7))
    (call,) = script.calls
    assert (call.line, call.insert, call.words[1].start) == (7, 105, 106)


def test_a_function_that_runs_its_arguments_runs_them_for_the_line_that_gave_them() -> None:
    first, second = calls_of('run() {\n  "$@"\n}\ntrue_() { :; }\nrun rsync -a /x /y\nrun cp /x /y\n')
    assert (first.name, first.line) == ("rsync", 5)
    assert (second.name, second.line) == ("cp", 6)


def test_a_trap_has_the_line_in_which_it_is_set() -> None:
    text = "true\n\ntrap 'cp /x /y' EXIT\nlast\n"
    assert [(call.name, call.line) for call in calls_of(text)] == [("true", 1), ("last", 4), ("cp", 3)]


def test_the_last_traps_alone_are_read() -> None:
    text = "".join(f"trap 'a{number}' EXIT\n" for number in range(20))
    assert [call.name for call in calls_of(text)] == [f"a{number}" for number in range(12, 20)]


# Pipes, input and output ----------------------------------------------------------------------


def test_commands_of_a_pipeline_belong_together() -> None:
    first, second, other, single = calls_of("a | b\nc | true\nd\n")[:3] + calls_of("d\n")
    assert first.pipe == second.pipe > 0
    assert other.pipe not in (0, first.pipe)
    assert single.pipe == 0


def test_a_loop_in_a_pipeline_has_commands_of_its_own() -> None:
    *_, inner = calls_of("a | while read x; do b; done\n")
    assert inner.pipe == 0


def test_the_pipeline_behind_a_here_document_is_one() -> None:
    first, second = calls_of("a <<EOF | b\nx\nEOF\n")
    assert first.pipe == second.pipe > 0


@pytest.mark.parametrize(
    ("text", "stdin", "stdout"),
    [
        ("a < /x > /y", "/x", "/y"),
        ("a >> /y", None, "/y"),
        ("a >| /y", None, "/y"),
        ("a &> /y", None, "/y"),
        ("a &>> /y", None, "/y"),
        ("a 1> /y", None, "/y"),
        ("a 0< /x", "/x", None),
        ("a 2> /y", None, None),
        ("a > /y 2>&1", None, "/y"),
        ("a 2>&1", None, None),
        ("a >&2", None, None),
        ("X=/y; a > $X/z", None, "/y/z"),
        ("a > $X", None, "…"),
        ("a <<EOF > /y\nx\nEOF", None, "/y"),
        ("{ a; } > /y", None, "/y"),
        ("a < <(echo x)", None, None),
    ],
)
def test_the_files_of_input_and_output(text: str, stdin: str | None, stdout: str | None) -> None:
    (call,) = [call for call in calls_of(f"{text}\n") if call.name == "a"]
    assert (call.stdin and shown(call.stdin.text)) == stdin
    assert (call.stdout and shown(call.stdout.text)) == stdout


@pytest.mark.parametrize(
    "text",
    [
        "a <<< '/x'\nwhile read f; do cp $f /y; done <<< '/x'",
        "while read f; do cp $f /y; done < <(echo /x)",
        "echo /x | while read f; do cp $f /y; done",
        "echo /x | { read f; cp $f /y; }",
    ],
)
def test_the_words_of_an_input_that_is_known(text: str) -> None:
    call = read_shell(f"{text}\n").calls[-1]
    assert [shown(word) for word in call.texts][-1] == "/y"
    assert call.texts[0] in ("/x", "\U000f0000")


# The background -------------------------------------------------------------------------------


def test_a_command_in_the_background_goes_on_beside_the_others() -> None:
    first, second, third = calls_of("a &\nb &\nc\n")
    assert 0 < first.in_background != second.in_background > 0
    assert third.in_background == 0


def test_all_of_a_block_in_the_background_goes_on_together() -> None:
    first, second, third = calls_of("{ a; b; } &\nc\n")
    assert first.in_background == second.in_background > 0
    assert third.in_background == 0


def test_a_command_that_detaches_goes_on_too() -> None:
    first, second = calls_of("systemd-run a\nb\n")
    assert first.in_background > 0
    assert second.in_background == 0


# Choices --------------------------------------------------------------------------------------


def branches(text: str) -> list[tuple[tuple[int, int], ...]]:
    return [call.branch for call in read_shell(f"{text}\n").calls]


def test_the_arms_of_an_if_are_arms_of_one_choice() -> None:
    asked, then, other, behind = branches("if a; then b; else c; fi\nd")
    assert asked == behind == ()
    assert [choice for choice, _ in then] == [choice for choice, _ in other]
    assert then != other


def test_the_arms_of_a_case_are_arms_of_one_choice() -> None:
    first, second, behind = branches("case $x in a) b;; c) d;; esac\ne")
    ((choice, arm),) = first
    ((other_choice, other_arm),) = second
    assert (choice == other_choice, arm == other_arm) == (True, False)
    assert behind == ()


def test_a_command_behind_and_runs_perhaps() -> None:
    first, second, third, behind = branches("a && b && c\nd")
    assert first == behind == ()
    assert len(second) == 1
    assert third[:1] == second
    assert len(third) == 2


def test_a_command_behind_or_is_on_a_branch_of_its_own() -> None:
    _, second, third = branches("a && b || c")
    assert len(second) == len(third) == 1
    assert second != third


@pytest.mark.parametrize("text", ["a || exit 1", "a || return", "a && true", "a || exit $?"])
def test_a_part_that_only_leaves_is_no_command(text: str) -> None:
    assert branches(f"{text}\nb") == [(), ()]


@pytest.mark.parametrize(
    ("text", "is_asked"),
    [
        ("if virsh domstate web | grep running; then b; fi", True),
        ("virsh domstate web | grep running && b", True),
        ("case $(virsh domstate web) in running) b;; esac", True),
        ("if [ -d /backup ]; then b; fi", False),
        ("mountpoint -q /backup && b", False),
        ("virsh domstate web | grep running || b", False),
    ],
)
def test_a_choice_that_asks_whether_a_guest_runs(text: str, *, is_asked: bool) -> None:
    script = read_shell(f"{text}\n")
    choices = {choice for choice, _ in script.calls[-1].branch}
    assert bool(choices & script.asked) is is_asked


@pytest.mark.parametrize(
    ("guard", "is_guarded"),
    [
        ("if virsh list | grep -q web; then exit 1; fi", True),
        ("if virsh domstate web | grep running; then echo no; exit 1; fi", True),
        ("if virsh domstate web | grep running; then { exit; }; fi", True),
        ("if virsh domstate web | grep off; then echo yes; else exit 1; fi", True),
        ("if virsh domstate web | grep running; then exit 1 >/dev/null; fi", True),
        ("virsh domstate web | grep -q running && exit 1", True),
        ("virsh domstate web | grep -q running && { echo no; exit 1; }", True),
        ("is_up() { virsh domstate web | grep running; }\nif is_up; then exit 1; fi", True),
        ("die() { echo no; exit 1; }\nif virsh domstate web | grep running; then die; fi", True),
        ("if virsh domstate web | grep running; then echo no; fi", False),
        ("if virsh domstate web | grep running; then a && exit 1; fi", False),
        ("if [ -d /backup ]; then exit 1; fi", False),
        ("[ -d /backup ] || exit 1", False),
        ("say() { echo no; }\nif virsh domstate web | grep running; then say; fi", False),
    ],
)
def test_commands_behind_a_guard_run_only_for_some_answers(guard: str, *, is_guarded: bool) -> None:
    script = read_shell(f"{guard}\nlast\n")
    choices = {choice for choice, _ in script.calls[-1].branch}
    assert bool(choices & script.asked) is is_guarded
    assert bool(choices) is is_guarded


@pytest.mark.parametrize(
    ("text", "may_be_left"),
    [
        ("check $x && continue", True),
        ("if check $x; then continue; fi", True),
        ("case $x in web) continue;; esac", True),
        ("[ -z $x ] && continue", False),
        ('[ -n "$x" ] || continue', False),
        ("if [ -z $x ]; then continue; fi", False),
        ("[ ! -f $x ] && continue", False),
        ("test -z $x && break", False),
        ("check $x && echo yes", False),
    ],
)
def test_commands_behind_the_end_of_a_turn_run_for_some_turns(text: str, *, may_be_left: bool) -> None:
    script = read_shell(f"for x in $(a); do\n{text}\nlast $x\ndone\n")
    assert (script.calls[-1].branch != ()) is may_be_left
    assert script.asked == set()


# Files ----------------------------------------------------------------------------------------


def test_a_script_that_is_started_gets_its_arguments_and_no_variables() -> None:
    files = {"/opt/copy.sh": '#!/bin/sh\nX=2\ncp "$1" /b/$X/$Y\n'}
    script = read_shell("Y=1\n/opt/copy.sh /x\nlast $X\n", files)
    copy, last = script.calls
    assert [shown(text) for text in copy.texts] == ["/x", "/b/2/…"]
    assert (copy.file, copy.line, copy.insert) == ("/opt/copy.sh", 3, None)
    assert not last.words[1].is_sure
    assert script.unread == []


@pytest.mark.parametrize("text", ["bash /work/copy.sh", "sh -x copy.sh", "./copy.sh", "sudo -u x ./copy.sh"])
def test_scripts_are_found_by_path(text: str) -> None:
    script = read_shell(f"{text}\n", {"/work/copy.sh": "#!/bin/sh\ncp /x /y\n"})
    assert [call.name for call in script.calls] == ["cp"]
    assert script.unread == []


@pytest.mark.parametrize("folder", ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"])
def test_scripts_are_found_in_the_folders_of_programs(folder: str) -> None:
    files = {f"{folder}/copy-images": '#!/bin/sh\ncp "$1" /y\n'}
    for text in ("copy-images /x", "sudo copy-images /x"):
        script = read_shell(f"{text}\n", files)
        assert [(call.name, call.texts, call.file) for call in script.calls] == [
            ("cp", ["/x", "/y"], f"{folder}/copy-images")
        ]
        assert script.unread == []


@pytest.mark.parametrize("text", ["PATH=/opt/bin:$PATH; copy-images", "other-images", "ssh kvm2 copy-images"])
def test_a_program_that_may_lie_elsewhere_is_not_known(text: str) -> None:
    files = {"/usr/local/bin/copy-images": "#!/bin/sh\ncp /x /y\n", "/usr/bin/other-images": "\x7fELF"}
    assert [call.name for call in read_shell(f"{text}\n", files).calls] == [text.rsplit(maxsplit=1)[-1]]


def test_a_file_that_is_sourced_shares_variables_functions_and_folder() -> None:
    files = {"/etc/settings": "X=1\nf() { cp /x /y; }\ncd /srv\nexit_() { :; }\n"}
    script = read_shell(". /etc/settings\nf\nlast $X\n", files)
    copy, last = script.calls
    assert (copy.file, copy.folder) == ("/etc/settings", "/srv")
    assert last.texts == ["1"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/opt/gone.sh", "/opt/gone.sh"),
        ("bash /opt/gone.sh", "no such file"),
        (". /etc/gone", "/etc/gone"),
        (". gone", "gone"),
        (". $X", "…"),
        (".", "…"),
        ("bash $X", "…"),
        ("bash", "line 1"),
        ("bash -s", "line 1"),
        ('bash -c "$X"', "line 1"),
        ('eval "$X"', "line 1"),
        ("ssh kvm2 /opt/copy.sh", "/opt/copy.sh"),
        ("/opt/copy.py", "Python"),
    ],
)
def test_a_script_whose_content_is_not_known_is_told(text: str, words: str) -> None:
    script = read_shell(f"{text}\n", {"/opt/copy.py": "#!/usr/bin/env python3\n"})
    told = "; ".join([part.text for part in script.unread] + [shown(" ".join(call.texts)) for call in script.calls])
    if text.startswith("ssh"):
        assert [call.name for call in script.calls] == ["copy.sh"]
    else:
        assert words in told
        assert script.calls == []


def test_files_that_start_one_another_come_to_an_end() -> None:
    files = {f"/opt/{number}.sh": f"#!/bin/sh\na{number}\n/opt/{number + 1}.sh\n" for number in range(9)}
    script = read_shell("/opt/0.sh\n", files)
    assert [call.name for call in script.calls] == ["a0", "a1", "a2", "a3"]
    assert "/opt/4.sh" in script.unread[0].text


def test_files_that_read_one_another_come_to_an_end() -> None:
    files = {f"/opt/{number}": f"a{number}\n. /opt/{number + 1}\n" for number in range(9)}
    script = read_shell(". /opt/0\n", files)
    assert [call.name for call in script.calls] == ["a0", "a1", "a2", "a3"]
    assert "/opt/4" in script.unread[0].text
    again = read_shell(". /opt/own\n", {"/opt/own": "a\n. /opt/own\n"})
    assert [call.name for call in again.calls] == ["a"]
    assert "/opt/own" in again.unread[0].text


def test_nothing_is_read_without_files() -> None:
    script = Script()
    Shell(script).read(Text(b"/opt/copy.sh\n"))
    assert "/opt/copy.sh" in script.unread[0].text


@pytest.mark.parametrize(
    ("source", "path", "language"),
    [
        (b"#!/usr/bin/python3 -u\n", "", "Python"),
        (b"#!/usr/bin/env python3\n", "", "Python"),
        (b"#!/usr/bin/env -S perl -w\n", "", "Perl"),
        (b"#!/usr/bin/make -f\n", "", "make"),
        (b"#! /usr/bin/expect\n", "", "Expect"),
        (b"#!/bin/bash\n", "x.py", None),
        (b"#!/bin/sh -e\n", "", None),
        (b"#!\n", "", None),
        (b"import x\n", "/x.py", "Python"),
        (b"", "/x.rb", "Ruby"),
        (b"", "/x.sh", None),
        (b"", "", None),
        (b"#!" + b"x" * 100_000, "", None),
    ],
)
def test_the_language_of_a_script(source: bytes, path: str, language: str | None) -> None:
    assert language_of(source, path) == language


# Programs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("rsync", False),
        ("PATH=/usr/bin:/bin; rsync", False),
        ("PATH=/usr/local/bin/; rsync", False),
        ("PATH=$PATH:/opt/bin; rsync", False),
        ("PATH=/opt/bin:/usr/bin; rsync", True),
        ("PATH=/opt/bin:$PATH; rsync", True),
        ("PATH=/opt/bin; /usr/bin/rsync", False),
        ("PATH=/opt/bin:/bin; export PATH; f() { rsync; }; f", True),
    ],
)
def test_a_job_may_look_for_programs_elsewhere(text: str, *, other: bool) -> None:
    assert calls_of(f"{text}\n")[-1].other_programs is other


# Limits ---------------------------------------------------------------------------------------


def test_a_loop_over_many_words_is_read_once() -> None:
    assert len(calls_of(f"for x in {'a ' * 40}; do b $x; done\n")) == 40
    (call,) = calls_of(f"for x in {'a ' * 41}; do b $x; done\n")
    assert not call.words[1].is_sure


@pytest.mark.slow
def test_commands_without_end_are_told() -> None:
    script = read_shell("a\n" * 3000)
    assert len(script.calls) == 1499
    (part,) = script.unread
    assert "line 1500" in part.text


def test_blocks_within_blocks_come_to_an_end() -> None:
    script = read_shell("if a; then\n" * 100 + "b\n" + "fi\n" * 100)
    assert "b" not in [call.name for call in script.calls]
    assert script.unread != []
    assert "b" in [call.name for call in read_shell("if a; then\n" * 10 + "b\n" + "fi\n" * 10).calls]


def test_functions_that_call_one_another_come_to_an_end() -> None:
    text = "".join(f"f{number}() {{ f{number + 1}; }}\n" for number in range(200))
    script = read_shell(f"{text}f200() {{ a; }}\nf0\n")
    assert script.calls == []
    assert script.unread != []


def test_shells_within_shells_come_to_an_end() -> None:
    text = "".join(f"f{number}() {{ eval f{number + 1}; }}\n" for number in range(40))
    script = read_shell(f"eval 'eval \"eval a\"'\n{text}f0\n")
    assert [call.name for call in script.calls] == ["a"]
    assert script.unread != []


@pytest.mark.parametrize("text", ["a\necho 'never closed\n", "a\nif\n"])
def test_a_part_that_cannot_be_parsed_is_told_once(text: str) -> None:
    script = read_shell(text)
    assert not script.whole
    assert len(script.unread) == 1
    assert "line" in script.unread[0].text
