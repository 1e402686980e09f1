"""The pytest side: options, parametrised checks, verdicts beside outcomes.

pytest's own outcomes stay passed, failed and skipped: a fourth one crashes pytest-html.
"""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
import warnings
from collections.abc import Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeGuard

import libvirt
import pytest
from _pytest.runner import runtestprotocol
from _pytest.terminal import TerminalReporter

from reclaim.base import discreet
from reclaim.base.errors import ProbeError, ReclaimError
from reclaim.base.text import libvirt_words, printable
from reclaim.base.verdict import Judgement, Result, Verdict
from reclaim.engine import engine as engines
from reclaim.engine import undo
from reclaim.engine.engine import Subject
from reclaim.engine.part import Options, Part
from reclaim.engine.run import Run
from reclaim.handles.guest import Guest
from reclaim.processes import bytecode, programs
from reclaim.report import html, terminal
from reclaim.report.publish import Pages
from reclaim.requirement import Requirement, catalogue, requirement_of

CHECKS = Path(__file__).resolve().parent.parent / "checks"
RUN = pytest.StashKey[Run]()
SUBJECT = pytest.StashKey[Subject]()
RESULT = pytest.StashKey[Result]()
PAGES = pytest.StashKey[Pages]()
TROUBLES = pytest.StashKey["list[str]"]()
#: guests whose parsed definitions are kept from collecting to judging: 30 KiB each
_KEPT = 2000
SIGNALS = pytest.StashKey["dict[signal.Signals, Any]"]()
#: seconds in which a second signal says no more than the first
_MOMENT = 2.0
#: what a terminal sends that goes away, and who ends a process
_STOPPING = (signal.SIGTERM, signal.SIGHUP)
HELD = pytest.StashKey["list[tuple[pytest.Item, list[pytest.TestReport]]]"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup(
        "reclaim", "reclaim: give guests' freed space back to the host"
    )
    group.addoption(
        "--uri",
        help="libvirt URI (default: what --hosts says, $LIBVIRT_DEFAULT_URI, qemu:///system)",
    )
    group.addoption(
        "--guests", metavar="GLOB,…", help="only the guests whose names match"
    )
    group.addoption(
        "--inventory",
        metavar="FILE",
        type=Path,
        help="TOML: policy, and what is special about guests",
    )
    group.addoption(
        "--backups",
        metavar="DIR",
        type=Path,
        action="append",
        default=[],
        help="a folder with copies of disk images: they are judged too",
    )
    group.addoption(
        "--fix",
        action="store_true",
        help="mend what is wrong; what needs a power cycle stays pending",
    )
    group.addoption(
        "--plan",
        action="store_true",
        help="show what --fix would change, as diffs; change nothing",
    )
    group.addoption(
        "--restart",
        action="store_true",
        help="with --fix: power-cycle guests that need it, roll back those that do not come back",
    )
    group.addoption(
        "--force",
        action="store_true",
        help="with --fix or --plan: ignore what a fix waits for; the report says so",
    )
    group.addoption(
        "--boot-stopped",
        action="store_true",
        help="start the guests that are off, one at a time, judge them, and shut them down again",
    )
    group.addoption(
        "--prove",
        action="store_true",
        help="write a file in each filesystem of the guests, delete it, trim, and count on the host what came back",
    )
    group.addoption(
        "--definitions-only",
        action="store_true",
        help="judge the definitions; look into no guest",
    )
    group.addoption(
        "--reports",
        metavar="DIR",
        type=Path,
        default=Path("reports"),
        help="where the reports go (default: reports)",
    )
    group.addoption(
        "--keep",
        metavar="N",
        type=int,
        help="keep the newest N runs of each hypervisor, and every run that can still be undone; remove the others",
    )
    group.addoption(
        "--metrics",
        metavar="FILE",
        type=Path,
        help="write figures for Prometheus' textfile collector",
    )


# Setting up -----------------------------------------------------------------------------------


def _wants_checks(config: pytest.Config) -> bool:
    """Are checks about to be collected? Unit tests of the project itself need no hypervisor."""
    option = config.option
    if (
        option.help
        or option.version
        or option.markers
        or getattr(option, "showfixtures", False)
    ):
        return False
    for argument in config.args:
        path = (config.invocation_params.dir / argument.partition("::")[0]).resolve()
        if path == CHECKS or CHECKS in path.parents or path in CHECKS.parents:
            return True
    return False


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if not _wants_checks(config):
        return
    discreet.begin(config)
    run = config.stash[RUN] = Run(_options(config))
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
    except ReclaimError as exc:
        raise pytest.UsageError(printable(str(exc))) from exc
    except libvirt.libvirtError as exc:
        raise pytest.UsageError(
            f"libvirt does not answer any more: {printable(libvirt_words(exc))}"
        ) from exc
    except KeyboardInterrupt as exc:
        raise pytest.exit.Exception(
            "reclaim: stopped before anything was judged", pytest.ExitCode.INTERRUPTED
        ) from exc
    if run.recorded:
        config.stash[PAGES] = Pages(config, run)


def _tell_what_is_at_stake(run: Run) -> None:
    for part, record in (*run.interrupted, *run.elsewhere):
        with suppress(
            libvirt.libvirtError
        ):  # a guest that is gone meanwhile; its rows say so
            for guest, words in undo.at_stake(record, part.hypervisor):
                guest.left_off = None if guest.is_running else words
                run.at_stake.append(f"{guest.name}: {words}")


def _before() -> dict[signal.Signals, Any]:
    """The signals that end a run, and what they did before. nohup(1) and the like ignore some on purpose."""
    if threading.current_thread() is not threading.main_thread():
        return {}  # signals are the main thread's
    known = {one: signal.getsignal(one) for one in (*_STOPPING, signal.SIGINT)}
    return {
        one: what
        for one, what in known.items()
        if what in (signal.SIG_DFL, signal.default_int_handler)
    }


def _hear(config: pytest.Config) -> None:
    for one in config.stash[SIGNALS]:
        signal.signal(one, _stop)


def _hear_nothing(config: pytest.Config) -> None:
    """What was judged is written down now, which takes no time: a second Ctrl-C must not leave half of it."""
    for one in config.stash[SIGNALS]:
        signal.signal(one, signal.SIG_IGN)


@dataclass
class _Stop:
    """A run that is told to stop ends as with Ctrl-C: no guest is left down, and the record is written.

    What follows within a moment is the same wish, as of a terminal that goes away.
    """

    until: float = 0.0

    def __call__(self, number: int, _frame: object) -> None:
        if time.monotonic() < self.until:
            return
        self.until = time.monotonic() + _MOMENT
        raise KeyboardInterrupt(signal.Signals(number).name)


_stop = _Stop()


def _options(config: pytest.Config) -> Options:
    option = config.option
    for flag, needs in (("restart", ("fix",)), ("force", ("fix", "plan"))):
        if getattr(option, flag) and not any(getattr(option, one) for one in needs):
            raise pytest.UsageError(f"--{flag} goes with --{' or --'.join(needs)}")
    if option.fix and option.plan:
        raise pytest.UsageError(
            "--plan changes nothing and --fix does: give one of them"
        )
    if option.boot_stopped and option.definitions_only:
        raise pytest.UsageError(
            "--boot-stopped looks into guests and --definitions-only into none: give one of them"
        )
    if option.prove and option.definitions_only:
        raise pytest.UsageError(
            "--prove writes in the guests and --definitions-only looks into none: give one of them"
        )
    if option.keep is not None and option.keep < 1:
        raise pytest.UsageError(
            f"--keep {option.keep}: keep at least the run that is made now"
        )
    metrics = config.invocation_params.dir / option.metrics if option.metrics else None
    if metrics is not None and not os.path.isdir(metrics.parent):  # noqa: PTH112 (False for a name that is too long)
        raise pytest.UsageError(
            f"--metrics {option.metrics}: there is no folder {metrics.parent}"
        )
    if getattr(option, "numprocesses", None):
        raise pytest.UsageError(
            "-n: reclaim looks into all guests at once by itself, and mends one at a time; run without -n"
        )
    guests = tuple(filter(None, (option.guests or "").split(",")))
    if option.guests is not None and not guests:
        raise pytest.UsageError("--guests: no name is given")
    return Options(
        hosts=tuple(filter(None, (getattr(option, "hosts", None) or "").split(","))),
        uri=option.uri,
        guests=guests,
        inventory=option.inventory,
        backups=tuple(config.invocation_params.dir / path for path in option.backups),
        mode="fix" if option.fix else "plan" if option.plan else "audit",
        restart=option.restart,
        force=option.force,
        boot_stopped=option.boot_stopped,
        prove=option.prove,
        definitions_only=option.definitions_only,
        reports=config.invocation_params.dir / option.reports,
        keep=option.keep,
        metrics=metrics,
        arguments=tuple(str(argument) for argument in config.invocation_params.args),
    )


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
    run = config.stash.get(RUN, None)
    if run is not None:
        _hear_nothing(config)
        if (
            run.cut_short
        ):  # what was being read when the signal came was not closed, and that is all
            warnings.filterwarnings(
                "ignore", category=pytest.PytestUnraisableExceptionWarning
            )
        run.abandon()
        for part in run.parts:
            with suppress(libvirt.libvirtError):  # libvirt may have hung up
                part.hypervisor.close()
    for one, before in config.stash.get(SIGNALS, {}).items():
        signal.signal(one, before)


# Collecting -----------------------------------------------------------------------------------


def pytest_pycollect_makeitem(
    collector: Any, name: str, obj: object
) -> list[Any] | None:
    """A check is not collected without its option or its key of the policy, or if --definitions-only rules it out."""
    requirement = requirement_of(obj)
    run = collector.config.stash.get(RUN, None)
    if (
        requirement
        and run
        and run.options.definitions_only
        and not requirement.reads_definitions_only
    ):
        return []
    if (
        requirement
        and run
        and requirement.option
        and not getattr(run.options, requirement.option)
    ):
        return []
    if (
        requirement
        and run
        and requirement.policy
        and not _policy_asks(run, requirement.policy)
    ):
        return []
    if requirement and run and _is_about_nothing(run, requirement):
        return []  # of no parameters pytest would make one item, skipped and about nothing
    return None


def _policy_asks(run: Run, key: str) -> bool:
    return any(getattr(part.hypervisor.inventory.policy, key) for part in run.parts)


def _is_about_nothing(run: Run, requirement: Requirement) -> bool:
    try:
        return not _subjects(run, requirement)
    except libvirt.libvirtError:
        return False  # told by pytest_generate_tests


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    requirement = requirement_of(metafunc.function)
    if requirement is None:
        return
    run = metafunc.config.stash[RUN]
    found = _subjects(run, requirement)
    metafunc.parametrize(
        requirement.parameters,
        [
            pytest.param(*subject.arguments(requirement), id=_id(run, subject))
            for subject in found
        ],
    )


def _subjects(run: Run, requirement: Requirement) -> list[Subject]:
    """Everything that *requirement* is judged for; found once for all that take the same handles."""
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
        return  # its disks cannot be read: the rows of the guest itself say so


def _id(run: Run, subject: Subject) -> str:
    """hypervisor/guest/disk/path, as far as it tells things apart; no domain name has a slash."""
    parts = [subject.hypervisor.name] if len(run.parts) > 1 else []
    parts += [subject.guest.name] if subject.guest else []
    parts += [subject.disk.name] if subject.disk else []
    path = (subject.backup.path if subject.backup else None) or (
        subject.job.path if subject.job else None
    )
    named = [*parts, path.lstrip("/")] if path else parts
    return "/".join(named) or subject.hypervisor.name


def _subject(item: pytest.Item) -> Subject | None:
    """What a check is asked about; None for a test of the project itself."""
    if SUBJECT not in item.stash:
        if requirement_of(getattr(item, "obj", None)) is None:
            return None
        item.stash[SUBJECT] = _subject_of(item.callspec.params)  # type: ignore[attr-defined]
    return item.stash[SUBJECT]


def _subject_of(values: dict[str, Any]) -> Subject:
    """The subject whose handle is in *values*, by the parameter's name."""
    if backup := values.get("backup"):
        return Subject(backup.hypervisor, backup.guest, backup.disk, backup)
    if job := values.get("job"):
        return Subject(job.hypervisor, job=job)
    if hypervisor := values.get("hypervisor"):
        return Subject(hypervisor)
    disk = values.get("disk")
    guest: Guest = disk.guest if disk else values["guest"]
    return Subject(guest.hypervisor, guest, disk)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Hypervisor, guest, requirement: one guest is finished before the next is touched."""
    run = config.stash.get(RUN, None)
    if run is None:
        return
    run.is_collected = True
    order = {slug: number for number, slug in enumerate(catalogue())}
    guests = {
        guest: number
        for number, guest in enumerate(
            guest for part in run.parts for guest in part.guests
        )
    }

    def place(item: pytest.Item) -> tuple[int, int]:
        subject = _subject(item)
        if subject is None:
            return len(guests), len(order)
        if subject.guest is None:
            return len(guests), order[_requirement(item).slug]
        return guests[subject.guest], order[_requirement(item).slug]

    items.sort(key=place)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Where everything was deselected nothing is recorded; where there is very much, pytest-html is too slow."""
    run = session.config.stash.get(RUN, None)
    if run is None or not run.recorded:
        return
    if any(_subject(item) for item in session.items) or not run.is_collected:
        session.config.stash[PAGES].choose(len(session.items))
    else:
        html.stand_down(session.config)
        run.forget_record()


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    pages = config.stash.get(PAGES, None)
    return (
        [pages.choice] if pages and pages.choice and config.get_verbosity() >= 0 else []
    )


def _requirement(item: pytest.Item) -> Requirement:
    requirement = requirement_of(item.obj)  # type: ignore[attr-defined]
    assert requirement is not None
    return requirement


# Running --------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Look into all guests at once before the checks judge them one by one."""
    run = session.config.stash.get(RUN, None)
    if run is None or session.config.option.collectonly or not session.items:
        return (yield)
    try:
        _look(session, run)
        return (yield)
    finally:
        _hear_nothing(session.config)


def _look(session: pytest.Session, run: Run) -> None:
    """Finish what an earlier run left, look into the guests that are judged, count their bytes."""
    reporter: TerminalReporter = session.config.pluginmanager.getplugin(
        "terminalreporter"
    )
    progress = terminal.Progress(reporter)
    chosen = dict.fromkeys(
        subject.guest
        for subject in map(_subject, session.items)
        if subject is not None and subject.guest is not None and subject.backup is None
    )
    for part in run.parts:
        part.hypervisor.progress = progress
    for part, record in run.interrupted:
        if run.options.mode == "fix" or (
            run.options.boot_stopped and record.left_only_boots
        ):
            undo.finish(
                record,
                part.hypervisor,
                progress.line,
                carries_on=run.options.mode == "fix" or not record.applied,
            )
    if not run.options.definitions_only:
        run.gather(chosen, progress)
        run.measure(chosen)
    progress.clear()
    if reporter.verbosity == 0:
        reporter.showfspath = False  # a line a guest, not a line a file
    gc.freeze()  # what was collected stays to the end: the collector need not look at it again and again


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(
    item: pytest.Item, nextitem: pytest.Item | None
) -> bool | None:
    """With --restart or --boot-stopped the reports of a guest wait until it is finished.

    A roll-back changes what was said, and so does a guest that cannot be shut down again.
    """
    run = item.config.stash.get(RUN, None)
    subject = _subject(item) if run else None
    if run is None or subject is None:
        return None
    reporter: TerminalReporter = item.config.pluginmanager.getplugin("terminalreporter")
    reporter.stats.pop(
        "", None
    )  # it keeps the reports of every set-up and teardown, and never shows them
    if run.options.boot_stopped and subject.guest is not None:
        _part(run, subject).engine.visit(subject.guest)
    if (
        not (run.options.restart and run.options.mode == "fix")
        and not run.options.boot_stopped
    ):
        _guest_line(item)
        if not _is_plain(item):
            return None
        _protocol(item)
        _finished(run, subject, nextitem)
        return True
    held = item.config.stash[HELD]
    held.append((item, runtestprotocol(item, log=False, nextitem=nextitem)))
    following = _subject(nextitem) if nextitem else None
    if following is None or following.guest is not subject.guest:
        if subject.guest is not None:
            run.leave(subject.guest)
            subject.guest.lighten()
        release(item.config)
    return True


def _is_plain(item: pytest.Item) -> TypeGuard[pytest.Function]:
    """Does the check take nothing but our handles, and does nobody watch pytest's own steps?"""
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
    """pytest's own protocol without setting up and tearing down nothing: twice as fast for a fleet.

    Plugins get the two reports that they wait for, of the call and of the teardown.
    """
    hook = item.ihook
    hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    call = pytest.CallInfo.from_call(
        partial(pytest_pyfunc_call, item),
        when="call",
        reraise=(pytest.exit.Exception, KeyboardInterrupt),
    )
    _guest_line(item)  # again, where progress was told meanwhile
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
    """Nothing large is kept longer than its guest is looked at; of a large fleet no definition either."""
    following = _subject(nextitem) if nextitem else None
    if subject.guest is None or (
        following is not None and following.guest is subject.guest
    ):
        return
    subject.guest.lighten()
    if sum(len(part.guests) for part in run.parts) > _KEPT:
        subject.guest.forget(inside=False)


def _guest_line(item: pytest.Item) -> None:
    """Begin a line for the guest unless the line is its already."""
    reporter: TerminalReporter = item.config.pluginmanager.getplugin("terminalreporter")
    subject = _subject(item)
    if reporter.verbosity == 0 and subject is not None:
        reporter.write_ensure_prefix(
            f"{printable(subject.guest.name) if subject.guest else 'backups'} ", ""
        )


def release(config: pytest.Config) -> None:
    """Report what was held, as the engine sees it now."""
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
    engine = _part(pyfuncitem.config.stash[RUN], subject).engine
    pyfuncitem.stash[RESULT] = engine.run(requirement, subject)
    return True


def _part(run: Run, subject: Subject) -> Part:
    return next(part for part in run.parts if part.hypervisor is subject.hypervisor)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    subject = _subject(item)
    if subject is not None and call.excinfo is not None and RESULT not in item.stash:
        # a fault of ours, or Ctrl-C: the row says so, and pytest shows the traceback
        result = _part(item.config.stash[RUN], subject).engine.result(
            _requirement(item), subject
        )
        result.take(
            Judgement(
                Verdict.ERROR,
                printable(f"a fault in reclaim: {call.excinfo.exconly()}"),
            )
        )
        item.stash[RESULT] = result
    if subject is not None and call.excinfo is not None and report.failed:
        report.longrepr = discreet.traceback(call.excinfo)
    _stamp(item, report)
    return report


def _stamp(item: pytest.Item, report: pytest.TestReport) -> None:
    """Let *report* say what the engine's result says."""
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
    html.attach(report, result)
    report.outcome = result.verdict.outcome  # type: ignore[assignment]
    if report.outcome == "passed":
        report.longrepr = None
    elif report.outcome == "skipped":
        path, line, _ = item.location
        report.longrepr = (path, (line or 0) + 1, f"{result.verdict}: {result.reason}")
    elif not (result.verdict is Verdict.ERROR and report.longrepr):
        report.longrepr = f"{result.verdict}: {result.reason}"


def pytest_report_teststatus(report: Any) -> Any:
    result = html.attached(report)
    if result is None or report.when != "call":
        return None
    return terminal.status(result.verdict)


# Finishing ------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_sessionfinish(
    session: pytest.Session, exitstatus: int | pytest.ExitCode
) -> Generator[None, None, None]:
    """The record is written before pytest-html writes, and what is made from both after it."""
    run = session.config.stash.get(RUN, None)
    troubles = session.config.stash[TROUBLES] = []
    if run is not None:
        stopped = exitstatus in (
            pytest.ExitCode.INTERRUPTED,
            pytest.ExitCode.INTERNAL_ERROR,
        )
        run.cut_short = stopped or bool(session.shouldstop or session.shouldfail)
        try:
            _hear(session.config)
            _wind_up(run, stopped=stopped)
        except KeyboardInterrupt:
            run.cut_short = True
            troubles.append(
                "reclaim: stopped again: not every guest was looked after; the next run says what is left"
            )
        _hear_nothing(session.config)
        release(session.config)
        troubles += [f"reclaim: {words}" for words in _close(run)]
    try:
        yield
    except (OSError, ReclaimError) as exc:
        if run is None or not run.recorded:
            raise
        session.config.stash[PAGES].give_up_rows(exc)
    if run is not None and run.recorded:
        troubles += session.config.stash[PAGES].finish()
        if (
            not all(part.is_written for part in run.parts)
            and session.exitstatus == pytest.ExitCode.OK
        ):
            session.exitstatus = (
                pytest.ExitCode.TESTS_FAILED
            )  # nobody will find what was found


def _close(run: Run) -> list[str]:
    """Close the run; what could not be written, and why a run stopped changing."""
    troubles = run.close()
    stopped = dict.fromkeys(
        part.engine.stopped for part in run.parts if part.engine.stopped
    )
    return [*(f"{words}: nothing more was changed" for words in stopped), *troubles]


def _wind_up(run: Run, *, stopped: bool) -> None:
    """See to the guests that were started or shut down, and count once more, unless the run was *stopped*."""
    for part in run.parts:
        part.engine.leave_all()
    if run.recorded:
        for part in run.parts:
            part.engine.look_after()
    counts = run.recorded and not run.options.definitions_only
    if counts and not (stopped and run.options.mode != "fix"):
        run.measure(
            {guest for part in run.parts for guest in part.guests if part.storage},
            after=True,
        )


def pytest_terminal_summary(
    terminalreporter: TerminalReporter, config: pytest.Config
) -> None:
    run = config.stash.get(RUN, None)
    if run is not None and run.recorded:
        terminal.summary(terminalreporter, run)
    for line in config.stash.get(TROUBLES, []):
        terminalreporter.write_line(printable(line), red=True)
