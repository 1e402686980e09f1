"""Programs that run others: the commands that they run, with the words that these get."""

from __future__ import annotations

import pytest

from reclaim.jobs.words import UNKNOWN, Origin, shown
from tests.jobs import calls_of, read_shell


def lines(text: str) -> list[str]:
    """The commands of a script, with an ellipsis for each part that is not known."""
    return [shown(" ".join(word.text for word in call.words)) for call in read_shell(text).calls]


def unread(text: str) -> str:
    """The parts of a script that were not understood."""
    return "; ".join(part.text for part in read_shell(text).unread)


# find and xargs -------------------------------------------------------------------------------


def found(text: str) -> list[Origin]:
    """The origins of all words of the last command."""
    script = read_shell(text)
    return [origin for word in script.calls[-1].words for origin in script.origins.within(word.text)]


@pytest.mark.parametrize(
    ("text", "commands"),
    [
        ("find /b -name '*.img' -exec cp {} /c \\;", ["find", "cp … /c"]),
        ("find /b -execdir cp {} /c/{}.old +", ["find", "cp … /c/….old"]),
        ("find /b /c -ok cp {} /d \\;", ["find", "cp … /d", "cp … /d"]),
        ("find /b -exec sh -c 'cp /x /y' \\;", ["find", "cp /x /y"]),
        ("find /b -exec cp {} /c \\; -exec gzip {} \\;", ["find", "cp … /c", "gzip …"]),
        ("find /b -exec cp {} /c", ["find", "cp … /c"]),
        ("find /b -exec", ["find"]),
        ("find /b -delete", ["find"]),
        ("find -exec cp {} /c \\;", ["find", "cp … /c"]),
    ],
)
def test_find_runs_a_command_for_each_path_that_it_begins_at(text: str, commands: list[str]) -> None:
    assert lines(text) == commands


def test_the_files_of_find_are_known_by_their_place_and_name() -> None:
    assert found("find /b -name '*.img' -exec cp {} /c \\;") == [Origin("found", path="/b", name="*.img")]
    assert found("cd /srv; find . -exec cp {} /c \\;") == [Origin("found", path="/srv/")]


def test_find_that_begins_at_many_paths_runs_a_command_for_some() -> None:
    paths = " ".join(f"/b{number}" for number in range(20))
    assert len(lines(f"find {paths} -exec cp {{}} /c \\;")) == 9


@pytest.mark.parametrize(
    ("text", "commands"),
    [
        ("echo /a /b | xargs cp -t /c", ["echo /a /b", "cp -t /c /a", "cp -t /c /b"]),
        ("echo /a | xargs -I{} cp {} /c/{}", ["echo /a", "cp /a /c//a"]),
        ("echo /a | xargs -I {} cp {} /c", ["echo /a", "cp /a /c"]),
        ("echo /a | xargs -n 1 -P 4 -0 cp -t /c", ["echo /a", "cp -t /c /a"]),
        ("echo /a | xargs --max-args 1 cp -t /c", ["echo /a", "cp -t /c /a"]),
        ("cat /list | xargs cp -t /c", ["cat /list", "cp -t /c …"]),
        ("xargs cp -t /c", ["cp -t /c …"]),
        ("echo /a | xargs", ["echo /a"]),
        ("echo /a | xargs -r -I", ["echo /a"]),
    ],
)
def test_xargs_gives_a_command_the_words_of_its_input(text: str, commands: list[str]) -> None:
    assert lines(text) == commands


def test_xargs_that_gets_many_words_runs_a_command_for_some() -> None:
    assert len(lines(f"echo {' '.join(map(str, range(30)))} | xargs cp -t /c")) == 9


# parallel, screen, tmux, su -------------------------------------------------------------------


@pytest.mark.parametrize("command", ["rsync -a {} /b", "scp", "dd if={}", "qemu-img convert", "tar cf"])
def test_parallel_is_not_read_if_it_may_copy(command: str) -> None:
    assert "parallel" in unread(f"ls /a | parallel {command}\n")


def test_parallel_from_its_input_may_run_anything() -> None:
    assert "line 1" in unread("parallel < /list\n")
    assert unread("parallel gzip -l ::: /a\n") == ""
    assert lines("parallel gzip -l ::: /a\n") == ["parallel gzip -l ::: /a"]


@pytest.mark.parametrize(
    "text",
    [
        "screen -dmS backup cp /a /b",
        "screen -d -m cp /a /b",
        "screen -S backup -dm cp /a /b",
        "screen -L -t title -dm cp /a /b",
        "tmux new-session -d 'cp /a /b'",
        "tmux new -d 'cp /a /b'",
        "tmux neww 'cp /a /b'",
    ],
)
def test_a_terminal_of_its_own_runs_beside_the_job(text: str) -> None:
    (call,) = calls_of(f"{text}\n")
    assert [word.text for word in call.words] == ["cp", "/a", "/b"]
    assert call.in_background > 0


def test_a_terminal_within_the_background_is_a_part_of_that() -> None:
    first, second = calls_of("{ true; screen -dm cp /a /b; } &\n")
    assert first.in_background == second.in_background > 0


@pytest.mark.parametrize(
    "text", ["screen", "screen -S x -X stuff 'cp'", "screen -r", "tmux", "tmux attach", "tmux new"]
)
def test_what_is_typed_into_a_terminal_is_not_known(text: str) -> None:
    assert text.split(maxsplit=1)[0] in unread(f"{text}\n")
    assert lines(f"{text}\n") == []


@pytest.mark.parametrize(
    "text",
    [
        "su - backup -c 'cd /srv; cp /a /b'",
        "su -c 'cd /srv; cp /a /b'",
        "su backup --command 'cd /srv; cp /a /b'",
        "su -lc 'cd /srv; cp /a /b'",
        "runuser backup -c 'cd /srv; cp /a /b'",
    ],
)
def test_the_script_of_another_user_is_read_in_a_shell_of_its_own(text: str) -> None:
    copy, last = calls_of(f"{text}\nlast\n")
    assert [word.text for word in copy.words] == ["cp", "/a", "/b"]
    assert (copy.folder, last.folder) == ("/srv", "/work")


@pytest.mark.parametrize("text", ["su", "su - backup", "su backup < /script"])
def test_a_shell_of_another_user_runs_what_is_not_known(text: str) -> None:
    assert "line 1" in unread(f"{text}\n")


# ssh ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "commands"),
    [
        ("ssh kvm2 'cp /a /b; cp /c /d'", ["cp /a /b", "cp /c /d"]),
        ("ssh kvm2 cp /a /b", ["cp /a /b"]),
        ("ssh -p 22 -i /key kvm2 cp /a /b", ["cp /a /b"]),
        ("ssh -p22 kvm2 cp /a /b", ["cp /a /b"]),
        ("ssh -Ci /key kvm2 cp /a /b", ["cp /a /b"]),
        ("ssh -o BatchMode=yes -T kvm2 cp /a /b", ["cp /a /b"]),
        ("ssh kvm2 'cp /a /b' > /log", ["cp /a /b"]),
        ("ssh kvm2 bash <<EOF\ncp /a /b\nEOF\n", ["cp /a /b"]),
        ("ssh kvm2 bash -s <<'EOF'\ncp /a /b\nEOF\n", ["cp /a /b"]),
        ("ssh kvm2 <<EOF\ncp /a /b\nEOF\n", ["cp /a /b"]),
        ("A=/x; ssh kvm2 cp $A /b", ["cp /x /b"]),
        ("A=/x; ssh kvm2 'cp $A /b'", ["cp … /b"]),
        ("f() { cp /a /b; }\nssh kvm2 f", ["f"]),
        ("ssh", []),
        ("ssh -V", []),
    ],
)
def test_the_commands_that_ssh_runs(text: str, commands: list[str]) -> None:
    assert lines(text) == commands


def test_commands_of_another_machine_have_its_name_and_no_place() -> None:
    copy, last = calls_of("ssh kvm2 'rsync -a /x /y'\nlast\n")
    assert (copy.host, copy.insert, copy.folder) == ("kvm2", None, UNKNOWN)
    assert all(word.start is None for word in copy.words)
    assert (last.host, last.folder) == ("", "/work")


def test_a_machine_whose_name_is_not_known_is_another_one() -> None:
    (copy,) = calls_of("ssh \"$HOST\" 'rsync -a /x /y'\n")
    assert copy.host == "…"
    (copy,) = calls_of("ssh '' 'rsync -a /x /y'\n")
    assert copy.host == "another machine"


@pytest.mark.parametrize("text", ["ssh kvm2", "ssh kvm2 < /script", "cat /script | ssh kvm2"])
def test_a_shell_on_another_machine_runs_what_is_not_known(text: str) -> None:
    assert "kvm2" in unread(f"{text}\n")


# run-parts, virsh, ip -------------------------------------------------------------------------


def test_run_parts_names_its_folder() -> None:
    assert "/etc/cron.daily" in unread("run-parts --report /etc/cron.daily\n")
    assert "…" in unread("run-parts\n")


@pytest.mark.parametrize(
    ("text", "commands"),
    [
        ("virsh suspend web", ["virsh suspend web"]),
        ("virsh -c qemu:///system suspend web", ["virsh -c qemu:///system suspend web"]),
        ("virsh <<EOF\nsuspend web\n# no\n\nresume web\nEOF\n", ["virsh suspend web ; resume web"]),
        ("virsh -c qemu:///system <<'EOF'\nsuspend web; resume web\nEOF\n",
         ["virsh -c qemu:///system suspend web ; resume web"]),
        ("virsh -q <<< 'suspend web'", ["virsh -q suspend web"]),
        ("virsh suspend web <<< 'resume web'", ["virsh suspend web"]),
        ("virsh", ["virsh"]),
        ("virsh -c qemu:///system", ["virsh -c qemu:///system"]),
    ],
)  # fmt: skip
def test_virsh_without_a_command_takes_those_of_its_input(text: str, commands: list[str]) -> None:
    assert lines(text) == commands


@pytest.mark.parametrize("text", ["virsh <<EOF\nsuspend $GUEST\nEOF\n", "virsh <<EOF\nsuspend `a`\nEOF\n",
                                  'virsh <<< "suspend $GUEST"\n', "virsh <<EOF\nsuspend a\\b\nEOF\n"])  # fmt: skip
def test_commands_of_virsh_that_are_put_together_are_not_known(text: str) -> None:
    assert "line 1" in unread(text)
    assert lines(text) == []


def test_commands_of_virsh_without_end_are_not_read() -> None:
    most = "suspend web\n" * 500
    assert unread(f"virsh <<EOF\n{most}EOF\n") == ""
    assert "virsh" in unread(f"virsh <<EOF\n{most}suspend web\nEOF\n")
    assert "virsh" in unread(f"virsh <<EOF\n{'a;' * 600}\nEOF\n")


@pytest.mark.parametrize(
    ("text", "commands"),
    [
        ("ip netns exec backup cp /a /b", ["cp /a /b"]),
        ("ip vrf exec backup cp /a /b", ["cp /a /b"]),
        ("ip netns exec backup", ["ip netns exec backup"]),
        ("ip netns list x y z", ["ip netns list x y z"]),
        ("ip link set eth0 up", ["ip link set eth0 up"]),
    ],
)
def test_ip_runs_a_command_in_another_network(text: str, commands: list[str]) -> None:
    assert lines(text) == commands
