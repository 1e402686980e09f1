"""The rows of docs/faults.md."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """A fault, what happens then, and the test that shows it."""

    fault: str
    happens: str
    test: str
    fuzzed: bool = False


_KILLED = "tests/faults/test_killed.py::test_killed_at_every_point"
_REFUSED = "tests/faults/test_refused.py::test_refused_at_every_point"
_GONE = "tests/faults/test_libvirt_gone.py::test_at_every_call"
_CUT = "tests/guest/test_interrupted.py::"
_WHOLE = "every file is whole or absent; the next run tells of it; `--fix` and undo end well"
FAULTS = (
    Fault("SIGKILL at any write, sync, rename or define of `--fix`", _WHOLE, f"{_KILLED}[fix]"),
    Fault("the same in the `--fix` that carries on after that", _WHOLE, f"{_KILLED}[fix-again]"),
    Fault("SIGKILL in undo", "undo again gives every byte back", f"{_KILLED}[undo]"),
    Fault("the same in the undo after that", "undo again gives every byte back", f"{_KILLED}[undo-again]"),
    Fault(
        "SIGKILL while a copy is written anew",
        "the copy reads as before; what lies beside it is named by the next run, and undo removes it",
        f"{_KILLED}[rewrite]",
    ),
    Fault("SIGKILL while old runs are removed (`--keep`)", "no run is there by half", f"{_KILLED}[keep]"),
    Fault(
        "SIGKILL at each record of the journal, on a real guest",
        "the guest runs or can be started; the next run tells of it; carrying on and undo end well",
        f"{_CUT}test_killed_at_each_record",
    ),
    Fault(
        "SIGKILL while a real guest is off",
        "the next `--fix` starts it on what booted",
        f"{_CUT}test_killed_while_the_guest_is_off",
    ),
    Fault(
        "the disk is full (ENOSPC), at any point",
        "findings and sentence are told; what cannot be journaled is not done",
        f"{_REFUSED}[fix-ENOSPC]",
    ),
    Fault("the disk fails (EIO), at any point", "as above; undo gives all back", f"{_REFUSED}[fix-EIO]"),
    Fault("the disk turns read-only (EROFS), at any point", "as above", f"{_REFUSED}[fix-EROFS]"),
    Fault(
        "too many open files (EMFILE), at any point",
        "as above; what could not be looked at is told so",
        f"{_REFUSED}[fix-EMFILE]",
    ),
    Fault(
        "no room while a copy is written anew",
        "the copy stays as it is, and nothing beside it",
        f"{_REFUSED}[rewrite-ENOSPC]",
    ),
    Fault("an I/O error while a copy is written anew", "the same", f"{_REFUSED}[rewrite-EIO]"),
    Fault(
        "reports on a tmpfs of 8 to 64 KiB",
        "findings and sentence are told, no half files",
        "tests/faults/test_refused.py::test_a_small_filesystem_for_the_reports",
    ),
    Fault(
        "reports on a read-only filesystem",
        "refused in one line, nothing changed",
        "tests/faults/test_refused.py::test_reports_that_are_read_only",
    ),
    Fault(
        "undo on a full disk", "told; undo can be asked again", "tests/faults/test_refused.py::test_undo_on_a_full_disk"
    ),
    Fault(
        "a guest's root filesystem is full, /boot with it (the lab's guest `full`)",
        "nothing is begun in it; its row says how much is missing",
        "tests/guest/test_matrix.py::test_where_nothing_can_be_written_nothing_is_left_half_written",
    ),
    Fault("libvirtd ends at any call and stays away", "words, no wrong verdict; undo is exact", f"{_GONE}[away]"),
    Fault(
        "libvirtd is started anew at any call", "the run goes on, or tells what it did not do", f"{_GONE}[restarted]"
    ),
    Fault("somebody edits a definition at any call", "the edit stays", f"{_GONE}[edited]"),
    Fault("somebody removes a guest at any call", "its rows say so; it is not made again", f"{_GONE}[undefined]"),
    Fault("somebody renames a guest at any call", "no wrong verdict", f"{_GONE}[renamed]"),
    Fault(
        "libvirtd dies in the power cycle of a real guest",
        "the run connects anew and finishes",
        f"{_CUT}test_libvirtd_dies_in_the_middle",
    ),
    Fault(
        "hostile or broken input of any parser",
        "the project's own errors, in time that its length allows",
        "tests/fuzz/test_fuzz.py::test_no_input_is_too_much",
        fuzzed=True,
    ),
    Fault(
        "very much input of any parser",
        "four times as much takes four times as long",
        "tests/fuzz/test_fuzz.py::test_time_grows_with_the_length_alone",
    ),
    Fault(
        "fix and undo, over and over",
        "no descriptor, thread, file or memory is left; definitions are the same bytes",
        "tests/faults/test_soak.py::test_a_mixed_fleet_fixed_and_undone",
    ),
    Fault(
        "the same on a real guest, with its power cycles",
        "the guest is what it was",
        "tests/guest/test_soak.py::test_a_guest_is_what_it_was_after_each_cycle",
    ),
)
