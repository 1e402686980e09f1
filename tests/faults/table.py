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
_WHOLE = "every file is whole or absent; the next run reports it; `--fix` and undo finish"
FAULTS = (
    Fault("SIGKILL at any write, sync, rename or define of `--fix`", _WHOLE, f"{_KILLED}[fix]"),
    Fault("the same in the `--fix` that carries on after that", _WHOLE, f"{_KILLED}[fix-again]"),
    Fault("SIGKILL in undo", "a second undo gives every byte back", f"{_KILLED}[undo]"),
    Fault("the same in the undo after that", "a further undo gives every byte back", f"{_KILLED}[undo-again]"),
    Fault(
        "SIGKILL while a copy is written anew",
        "the copy has its old content; the next run names the file that is left beside it, and undo removes that",
        f"{_KILLED}[rewrite]",
    ),
    Fault("SIGKILL while old runs are removed (`--keep`)", "each run is whole or gone", f"{_KILLED}[keep]"),
    Fault(
        "SIGKILL at each record of the journal, on a real guest",
        "the guest runs or can be started; the next run reports it; `--fix` and undo finish",
        f"{_CUT}test_killed_at_each_record",
    ),
    Fault(
        "SIGKILL while a real guest is off",
        "the next `--fix` starts it on the definition that booted",
        f"{_CUT}test_killed_while_the_guest_is_off",
    ),
    Fault(
        "the disk is full (ENOSPC), at any point",
        "the run prints its findings and its sentence; it makes no change that it cannot journal",
        f"{_REFUSED}[fix-ENOSPC]",
    ),
    Fault("the disk fails (EIO), at any point", "as above; undo gives everything back", f"{_REFUSED}[fix-EIO]"),
    Fault("the disk turns read-only (EROFS), at any point", "as above", f"{_REFUSED}[fix-EROFS]"),
    Fault(
        "too many open files (EMFILE), at any point",
        "as above; the rows name everything that could not be looked at",
        f"{_REFUSED}[fix-EMFILE]",
    ),
    Fault(
        "no room while a copy is written anew",
        "the copy stays as it is, and no file is left beside it",
        f"{_REFUSED}[rewrite-ENOSPC]",
    ),
    Fault("an I/O error while a copy is written anew", "the same", f"{_REFUSED}[rewrite-EIO]"),
    Fault(
        "reports on a tmpfs of 8 to 64 KiB",
        "the run prints its findings and its sentence, and leaves no half file",
        "tests/faults/test_refused.py::test_a_small_filesystem_for_the_reports",
    ),
    Fault(
        "reports on a read-only filesystem",
        "reclaim refuses in one line, and changes nothing",
        "tests/faults/test_refused.py::test_reports_that_are_read_only",
    ),
    Fault(
        "undo on a full disk",
        "undo reports it, and can be run again",
        "tests/faults/test_refused.py::test_undo_on_a_full_disk",
    ),
    Fault(
        "a guest's root filesystem is full, /boot with it (the lab's guest `full`)",
        "reclaim changes no file in it and leaves none half written; its rows name the error (No space left on device)",
        "tests/guest/test_matrix.py::test_where_nothing_can_be_written_nothing_is_left_half_written",
    ),
    Fault(
        "libvirtd ends at any call and stays away",
        "the rows name the reason, no verdict is wrong, undo is exact",
        f"{_GONE}[away]",
    ),
    Fault(
        "libvirtd is started anew at any call",
        "the run goes on, or reports the steps that it left out",
        f"{_GONE}[restarted]",
    ),
    Fault("another user edits a definition at any call", "the edit stays", f"{_GONE}[edited]"),
    Fault(
        "another user removes a guest at any call",
        "its rows report that; reclaim does not define it again",
        f"{_GONE}[undefined]",
    ),
    Fault("another user renames a guest at any call", "no verdict is wrong", f"{_GONE}[renamed]"),
    Fault(
        "libvirtd dies in the power cycle of a real guest",
        "the run connects again and finishes",
        f"{_CUT}test_libvirtd_dies_in_the_middle",
    ),
    Fault(
        "hostile or broken input of any parser",
        "the project's own errors alone, and no more function calls than the input's length allows",
        "tests/fuzz/test_fuzz.py::test_no_input_is_too_much",
        fuzzed=True,
    ),
    Fault(
        "very much input of any parser",
        "four times the input takes little more than four times the function calls",
        "tests/fuzz/test_fuzz.py::test_time_grows_with_the_length_alone",
    ),
    Fault(
        "fix and undo, over and over",
        "no descriptor, thread, file or memory is left over; definitions are the same bytes",
        "tests/faults/test_soak.py::test_a_mixed_fleet_fixed_and_undone",
    ),
    Fault(
        "the same on a real guest, with its power cycles",
        "the guest is as it was before",
        "tests/guest/test_soak.py::test_a_guest_is_what_it_was_after_each_cycle",
    ),
)
