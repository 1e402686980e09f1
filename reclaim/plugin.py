"""The pytest side: options, parametrised checks, verdicts beside outcomes.

pytest's own outcomes stay passed, failed and skipped: a fourth one crashes pytest-html.
"""

from __future__ import annotations

import gc
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import libvirt
import pytest
from _pytest.runner import runtestprotocol

from reclaim import habits, options, parsed
from reclaim.base import discreet, home, stdout
from reclaim.base.errors import Mistakes, ProbeError, ReclaimError
from reclaim.base.home import CHECKS
from reclaim.base.text import counted, libvirt_words, printable, trouble
from reclaim.base.verdict import Judgement, Result, Verdict
from reclaim.engine import engine as engines
from reclaim.engine import reach
from reclaim.engine.engine import Subject
from reclaim.engine.part import Part
from reclaim.engine.run import Run
from reclaim.handles.guest import Guest
from reclaim.processes import bytecode, programs
from reclaim.report import junit, terminal
from reclaim.report.attached import attach, attached
from reclaim.requirement import Requirement, catalogue, requirement_of

if TYPE_CHECKING:
    from reclaim.engine.overlap import SideBySide
    from reclaim.report.publish import Pages

RUN = pytest.StashKey[Run]()
SUBJECT = pytest.StashKey[Subject]()
RESULT = pytest.StashKey[Result]()
PAGES: pytest.StashKey[Pages] = pytest.StashKey()
TROUBLES = pytest.StashKey["list[str]"]()
#: how --lf and --ff chose
NOTICES = pytest.StashKey["list[str]"]()
#: why nothing is judged
NOTES = pytest.StashKey["list[str]"]()
#: guests whose parsed definitions are kept from collecting to judging: 30 KiB each
_KEPT = 2000
SIGNALS = pytest.StashKey["dict[signal.Signals, Any]"]()
#: seconds in which a second signal means no more than the first
_MOMENT = 2.0
#: the signals of a terminal that goes away, and of kill(1)
_STOPPING = (signal.SIGTERM, signal.SIGHUP)
#: the file of --metrics, as long as it has nothing of this run
METRICS = pytest.StashKey[Path]()
PROGRESS = pytest.StashKey[terminal.Progress]()
#: the status of a run in which nothing is wrong, but something could not be looked at
NOT_ALL_CHECKED = 6
#: guests from which on their letters have no names: a fleet would take a screen for each twenty
_NAMED = 100
OVERLAP: pytest.StashKey[SideBySide] = pytest.StashKey()
_STOPPED_AGAIN = (
    "reclaim: stopped again: some guests that this run stopped or started may not be as they were; "
    "the next run names them"
)
HELD = pytest.StashKey["list[tuple[pytest.Item, list[pytest.TestReport]]]"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    for group in options.GROUPS:
        declared = parser.getgroup(group.name, group.title)
        for option in group.options:
            declared.addoption(option.flag, help=option.help, **option.settings)


# Setting up -----------------------------------------------------------------------------------


def _chooses(config: pytest.Config) -> bool:
    """True if the command line names less than all checks and all guests. -k and -m deselect."""
    option = config.option
    places = []
    for argument in config.args:
        path = config.invocation_params.dir / argument.partition("::")[0]
        is_all = "::" not in argument and path.resolve() in (CHECKS, *CHECKS.parents)
        places.append(is_all)
    return bool(option.guests or option.ignore or option.ignore_glob or not any(places))


def pytest_deselected(items: list[pytest.Item]) -> None:
    if items and (run := items[0].config.stash.get(RUN, None)):
        run.chosen = True


def _wants_checks(config: pytest.Config) -> bool:
    """True if checks are about to be collected. Unit tests of the project itself need no hypervisor."""
    option = config.option
    only_shows = option.help or option.version or option.markers
    shown = ("showfixtures", "show_fixtures_per_test")
    if only_shows or any(getattr(option, name, False) for name in shown):
        return False
    for argument in config.args:
        path = (config.invocation_params.dir / argument.partition("::")[0]).resolve()
        if path == CHECKS or CHECKS in path.parents or path in CHECKS.parents:
            return True
    return False


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_cmdline_main(
    config: pytest.Config,
) -> Generator[None, int, int]:
    """Write the file of --run-json at the end of the run, however it ends."""
    if not config.option.run_json or not _wants_checks(config):
        return (yield)
    from reclaim.report import run_json  # noqa: PLC0415 (start-up)

    path: Path = config.invocation_params.dir / config.option.run_json
    try:
        run_json.begin(path)
    except OSError as exc:
        raise pytest.UsageError(
            printable(f"{run_json.FLAG} {path}: {exc.strerror}")
        ) from exc
    try:
        status = yield
    except pytest.UsageError as exc:
        _write_end(config, path, pytest.ExitCode.USAGE_ERROR, list(map(str, exc.args)))
        raise
    except OSError as exc:  # from pytest's reporter
        _write_end(config, path, pytest.ExitCode.TESTS_FAILED, [trouble(exc)])
        raise
    is_lost = _write_end(config, path, status, config.stash.get(TROUBLES, []))
    return pytest.ExitCode.TESTS_FAILED if is_lost and not status else status


def _write_end(
    config: pytest.Config, path: Path, status: int, errors: list[str]
) -> bool:
    """Write the file of --run-json. Return True if that failed, which is printed."""
    from reclaim.report import run_json  # noqa: PLC0415 (start-up)

    option = config.option
    mode = "fix" if option.fix else "plan" if option.plan else "audit"
    run = config.stash.get(RUN, None)
    lost = run_json.write(path, run, mode, int(status), errors)
    if lost:
        sys.stderr.write(f"reclaim: {printable(lost)}\n")
    return bool(lost)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if not _wants_checks(config):
        habits.expect_no_near_miss(config)
        return
    metrics_file = parsed.file_of_metrics(config)
    if metrics_file is not None and not config.option.collectonly:
        config.stash[METRICS] = metrics_file
    home.make_importable()
    habits.settle_paths(config)
    habits.expect_workable(config)
    habits.expect_collecting(config)
    discreet.begin(config)
    run = config.stash[RUN] = Run(parsed.options_of(config, metrics_file))
    run.chosen = _chooses(config)
    if config.get_verbosity() >= 0:
        run.waits = _tell_early
    config.stash[HELD] = []
    config.stash[SIGNALS] = _before()
    _hear(config)
    run.left_out = programs.guard()
    bytecode.guard()
    try:
        run.open()
        if not config.option.collectonly:
            run.prepare()
            _tell_what_is_at_stake(run)
    except Mistakes as exc:
        raise pytest.UsageError(*exc.lines) from exc
    except ReclaimError as exc:
        raise pytest.UsageError(printable(str(exc))) from exc
    except libvirt.libvirtError as exc:
        raise pytest.UsageError(
            f"libvirt no longer answers: {printable(libvirt_words(exc))}"
        ) from exc
    except KeyboardInterrupt as exc:
        raise pytest.exit.Exception(
            "reclaim: stopped before anything was judged", pytest.ExitCode.INTERRUPTED
        ) from exc
    if run.recorded:
        from reclaim.report.publish import Pages  # noqa: PLC0415 (start-up)

        config.stash[PAGES] = Pages(config, run)


def _tell_early(text: str) -> None:
    """Print a line before pytest has its reporter. Its own lines stay what a script reads."""
    sys.stderr.write(f"reclaim: {printable(text)}\n")


def _tell_what_is_at_stake(run: Run) -> None:
    for part, record in (*run.interrupted, *run.elsewhere):
        from reclaim.engine import undo  # noqa: PLC0415 (start-up)

        # a guest may be gone meanwhile: its rows report that
        with suppress(libvirt.libvirtError):
            for guest, state in undo.at_stake(record, part.hypervisor):
                guest.left_off = None if guest.is_running else state
                run.at_stake.append(f"{guest.name}: {state}")


def _before() -> dict[signal.Signals, Any]:
    """Return the signals that end a run with their handlers. nohup(1) and the like ignore some on purpose."""
    if threading.current_thread() is not threading.main_thread():
        return {}  # signals are the main thread's
    handlers = {}
    for number in (*_STOPPING, signal.SIGINT):
        handler = signal.getsignal(number)
        if handler in (signal.SIG_DFL, signal.default_int_handler):
            handlers[number] = handler
    return handlers


def _hear(config: pytest.Config) -> None:
    for number in config.stash[SIGNALS]:
        signal.signal(number, _stop)


def _hear_nothing(config: pytest.Config) -> None:
    """Ignore signals while the record is written, which takes no time: a second Ctrl-C must not leave half of it."""
    for number in config.stash[SIGNALS]:
        signal.signal(number, signal.SIG_IGN)


@dataclass
class _Stop:
    """The handler that ends a run as Ctrl-C does: no guest is left down, and the record is written.

    A second signal within a moment is the same wish, as of a terminal that goes away.
    """

    until: float = 0.0

    def __call__(self, number: int, _frame: object) -> None:
        if time.monotonic() < self.until:
            return
        self.until = time.monotonic() + _MOMENT
        raise KeyboardInterrupt(signal.Signals(number).name)


_stop = _Stop()


@pytest.hookimpl(trylast=True, optionalhook=True)
def pytest_metadata(metadata: dict[str, Any]) -> None:
    discreet.metadata(metadata)


@pytest.hookimpl(tryfirst=True)
def pytest_internalerror(excrepr: object) -> None:
    discreet.redact_internal_error(excrepr)


def pytest_report_header(config: pytest.Config) -> list[str]:
    run = config.stash.get(RUN, None)
    return terminal.header(run) if run else []


@pytest.hookimpl(tryfirst=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    discreet.end()
    if progress := config.stash.get(PROGRESS, None):
        progress.stop()
    run = config.stash.get(RUN, None)
    if run is not None:
        _hear_nothing(config)
        if run.cut_short:  # a file that was being read when the signal came was not closed, and that is all
            warnings.filterwarnings(
                "ignore", category=pytest.PytestUnraisableExceptionWarning
            )
        run.abandon()
        run.hang_up()
    _note_attempt(config, run)
    for number, handler in config.stash.get(SIGNALS, {}).items():
        signal.signal(number, handler)


def _is_empty(run: Run) -> bool:
    """True if a hypervisor has nothing to judge, which is no failure."""
    is_judged = run.recorded or run.chosen or run.cut_short
    return run.is_collected and not is_judged


def _note_attempt(config: pytest.Config, run: Run | None) -> None:
    """Write into the file of --metrics that there was an attempt, unless the run itself wrote its figures."""
    path = config.stash.get(METRICS, None)
    if path is None:
        return
    from reclaim.report import metrics  # noqa: PLC0415 (start-up)

    success = run is not None and _is_empty(run)
    try:
        metrics.write(path, [], metrics.Attempt(datetime.now(timezone.utc), success))
    except OSError as exc:
        sys.stderr.write(f"reclaim: {printable(f'--metrics {path}: {trouble(exc)}')}\n")


# Collecting -----------------------------------------------------------------------------------


def pytest_pycollect_makeitem(
    collector: Any, name: str, obj: object
) -> list[Any] | None:
    """Leave out a check without its option or its key of the policy, or if --definitions-only rules it out."""
    requirement = requirement_of(obj)
    run = collector.config.stash.get(RUN, None)
    if requirement is None or run is None:
        return None
    return None if _is_judged(run, requirement) else []


def _is_judged(run: Run, requirement: Requirement) -> bool:
    options = run.options
    if options.definitions_only and not requirement.reads_definitions_only:
        return False
    if requirement.option and not getattr(options, requirement.option):
        return False
    if requirement.policy and not _policy_asks(run, requirement.policy):
        return False
    # without parameters pytest would make one item, skipped and without a subject
    return not _is_about_nothing(run, requirement)


def _policy_asks(run: Run, key: str) -> bool:
    return any(getattr(part.hypervisor.inventory.policy, key) for part in run.parts)


def _is_about_nothing(run: Run, requirement: Requirement) -> bool:
    try:
        return not _subjects(run, requirement)
    except libvirt.libvirtError:
        return False  # pytest_generate_tests reports it


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    requirement = requirement_of(metafunc.function)
    if requirement is None:
        return
    run = metafunc.config.stash.get(RUN, None)
    # with --fixtures there is no run
    parameters = []
    if run is not None:
        for subject in _subjects(run, requirement):
            values = subject.arguments(requirement)
            parameters.append(pytest.param(*values, id=_id(run, subject)))
    metafunc.parametrize(requirement.parameters, parameters)


def _subjects(run: Run, requirement: Requirement) -> list[Subject]:
    """Return the subjects of *requirement*; they are found once for all that take the same handles."""
    key = requirement.parameters
    if key not in run.collected:
        run.collected[key] = list(_found(run, requirement))
    return [
        subject
        for subject in run.collected[key]
        if engines.is_asked(requirement, subject)
    ]


def _found(run: Run, requirement: Requirement) -> Iterable[Subject]:
    number = 0
    for part in run.parts:
        if part.unreached:
            continue
        if requirement.parameters == ("backup",):
            yield from part.copies
        elif requirement.parameters == ("job",):
            yield from part.jobs
        elif requirement.parameters == ("hypervisor",):
            yield Subject(part.hypervisor)
        else:
            for guest in part.guests:
                number += 1
                yield from _of_guest(guest, requirement)
                if number > _KEPT:
                    guest.forget(inside=False)  # read again when its turn comes


def _of_guest(guest: Guest, requirement: Requirement) -> Iterable[Subject]:
    try:
        yield from engines.everything(requirement, guest)
    except (libvirt.libvirtError, ProbeError):
        return  # its disks cannot be read: the rows of the guest itself report that


def _id(run: Run, subject: Subject) -> str:
    """Return hypervisor/guest/disk/path without the parts that all rows share. No domain name has a slash."""
    parts = []
    if len(run.parts) > 1:
        parts.append(subject.hypervisor.name)
    if subject.guest:
        parts.append(subject.guest.name)
    if subject.disk:
        parts.append(subject.disk.name)
    path = subject.backup.path if subject.backup else None
    if not path and subject.job:
        path = subject.job.path
    if path:
        parts.append(path.lstrip("/"))
    return "/".join(parts) or subject.hypervisor.name


def _subject(item: pytest.Item) -> Subject | None:
    """Return the subject of a check's item; None for a test of the project itself."""
    if SUBJECT not in item.stash:
        if requirement_of(getattr(item, "obj", None)) is None:
            return None
        item.stash[SUBJECT] = _subject_of(item.callspec.params)  # type: ignore[attr-defined]
    return item.stash[SUBJECT]


def _subject_of(values: dict[str, Any]) -> Subject:
    """Return the subject whose handle is in *values*, by the parameter's name."""
    if backup := values.get("backup"):
        return Subject(backup.hypervisor, backup.guest, backup.disk, backup)
    if job := values.get("job"):
        return Subject(job.hypervisor, job=job)
    if hypervisor := values.get("hypervisor"):
        return Subject(hypervisor)
    disk = values.get("disk")
    guest: Guest = disk.guest if disk else values["guest"]
    return Subject(guest.hypervisor, guest, disk)


class _ReachItem(pytest.Item):
    """The test of a hypervisor that could not be reached. No option deselects it: it stands for all that is not judged.

    pytest.Function would look for a module and for fixtures.
    """

    obj = staticmethod(reach.reach_hypervisor)
    fixturenames: tuple[str, ...] = ()

    def runtest(self) -> None:
        pytest_pyfunc_call(self)  # type: ignore[arg-type]

    def reportinfo(self) -> tuple[Path, None, str]:
        return CHECKS, None, self.name


def _unreached(session: pytest.Session, run: Run) -> list[pytest.Item]:
    """Return a test for each hypervisor that could not be reached."""
    items: list[pytest.Item] = []
    for part in run.parts:
        if part.unreached:
            subject = Subject(part.hypervisor)
            name = f"{reach.REACH.slug}[{_id(run, subject)}]"
            item = _ReachItem.from_parent(session, name=name, nodeid=f"checks::{name}")
            item.stash[SUBJECT] = subject
            items.append(item)
    return items


def pytest_itemcollected(item: pytest.Item) -> None:
    """Let -k select a check by the slug that all output shows."""
    requirement = requirement_of(getattr(item, "obj", None))
    if requirement is not None:
        item.extra_keyword_matches.add(requirement.slug)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Sort by hypervisor, guest, requirement: one guest is finished before the next is touched.

    Hypervisors that could not be reached come first.
    """
    run = config.stash.get(RUN, None)
    if run is None:
        return
    run.is_collected = True
    if config.option.keyword and not items:
        config.stash[NOTES] = [habits.selects_nothing(run, config.option.keyword)]
    last = _failed_before(config, run, items)
    order = {slug: number for number, slug in enumerate(catalogue())}
    guests = {guest: number for number, guest in enumerate(run.guests)}

    first = {key[2] for key in last}

    def place(item: pytest.Item) -> tuple[int, int, int]:
        subject = _subject(item)
        if subject is None:
            return 1, len(guests), len(order)
        requirement = _requirement(item)
        if subject.guest is None:
            return 1, len(guests), order[requirement.slug]
        turn = int(bool(first) and subject.guest.name not in first)
        if requirement.revives and _cannot_start(subject.guest):
            return turn, guests[subject.guest], -1
        return turn, guests[subject.guest], order[requirement.slug]

    items.sort(key=place)
    items[:0] = _unreached(session, run)


def _failed_before(
    config: pytest.Config, run: Run, items: list[pytest.Item]
) -> set[habits.Key]:
    """Return the rows that failed when they were judged last, if --lf or --ff asks. With --lf only these stay."""
    option = config.option
    if not (getattr(option, "lf", False) or getattr(option, "failedfirst", False)):
        return set()  # with -p no:cacheprovider there are no such options
    keys = {item: _key(item) for item in items if _subject(item)}
    failed = habits.failed_before(run, keys.values())
    notice = f"{counted(len(failed or ()), 'row')} failed when judged last"
    if failed is None:
        notice = "no earlier run in the reports has judged these rows"
    config.stash[NOTICES] = [f"reclaim: {'--lf' if option.lf else '--ff'}: {notice}"]
    if option.lf and (failed or option.last_failed_no_failures == "none"):
        _keep_only(
            config, items, {item for item in items if keys.get(item) in (failed or ())}
        )
    return failed or set()


def _keep_only(
    config: pytest.Config, items: list[pytest.Item], kept: set[pytest.Item]
) -> None:
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = [item for item in items if item in kept]


def _key(item: pytest.Item) -> habits.Key:
    subject = _subject(item)
    assert subject is not None
    return subject.hypervisor.uri, _requirement(item).slug, *subject.key


def _cannot_start(guest: Guest) -> bool:
    try:
        return guest.cannot_start
    except (libvirt.libvirtError, ReclaimError):
        return False  # its rows report that it is gone, or that its definition cannot be read


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Choose by the number of rows if there is a table of pytest-html. If everything was deselected, record nothing."""
    run = session.config.stash.get(RUN, None)
    if run is None or not run.recorded:
        return
    if any(_subject(item) for item in session.items) or not run.is_collected:
        session.config.stash[PAGES].choose(len(session.items))
    else:
        _stand_down(session.config)
        run.forget_record()


def _stand_down(config: pytest.Config) -> None:
    """Take pytest-html out of the run, so that it writes nothing."""
    from reclaim.report import html  # noqa: PLC0415 (start-up)

    html.stand_down(config)


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    if config.get_verbosity() < 0:
        return []
    return config.stash.get(NOTICES, [])


def _requirement(item: pytest.Item) -> Requirement:
    requirement = requirement_of(item.obj)  # type: ignore[attr-defined]
    assert requirement is not None
    return requirement


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Print now and then that a large fleet is being listed. On a terminal pytest itself counts the rows."""
    config = session.config
    reporter = config.pluginmanager.getplugin("terminalreporter")
    if RUN not in config.stash or reporter is None or reporter.isatty:
        return (yield)
    with _progress(config).watch("listing all that is judged"):
        return (yield)


# Running --------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Look into all guests at once before the checks judge them one by one."""
    run = session.config.stash.get(RUN, None)
    if run is None or session.config.option.collectonly or not session.items:
        return (yield)
    try:
        _look(session, run)
        _begin_overlap(session, run)
        return (yield)
    finally:
        try:
            _end_overlap(session.config)
        finally:
            _hear_nothing(session.config)


def _look(session: pytest.Session, run: Run) -> None:
    """Finish the remains of earlier runs, look into the guests that are judged, count their bytes."""
    reporter: pytest.TerminalReporter = session.config.pluginmanager.getplugin(
        "terminalreporter"
    )
    progress = _progress(session.config)
    guests: dict[Guest, None] = {}
    for subject in map(_subject, session.items):
        if subject is None or subject.guest is None or subject.backup is not None:
            continue
        guests[subject.guest] = None
    for part in run.parts:
        part.hypervisor.progress = progress
    _finish_interrupted(run, progress)
    if not run.options.definitions_only:
        run.gather(guests, progress)
        with progress.watch("counting bytes on the host"):
            run.measure(guests)
    if _can_judge_ahead(session, run):
        run.judge_ahead(list(_rows(session)), progress)
    progress.clear()
    # guests that are fixed side by side print while pytest captures, which takes all that waits to be written
    reporter.flush()
    if reporter.verbosity == 0:
        reporter.showfspath = False  # a line a guest, not a line a file
    if reporter.verbosity < 0:
        reporter._show_progress_info = False  # noqa: SLF001 (a percentage of no letters)
    gc.freeze()  # the collected items stay to the end: the collector need not look at them again and again


def _can_judge_ahead(session: pytest.Session, run: Run) -> bool:
    """True if there are several hypervisors, and the rows of one do not depend on what was done to another."""
    options, given = run.options, session.config.option
    changes = options.mode == "fix" or options.boot_stopped or options.prove
    reached = [part for part in run.parts if not part.unreached]
    # of a run that stops at the first failure, or that somebody watches, pytest decides how far it gets
    return len(reached) > 1 and not (changes or given.maxfail or given.usepdb)


def _begin_overlap(session: pytest.Session, run: Run) -> None:
    """Mend several guests side by side, if --parallel asks for that. A run that may stop early mends one at a time."""
    given = session.config.option
    if run.options.parallel < 2 or given.maxfail or given.usepdb:
        return
    from reclaim.engine.overlap import SideBySide  # noqa: PLC0415 (start-up)

    rows = [
        (_part(run, subject), requirement, subject)
        for requirement, subject in _rows(session)
    ]
    overlap = session.config.stash[OVERLAP] = SideBySide(rows, run.options.parallel)
    for line in overlap.start():
        session.config.stash[PROGRESS].line(line)


def _end_overlap(config: pytest.Config) -> None:
    """Wait until every guest that is down is up again: none is left behind, also after Ctrl-C."""
    overlap = config.stash.get(OVERLAP, None)
    if overlap is not None:
        try:
            with _watch(config, "waiting for the guests that are being power-cycled"):
                overlap.stop()
        except KeyboardInterrupt:
            config.stash.setdefault(NOTES, []).append(_STOPPED_AGAIN)
            raise


def _rows(session: pytest.Session) -> Iterator[tuple[Requirement, Subject]]:
    for item in session.items:
        subject = _subject(item)
        if subject is not None and _requirement(item) is not reach.REACH:
            yield _requirement(item), subject


def _finish_interrupted(run: Run, progress: terminal.Progress) -> None:
    """Finish the open changes of runs that died. Without --fix these are only starts, with --boot-stopped."""
    is_fix = run.options.mode == "fix"
    for part, record in run.interrupted:
        carries_on = is_fix or not record.applied
        if is_fix or (run.options.boot_stopped and record.left_only_boots):
            from reclaim.engine import undo  # noqa: PLC0415 (start-up)

            undo.finish(record, part.hypervisor, progress.line, carries_on=carries_on)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(
    item: pytest.Item, nextitem: pytest.Item | None
) -> bool | None:
    """Judge one row. With --restart or --boot-stopped the reports of a guest wait until it is finished.

    A roll-back changes earlier rows, and so does a guest that cannot be shut down again.
    """
    run = item.config.stash.get(RUN, None)
    subject = _subject(item) if run else None
    if run is None or subject is None:
        return None
    reporter: pytest.TerminalReporter = item.config.pluginmanager.getplugin(
        "terminalreporter"
    )
    # it keeps the reports of every set-up and teardown, and never shows them
    reporter.stats.pop("", None)
    options = run.options
    if options.boot_stopped and subject.guest is not None:
        _part(run, subject).engine.visit(subject.guest)
    if options.boot_stopped or (options.restart and options.mode == "fix"):
        _hold(run, subject, item, nextitem)
        return True
    _guest_line(item)
    if not _is_plain(item):
        return None
    _protocol(item)
    _finished(run, subject, nextitem)
    return True


def _hold(
    run: Run, subject: Subject, item: pytest.Item, nextitem: pytest.Item | None
) -> None:
    """Judge *item* and keep its reports back until its guest is finished."""
    held = item.config.stash[HELD]
    held.append((item, runtestprotocol(item, log=False, nextitem=nextitem)))
    following = _subject(nextitem) if nextitem else None
    if following is not None and following.guest is subject.guest:
        return
    if subject.guest is not None:
        run.leave(subject.guest)
        subject.guest.lighten()
    release(item.config)


def _is_plain(item: pytest.Item) -> TypeGuard[pytest.Function]:
    """True if the test uses only our handles and no option such as --pdb or --setup-show is set."""
    option = item.config.option
    watched = (
        option.usepdb
        or option.trace
        or option.setupshow
        or option.setuponly
        or option.setupplan
    )
    return not watched and set(item.fixturenames) <= set(_requirement(item).parameters)  # type: ignore[attr-defined]


def _protocol(item: pytest.Function) -> None:
    """Run pytest's own protocol without its empty set-up and teardown: twice as fast for a fleet.

    Plugins get the two reports that they wait for, of the call and of the teardown.
    """
    hook = item.ihook
    hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    call = pytest.CallInfo.from_call(
        partial(pytest_pyfunc_call, item),
        when="call",
        reraise=(pytest.exit.Exception, KeyboardInterrupt),
    )
    _guest_line(item)  # again, if progress was printed meanwhile
    report = hook.pytest_runtest_makereport(item=item, call=call)
    hook.pytest_runtest_logreport(report=report)
    if call.excinfo is not None:
        hook.pytest_exception_interact(node=item, call=call, report=report)
    teardown = pytest.TestReport(
        item.nodeid,
        item.location,
        {},
        "passed",
        None,
        "teardown",
        user_properties=report.user_properties,
    )
    hook.pytest_runtest_logreport(report=teardown)
    hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)


def _finished(run: Run, subject: Subject, nextitem: pytest.Item | None) -> None:
    """Drop large answers of a guest once it is judged; in a large fleet its definition too."""
    following = _subject(nextitem) if nextitem else None
    if subject.guest is None or (
        following is not None and following.guest is subject.guest
    ):
        return
    subject.guest.lighten()
    if run.guest_count > _KEPT:
        subject.guest.forget(inside=False)


def _guest_line(item: pytest.Item) -> None:
    """Begin a line for the guest unless the line is its already."""
    reporter: pytest.TerminalReporter = item.config.pluginmanager.getplugin(
        "terminalreporter"
    )
    subject = _subject(item)
    has_names = item.config.stash[RUN].guest_count <= _NAMED
    if reporter.verbosity == 0 and subject is not None and has_names:
        name = subject.guest.name if subject.guest else "backups"
        if _requirement(item) is reach.REACH:
            name = subject.hypervisor.name
        reporter.write_ensure_prefix(f"{printable(name)} ", "")


def release(config: pytest.Config) -> None:
    """Report the rows that were held back, as the engine sees them now."""
    for item, reports in config.stash[HELD]:
        _guest_line(item)
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in reports:
            _stamp(item, report)
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    config.stash[HELD].clear()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    subject = _subject(pyfuncitem)
    if subject is None:
        return None
    requirement = _requirement(pyfuncitem)
    config = pyfuncitem.config
    part = _part(config.stash[RUN], subject)
    if part.unreached:
        pyfuncitem.stash[RESULT] = reach.row(part)
        return True
    with _uncaptured(config), _watch(config, _row(requirement, subject)):
        overlap = config.stash.get(OVERLAP, None)
        if overlap is not None and overlap.has(requirement, subject):
            pyfuncitem.stash[RESULT] = overlap.result(requirement, subject)
        else:
            pyfuncitem.stash[RESULT] = part.engine.run(requirement, subject)
    return True


def _uncaptured(config: pytest.Config) -> AbstractContextManager[None]:
    """Let progress reach standard output while a row that is held back is judged.

    pytest's capture would take it, and with it every line that was not flushed before.
    """
    capturing = config.pluginmanager.getplugin("capturemanager")
    return capturing.global_and_fixture_disabled() if capturing else nullcontext()


def _progress(config: pytest.Config) -> terminal.Progress:
    """Return the line that is rewritten while reclaim waits, once pytest has its reporter."""
    if PROGRESS not in config.stash:
        reporter = config.pluginmanager.getplugin("terminalreporter")
        config.stash[PROGRESS] = terminal.Progress(reporter)
    return config.stash[PROGRESS]


def _watch(config: pytest.Config, label: str) -> AbstractContextManager[None]:
    """Print *label* now and then while the work inside takes long."""
    progress = config.stash.get(PROGRESS, None)
    return progress.watch(label) if progress else nullcontext()


def _row(requirement: Requirement, subject: Subject) -> str:
    """Return the name of one row, for the line that is printed while it takes long."""
    names = ": ".join(filter(None, subject.key[:2])) or subject.hypervisor.name
    return f"{names}: {requirement.slug}"


def _part(run: Run, subject: Subject) -> Part:
    return next(part for part in run.parts if part.hypervisor is subject.hypervisor)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    subject = _subject(item)
    if subject is not None and call.excinfo is not None:
        if RESULT not in item.stash:
            # a fault of ours, or Ctrl-C: the row reports it, and pytest shows the traceback
            engine = _part(item.config.stash[RUN], subject).engine
            result = engine.result(_requirement(item), subject)
            fault = printable(f"a fault in reclaim: {call.excinfo.exconly()}")
            result.take(Judgement(Verdict.ERROR, fault))
            item.stash[RESULT] = result
        if report.failed:
            report.longrepr = discreet.traceback(call.excinfo)
    _stamp(item, report)
    return report


def _stamp(item: pytest.Item, report: pytest.TestReport) -> None:
    """Copy the engine's result into *report*."""
    result = item.stash.get(RESULT, None)
    if result is None or report.when == "setup":
        return
    report.user_properties = [
        *item.user_properties,
        ("requirement", result.requirement),
        ("verdict", str(result.verdict)),
        ("reason", result.reason),
    ]
    if report.when != "call":
        return
    attach(report, result)
    junit.name(item.config, report, result)
    report.outcome = result.verdict.outcome  # type: ignore[assignment]
    if report.outcome == "passed":
        report.longrepr = None
    elif report.outcome == "skipped":
        path, line, _ = item.location
        report.longrepr = (path, (line or 0) + 1, f"{result.verdict}: {result.reason}")
    elif not (result.verdict is Verdict.ERROR and report.longrepr):
        report.longrepr = f"{result.verdict}: {result.reason}"


def pytest_report_teststatus(report: Any, config: pytest.Config) -> Any:
    result = attached(report)
    if result is None or report.when != "call":
        return None
    category, letter, word = terminal.status(result.verdict)
    # with -q there are no letters
    return category, letter if config.get_verbosity() >= 0 else "", word


# Finishing ------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_sessionfinish(
    session: pytest.Session, exitstatus: int | pytest.ExitCode
) -> Generator[None, None, None]:
    """Write the record before pytest-html writes, and the files that are made from both after it."""
    run = session.config.stash.get(RUN, None)
    session.config.stash[TROUBLES] = session.config.stash.get(NOTES, [])
    if run is not None:
        _finish_run(session, run, exitstatus)
        junit.hold(session.config)
    try:
        yield
    except (OSError, ReclaimError) as exc:
        if run is not None and run.recorded:
            session.config.stash[PAGES].give_up_rows(exc)
        elif run is None or exitstatus != pytest.ExitCode.USAGE_ERROR:
            raise
        # else pytest-html, which no longer can be taken out, wrote into the folder of a run that is forgotten
    if run is not None:
        _finish_junit(session)
    if run is not None and run.recorded:
        with _watch(session.config, "writing the report"):
            _finish_pages(session, run)
        _end(session, run)


def _end(session: pytest.Session, run: Run) -> None:
    """Give the run its status, and pytest's last line its colour."""
    if session.config.option.collectonly:
        return
    if session.exitstatus == pytest.ExitCode.OK and _is_unseen(run):
        session.exitstatus = NOT_ALL_CHECKED
    reporter = session.config.pluginmanager.getplugin("terminalreporter")
    if reporter is not None:
        terminal.color_last_line(reporter, run, session.exitstatus)


def _is_unseen(run: Run) -> bool:
    """True if a row of *run* could not be assessed."""
    return any(
        result.verdict is Verdict.NOT_ASSESSABLE
        for part in run.parts
        for result in part.engine.results.values()
    )


def _finish_junit(session: pytest.Session) -> None:
    lost = junit.write(session.config)
    if lost:
        session.config.stash[TROUBLES].append(f"reclaim: {lost}")
        _fail(session)


def _fail(session: pytest.Session) -> None:
    """Give a run that found nothing the status of a failure: a file of it is missing."""
    if session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _finish_run(
    session: pytest.Session, run: Run, exitstatus: int | pytest.ExitCode
) -> None:
    """See to the guests, report the rows that were held back, and write the record."""
    troubles = session.config.stash[TROUBLES]
    if exitstatus == pytest.ExitCode.USAGE_ERROR and not session.items:
        _stand_down(session.config)
        run.forget_record()
    stopped = exitstatus in (
        pytest.ExitCode.INTERRUPTED,
        pytest.ExitCode.INTERNAL_ERROR,
    )
    run.stopped = stopped or bool(session.shouldstop)
    run.cut_short = stopped or bool(session.shouldstop or session.shouldfail)
    if session.shouldfail == "stopping after 1 failures":  # pytest's own words for -x
        session.shouldfail = "stopping after 1 failure"
    try:
        _hear(session.config)
        with _watch(session.config, "counting bytes on the host again"):
            _wind_up(run, stopped=stopped)
    except KeyboardInterrupt:
        run.cut_short = run.stopped = True
        troubles.append(_STOPPED_AGAIN)
    _hear_nothing(session.config)
    release(session.config)
    with _watch(session.config, "writing the record"):
        troubles += [f"reclaim: {trouble}" for trouble in _close(run)]


def _finish_pages(session: pytest.Session, run: Run) -> None:
    """Write report, index and metrics. A run has not passed if a record of it is missing."""
    config = session.config
    troubles = config.stash[PAGES].finish()
    if METRICS in config.stash:
        del config.stash[METRICS]
    lost = _heard(config, partial(_printed, run)) if config.option.json else ""
    others = [lost]
    if run.options.notify:
        from reclaim.report import notify  # noqa: PLC0415 (start-up)

        words = list(run.options.notify)
        others += [
            _heard(config, partial(notify.notify, words, part)) for part in run.parts
        ]
    config.stash[TROUBLES] += troubles
    config.stash[TROUBLES] += [f"reclaim: {line}" for line in others if line]
    are_written = all(part.is_written for part in run.parts)
    if lost or not are_written:
        _fail(session)


def _heard(config: pytest.Config, work: Callable[[], str]) -> str:
    """Do *work*, which may wait for others, so that a signal ends it. Return its trouble, or ""."""
    try:
        _hear(config)
        return work()
    except KeyboardInterrupt:
        return "stopped after the reports were written"
    finally:
        _hear_nothing(config)


def _printed(run: Run) -> str:
    """Print the record of *run*, or a list of them if it has several. Return why that failed, or ""."""
    texts = [part.text for part in run.parts if part.text]
    try:
        stdout.write(texts[0] if len(run.parts) == 1 else f"[{','.join(texts)}]\n")
    except OSError as exc:
        return f"--json: standard output cannot be written: {exc.strerror}"
    return ""


def _close(run: Run) -> list[str]:
    """Close the run. Return the reasons for which it stopped changing, and the files that could not be written."""
    troubles = run.close()
    reasons = dict.fromkeys(part.engine.stopped for part in run.parts)
    stopped = [f"{reason}: nothing more was changed" for reason in reasons if reason]
    return [*stopped, *troubles]


def _wind_up(run: Run, *, stopped: bool) -> None:
    """See to the guests that were started or shut down, and count once more, unless the run was *stopped*."""
    for part in run.parts:
        part.engine.leave_all()
    if not run.recorded:
        return
    for part in run.parts:
        part.engine.look_after()
    if run.options.definitions_only or (stopped and run.options.mode != "fix"):
        return
    counted = {guest for part in run.parts for guest in part.guests if part.storage}
    run.measure(counted, after=True)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter,
    exitstatus: int | pytest.ExitCode,
    config: pytest.Config,
) -> None:
    run = config.stash.get(RUN, None)
    if run is not None and run.recorded:
        from reclaim.report import screen  # noqa: PLC0415 (start-up)

        screen.summary(terminalreporter, run, int(exitstatus))
    for line in config.stash.get(TROUBLES, []):
        terminalreporter.write_line(printable(line), red=True)
