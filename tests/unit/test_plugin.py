"""The pytest side, hook by hook: options, subjects and their order, and what a report is given."""

from __future__ import annotations

import gc
import signal
import time
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import libvirt
import pytest

from reclaim import parsed, plugin
from reclaim.backups.backup import Backup
from reclaim.backups.job import Job
from reclaim.base import discreet
from reclaim.base.errors import ProbeError
from reclaim.base.verdict import Judgement, Result, Verdict
from reclaim.engine import engine as engines
from reclaim.engine import undo
from reclaim.engine.engine import Subject
from reclaim.engine.part import Options, Part
from reclaim.engine.run import Run
from reclaim.handles.guest import Disk
from reclaim.inventory import Inventory, Policy
from reclaim.processes import bytecode, programs
from reclaim.report import html, publish
from reclaim.requirement import catalogue
from tests.command import FLEET
from tests.support import ROOT, disk_xml, domain_xml, engine, opened, requirement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from reclaim.handles.hypervisor import Hypervisor


class _Config(SimpleNamespace):
    """pytest's, as far as it is asked."""

    # without capturing, as with -p no:capture
    pluginmanager = SimpleNamespace(get_plugins=list, hasplugin=lambda _name: True, getplugin=lambda _name: None)

    def get_verbosity(self) -> int:
        return 0

    def getini(self, name: str) -> list[str]:
        return {"python_files": ["check_*.py"], "python_functions": ["check_*"]}[name]


def _options(**more: Any) -> Namespace:
    """The options that the plugin declares, with their defaults, and pytest's own that it asks for."""
    parser = pytest.Parser(_ispytest=True)
    plugin.pytest_addoption(parser)
    declared = parser.parse_known_args([])
    own: dict[str, Any] = {
        "collectonly": False,
        "help": False,
        "version": 0,
        "markers": False,
        "showfixtures": False,
        "htmlpath": None,
    }
    own |= {"keyword": "", "lf": False, "failedfirst": False, "importmode": "prepend", "show_fixtures_per_test": False}
    own |= {"ignore": None, "ignore_glob": None}
    return Namespace(**{**vars(declared), **own, **more})


def _config(folder: Path = ROOT, *arguments: str, **more: Any) -> Any:
    called = SimpleNamespace(dir=folder, args=arguments)
    return _Config(option=_options(**more), invocation_params=called, args=list(arguments), stash=pytest.Stash())


@pytest.fixture
def hypervisor(tmp_path: Path) -> Hypervisor:
    return opened(tmp_path, domain_xml(disk_xml("vda"), disk_xml("vdb"), name="web"), domain_xml(disk_xml(), name="db"))


@pytest.fixture
def run(hypervisor: Hypervisor, tmp_path: Path) -> Run:
    part = Part(hypervisor, hypervisor.guests, engine(hypervisor, tmp_path, "audit"), tmp_path / "run")
    return Run(Options(), [part])


class _Item:
    """A check for one subject, as pytest collects it."""

    def __init__(self, slug: str, config: Any = None, **params: Any) -> None:
        self.obj = requirement(slug).check if slug in catalogue() else (lambda: None)
        self.name, self.nodeid = slug, f"checks/{slug}"
        self.callspec = SimpleNamespace(params=params)
        self.stash, self.config = pytest.Stash(), config or SimpleNamespace(stash=pytest.Stash())
        self.user_properties: list[tuple[str, object]] = []
        self.location = ("checks/x.py", 7, slug)


def _item(slug: str, config: Any = None, **params: Any) -> Any:
    return _Item(slug, config, **params)


# Options --------------------------------------------------------------------------------------


def _made(config: Any) -> Options:
    return parsed.options_of(config, parsed.file_of_metrics(config))


def test_the_options_of_the_command_line_become_the_runs(tmp_path: Path) -> None:
    (tmp_path / "metrics").mkdir()
    config = _config(
        tmp_path,
        "checks/",
        uri="test:///x",
        guests=["web*,, !db ", "wiki"],
        backups=[Path("copies"), Path("/copies")],
        fix=True,
        restart=True,
        force=True,
        metrics=Path("metrics/one.prom"),
        keep=3,
        hosts="ssh://a,ssh://b",
    )
    made = _made(config)
    assert (made.uri, made.hosts, made.guests) == ("test:///x", ("ssh://a", "ssh://b"), ("web*", "!db", "wiki"))
    assert made.backups == (tmp_path / "copies", Path("/copies"))
    assert (made.mode, made.restart, made.force, made.keep) == ("fix", True, True, 3)
    assert (made.reports, made.metrics) == (ROOT / "reports", tmp_path / "metrics/one.prom")
    assert made.started_in == tmp_path
    assert made.arguments == ("checks/",)


@pytest.mark.parametrize(
    ("flags", "mode"), [({}, "audit"), ({"plan": True}, "plan"), ({"plan": True, "force": True}, "plan")]
)
def test_without_fix_nothing_is_mended(tmp_path: Path, flags: dict[str, bool], mode: str) -> None:
    made = _made(_config(tmp_path, **flags))
    assert (made.mode, made.hosts, made.guests, made.metrics) == (mode, (), (), None)


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        ({"fix": True, "plan": True}, "--plan"),
        ({"boot_stopped": True, "definitions_only": True}, "--boot-stopped"),
        ({"prove": True, "definitions_only": True}, "--prove"),
        ({"restart": True}, "--restart goes with --fix"),
        ({"restart": True, "plan": True}, "--restart goes with --fix"),
        ({"force": True}, "--force goes with --fix or --plan"),
        ({"keep": 0}, "--keep 0"),
        ({"guests": [""]}, "--guests"),
        ({"guests": [",", " , "]}, "--guests"),
        ({"metrics": Path("no-such/one.prom")}, "no-such"),
        ({"metrics": Path("x" * 300, "one.prom")}, "--metrics"),
    ],
)
def test_options_that_cannot_be_are_refused(tmp_path: Path, options: dict[str, Any], fact: str) -> None:
    with pytest.raises(pytest.UsageError) as caught:
        _made(_config(tmp_path, **options))
    assert fact in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "folder", "options", "wants"),
    [
        (["checks/"], ROOT, {}, True),
        (["checks/check_disk_bus.py::check_disk_bus[web/vda]"], ROOT, {}, True),
        (["."], ROOT, {}, True),
        (["tests/unit"], ROOT, {}, False),
        (["tests/unit", "checks"], ROOT, {}, True),
        (["checks/"], ROOT / "tests", {}, False),
        (["checks/"], ROOT, {"help": True}, False),
        (["checks/"], ROOT, {"version": 1}, False),
        (["checks/"], ROOT, {"markers": True}, False),
        (["checks/"], ROOT, {"showfixtures": True}, False),
        (["checks/"], ROOT, {"show_fixtures_per_test": True}, False),
    ],
)
def test_only_who_asks_for_checks_needs_a_hypervisor(
    arguments: list[str], folder: Path, options: dict[str, Any], *, wants: bool
) -> None:
    assert plugin._wants_checks(_config(folder, *arguments, **options)) is wants


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """What setting up changes in this process is left as it is."""
    monkeypatch.setattr(discreet, "begin", lambda _config: None)
    monkeypatch.setattr(programs, "guard", lambda: ["/tmp/others"])
    monkeypatch.setattr(bytecode, "guard", lambda: None)
    monkeypatch.setattr(plugin, "_before", dict)


@pytest.mark.usefixtures("quiet")
def test_a_run_is_opened_and_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "Pages", lambda _config, run: ("pages of", run))
    config = _config(ROOT, "checks/", uri=FLEET, reports=tmp_path / "reports")
    plugin.pytest_configure(config)
    made = config.stash[plugin.RUN]
    assert made.left_out == ["/tmp/others"]
    assert made.recorded
    assert config.stash[plugin.PAGES] == ("pages of", made)
    assert plugin.pytest_report_header(config)[0].startswith("reclaim audit: ")
    made.abandon()
    listed = _config(ROOT, "checks/", uri=FLEET, reports=tmp_path / "reports", collectonly=True)
    plugin.pytest_configure(listed)
    assert not listed.stash[plugin.RUN].recorded
    assert plugin.PAGES not in listed.stash
    other = _config(ROOT, "tests/unit")
    plugin.pytest_configure(other)
    assert plugin.pytest_report_header(other) == []


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    ("error", "ends_as"),
    [
        (libvirt.libvirtError("hung\x1b up"), pytest.UsageError),
        (ProbeError("no\x1b answer"), pytest.UsageError),
        (KeyboardInterrupt(), pytest.exit.Exception),
    ],
)
def test_what_stops_a_run_before_it_begins_is_one_line(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, ends_as: type[BaseException]
) -> None:
    def fail(_run: Run) -> None:
        raise error

    monkeypatch.setattr(Run, "open", fail)
    with pytest.raises(ends_as) as caught:
        plugin.pytest_configure(_config(ROOT, "checks/"))
    assert str(caught.value).isprintable()


# Signals --------------------------------------------------------------------------------------


@pytest.fixture
def handlers() -> Iterator[None]:
    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
def test_what_is_ignored_on_purpose_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config = _config()
    config.stash[plugin.SIGNALS] = plugin._before()
    assert set(config.stash[plugin.SIGNALS]) == {signal.SIGTERM, signal.SIGINT}
    plugin._hear(config)
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    assert signal.getsignal(signal.SIGTERM) is signal.getsignal(signal.SIGINT) is plugin._stop
    plugin._hear_nothing(config)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN


def test_a_second_signal_at_once_is_the_same_wish(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    stop = plugin._Stop()
    with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
        stop(signal.SIGTERM, None)
    stop(signal.SIGINT, None)
    now[0] += 60
    with pytest.raises(KeyboardInterrupt, match="SIGINT"):
        stop(signal.SIGINT, None)


# Collecting -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("slug", "options", "policy", "is_judged"),
    [
        ("disk-bus", {}, {}, True),
        ("disk-bus", {"definitions_only": True}, {}, True),
        ("fstab-uuid", {}, {}, True),
        ("fstab-uuid", {"definitions_only": True}, {}, False),
        ("reclaim-proof", {}, {}, False),
        ("reclaim-proof", {"prove": True}, {}, True),
        ("host-trim", {}, {}, False),
        ("host-trim", {}, {"trim_from_host": True}, True),
        ("sparse-backup", {}, {}, False),
        ("backup-job", {}, {}, False),
    ],
)
def test_a_check_is_collected_if_it_is_judged(
    run: Run, slug: str, options: dict[str, bool], policy: dict[str, bool], *, is_judged: bool
) -> None:
    run.options = Options(**options)  # type: ignore[arg-type]
    run.parts[0].hypervisor.inventory = Inventory(policy=Policy.model_validate(policy))
    config = _config()
    config.stash[plugin.RUN] = run
    collector = SimpleNamespace(config=config)
    made = plugin.pytest_pycollect_makeitem(collector, "x", requirement(slug).check)
    assert made == (None if is_judged else [])


def test_what_is_no_check_is_collected_as_ever(run: Run) -> None:
    config = _config()
    collector = SimpleNamespace(config=config)
    assert plugin.pytest_pycollect_makeitem(collector, "x", requirement("reclaim-proof").check) is None
    config.stash[plugin.RUN] = run
    assert plugin.pytest_pycollect_makeitem(collector, "x", print) is None


def test_subjects_are_those_of_the_handles_that_a_check_takes(run: Run) -> None:
    hypervisor = run.parts[0].hypervisor
    copy = Subject(hypervisor, backup=Backup(hypervisor, "/copies/a"))
    job = Subject(hypervisor, job=Job(hypervisor, "/job", ()))
    run.parts[0].copies.append(copy)
    run.parts[0].jobs.append(job)

    def keys(slug: str) -> list[tuple[str | None, ...]]:
        return [subject.key for subject in plugin._subjects(run, requirement(slug))]

    assert sorted(key[:2] for key in keys("disk-bus")) == [("db", "vda"), ("web", "vda"), ("web", "vdb")]
    assert sorted(key[0] or "" for key in keys("machine-type")) == ["db", "web"]
    assert keys("sparse-backup") == [copy.key]
    assert keys("backup-job") == [job.key]
    assert run.collected[("disk",)] is run.collected[requirement("disk-discard").parameters]


def test_a_guest_whose_disks_cannot_be_read_has_no_disk_rows_and_keeps_no_other(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = engines.everything

    def everything(one: Any, guest: Any) -> list[Subject]:
        if guest.name == "web":
            raise ProbeError("web: its definition cannot be read")
        return ours(one, guest)

    monkeypatch.setattr(engines, "everything", everything)
    assert [subject.key[0] for subject in plugin._subjects(run, requirement("disk-bus"))] == ["db"]


def test_the_id_of_a_row_has_what_tells_it_from_others(run: Run) -> None:
    (part,) = run.parts
    guest, hypervisor = part.guests[0], part.hypervisor
    disk = Subject(hypervisor, guest, Disk(guest, "vda"))
    copy = Subject(hypervisor, guest, Disk(guest, "vda"), Backup(hypervisor, "/copies/a"))
    job = Subject(hypervisor, job=Job(hypervisor, "/etc/job", ()))
    ids = [plugin._id(run, one) for one in (disk, copy, job, Subject(hypervisor, guest), Subject(hypervisor))]
    assert ids == [f"{guest.name}/vda", f"{guest.name}/vda/copies/a", "etc/job", guest.name, "test-driver"]
    run.parts.append(part)
    assert plugin._id(run, disk) == f"test-driver/{guest.name}/vda"


def test_the_subject_of_an_item_is_found_by_its_parameter(run: Run) -> None:
    (part,) = run.parts
    guest, hypervisor = part.guests[0], part.hypervisor
    disk, copy, job = Disk(guest, "vda"), Backup(hypervisor, "/a", guest=guest), Job(hypervisor, "/job", ())
    assert plugin._subject(_item("disk-bus", disk=disk)) == Subject(hypervisor, guest, disk)
    assert plugin._subject(_item("machine-type", guest=guest)) == Subject(hypervisor, guest)
    assert plugin._subject(_item("sparse-backup", backup=copy)) == Subject(hypervisor, guest, None, copy)
    assert plugin._subject(_item("backup-job", job=job)) == Subject(hypervisor, job=job)
    assert plugin._subject_of({"hypervisor": hypervisor}) == Subject(hypervisor)
    assert plugin._subject(_item("no check")) is None


def _kept(config: Any, items: list[Any]) -> list[tuple[str, str | None]]:
    plugin.pytest_collection_modifyitems(SimpleNamespace(), config, items)  # type: ignore[arg-type]
    found = [(item.name, plugin._subject(item)) for item in items]
    return [(name, subject.key[0] if subject else None) for name, subject in found]


def test_one_guest_is_finished_before_the_next_in_the_order_of_mending(run: Run) -> None:
    (part,) = run.parts
    first, second = part.guests
    config = _config()
    config.stash[plugin.RUN] = run
    job = Job(part.hypervisor, "/job", ())
    items = [
        _item("no check"),
        _item("backup-job", job=job),
        _item("disk-bus", disk=Disk(second, "vda")),
        _item("disk-bus", disk=Disk(first, "vda")),
        _item("fstab-uuid", guest=second),
        _item("fstab-uuid", guest=first),
    ]
    assert _kept(config, items) == [
        ("fstab-uuid", first.name),
        ("disk-bus", first.name),
        ("fstab-uuid", second.name),
        ("disk-bus", second.name),
        ("backup-job", None),
        ("no check", None),
    ]
    assert run.is_collected


class _Pages:
    def __init__(self) -> None:
        self.rows = 0

    def choose(self, rows: int) -> None:
        self.rows = rows


@pytest.mark.parametrize("is_collected", [True, False])
def test_a_run_without_anything_to_judge_records_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch, *, is_collected: bool
) -> None:
    monkeypatch.setattr(html, "stand_down", lambda _config: None)
    config, pages = _config(), _Pages()
    config.stash[plugin.RUN], config.stash[plugin.PAGES] = run, pages
    run.recorded, run.is_collected = True, is_collected
    session: Any = SimpleNamespace(config=config, items=[])
    plugin.pytest_collection_finish(session)
    assert run.recorded is not is_collected, "one that was stopped while it collected is recorded"
    run.recorded = True
    session.items = [_item("machine-type", guest=run.parts[0].guests[0]), _item("no check")]
    plugin.pytest_collection_finish(session)
    assert (run.recorded, pages.rows) == (True, 2)


# Running --------------------------------------------------------------------------------------


def _report(when: str = "call", outcome: str = "passed") -> Any:
    return SimpleNamespace(when=when, outcome=outcome, longrepr="pytest's own", user_properties=[])


def _stamped(verdict: Verdict, report: Any, longrepr: object = None) -> Any:
    item = _item("disk-bus")
    item.stash[plugin.RESULT] = Result("disk-bus", "T", "kvm1", "web", "vda", None, verdict, "why")
    report.longrepr = longrepr
    plugin._stamp(item, report)
    return report


@pytest.mark.parametrize("verdict", Verdict, ids=str)
def test_a_report_has_the_verdict_beside_pytests_outcome(verdict: Verdict) -> None:
    report = _stamped(verdict, _report())
    assert report.outcome == verdict.outcome
    assert ("verdict", str(verdict)) in report.user_properties
    assert ("reason", "why") in report.user_properties
    category, letter, (word, _) = plugin.pytest_report_teststatus(report, _config())
    assert (category, word) == (str(verdict), str(verdict).upper())
    assert len(letter) == 1
    if verdict.outcome == "passed":
        assert report.longrepr is None
    elif verdict.outcome == "skipped":
        assert report.longrepr == ("checks/x.py", 8, f"{verdict}: why")
    else:
        assert report.longrepr == f"{verdict}: why"


def test_the_traceback_of_a_fault_of_ours_stays() -> None:
    assert _stamped(Verdict.ERROR, _report(), "Traceback").longrepr == "Traceback"
    assert _stamped(Verdict.NONCOMPLIANT, _report(), "Traceback").longrepr == "noncompliant: why"


def test_a_teardown_has_the_verdict_for_junit_and_pytests_outcome() -> None:
    report = _stamped(Verdict.NONCOMPLIANT, _report("teardown"))
    assert report.outcome == "passed"
    assert ("verdict", "noncompliant") in report.user_properties
    assert plugin.pytest_report_teststatus(report, _config()) is None
    assert _stamped(Verdict.NONCOMPLIANT, _report("setup")).user_properties == []


def test_a_test_that_is_no_check_is_left_to_pytest() -> None:
    report = _report()
    plugin._stamp(_item("no check"), report)
    assert (report.outcome, report.longrepr, report.user_properties) == ("passed", "pytest's own", [])
    assert plugin.pytest_report_teststatus(report, _config()) is None
    assert plugin.pytest_pyfunc_call(_item("no check")) is None


@pytest.fixture
def checked(run: Run) -> Any:
    """An item of a check in a run."""
    config = _config()
    config.stash[plugin.RUN] = run
    config.stash[plugin.HELD] = []
    guest = run.parts[0].guests[0]
    return _item("disk-discard", config, disk=Disk(guest, "vda"))


def test_the_engine_judges_an_item(checked: Any, run: Run) -> None:
    assert plugin.pytest_pyfunc_call(checked) is True
    result = checked.stash[plugin.RESULT]
    assert result.verdict is Verdict.NONCOMPLIANT
    assert list(run.parts[0].engine.results.values()) == [result]


def _made_report(item: Any, excinfo: Any, report: Any) -> Any:
    hook: Any = plugin.pytest_runtest_makereport(item, SimpleNamespace(excinfo=excinfo))  # type: ignore[arg-type]
    next(hook)
    with pytest.raises(StopIteration) as end:
        hook.send(report)
    return end.value.value


def test_a_fault_of_ours_is_an_error_row_with_a_traceback(checked: Any, run: Run) -> None:
    with pytest.raises(ZeroDivisionError) as excinfo:
        _ = 1 // 0
    report = _report("call", "failed")
    report.failed = True
    made = _made_report(checked, excinfo, report)
    [result] = run.parts[0].engine.results.values()
    assert result.verdict is Verdict.ERROR
    assert "ZeroDivisionError" in result.reason
    assert ("verdict", "error") in made.user_properties
    assert "ZeroDivisionError" in str(made.longrepr)


def test_a_row_that_was_judged_keeps_its_verdict_whatever_comes_after(checked: Any) -> None:
    plugin.pytest_pyfunc_call(checked)
    with pytest.raises(ZeroDivisionError) as excinfo:
        _ = 1 // 0
    report = _report("call", "failed")
    report.failed = True
    _made_report(checked, excinfo, report)
    assert checked.stash[plugin.RESULT].verdict is Verdict.NONCOMPLIANT


@pytest.mark.parametrize(
    ("option", "fixtures", "is_plain"),
    [
        ("", ["disk"], True),
        ("", ["disk", "tmp_path"], False),
        ("usepdb", ["disk"], False),
        ("trace", ["disk"], False),
        ("setupshow", ["disk"], False),
        ("setuponly", ["disk"], False),
        ("setupplan", ["disk"], False),
    ],
)
def test_who_watches_pytests_steps_gets_all_of_them(
    checked: Any, option: str, fixtures: list[str], *, is_plain: bool
) -> None:
    for name in ("usepdb", "trace", "setupshow", "setuponly", "setupplan"):
        setattr(checked.config.option, name, name == option)
    checked.fixturenames = fixtures
    assert plugin._is_plain(checked) is is_plain


def test_answers_are_dropped_once_a_guest_is_finished(run: Run, checked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    guest = run.parts[0].guests[0]
    dropped: list[str] = []
    monkeypatch.setattr(type(guest), "lighten", lambda one: dropped.append(one.name))
    monkeypatch.setattr(type(guest), "forget", lambda one, inside=True: dropped.append(f"{one.name} {inside}"))
    subject = plugin._subject(checked)
    assert subject is not None
    plugin._finished(run, subject, _item("machine-type", guest=guest))
    plugin._finished(run, Subject(run.parts[0].hypervisor), None)
    assert dropped == []
    plugin._finished(run, subject, _item("machine-type", guest=run.parts[0].guests[1]))
    assert dropped == [guest.name]
    monkeypatch.setattr(plugin, "_KEPT", 1)
    plugin._finished(run, subject, None)
    assert dropped == [guest.name, guest.name, f"{guest.name} False"]


# The loop -------------------------------------------------------------------------------------


class _Reporter(SimpleNamespace):
    """pytest's reporter, as far as it is asked: what is written, and how loud it is."""

    def __init__(self, verbosity: int = 0) -> None:
        super().__init__(verbosity=verbosity, isatty=False, showfspath=True, stats={"": ["set-up"]}, written=[])
        self.is_flushed = False

    def flush(self) -> None:
        self.is_flushed = True

    def write_ensure_prefix(self, prefix: str, _extra: str) -> None:
        self.written.append(prefix)

    def write_line(self, text: str, **_colours: bool) -> None:
        self.written.append(text)


def _reporting(config: Any, verbosity: int = 0) -> _Reporter:
    reporter = _Reporter(verbosity)
    config.pluginmanager = SimpleNamespace(getplugin=lambda _name: reporter)
    return reporter


def _looked(session: Any) -> list[str]:
    """Walk the hook around pytest's own loop."""
    hook: Any = plugin.pytest_runtestloop(session)
    next(hook)
    with pytest.raises(StopIteration) as end:
        hook.send(True)
    assert end.value.value is True
    return list(session.made)


@pytest.fixture
def session(checked: Any, run: Run, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A session with one row of a guest, and one of a copy of another's disk; what was done is in `made`."""
    (part,) = run.parts
    other = Backup(part.hypervisor, "/copies/a", guest=part.guests[1])
    made: list[str] = []
    _reporting(checked.config)
    monkeypatch.setattr(gc, "freeze", lambda: made.append("freeze"))
    monkeypatch.setattr(run, "gather", lambda guests, _say: made.append(f"gather {[one.name for one in guests]}"))
    monkeypatch.setattr(run, "measure", lambda guests: made.append(f"measure {[one.name for one in guests]}"))
    monkeypatch.setattr(plugin, "_hear_nothing", lambda _config: made.append("deaf"))
    items = [checked, checked, _item("sparse-backup", checked.config, backup=other), _item("no check", checked.config)]
    return SimpleNamespace(config=checked.config, items=items, made=made)


def test_guests_of_the_run_are_looked_into_before_the_first_row(session: Any, run: Run) -> None:
    guest = run.parts[0].guests[0].name
    assert _looked(session) == [f"gather ['{guest}']", f"measure ['{guest}']", "freeze", "deaf"]
    reporter = session.config.pluginmanager.getplugin("terminalreporter")
    assert reporter.showfspath is False
    assert reporter.is_flushed, "the header is out before pytest captures anything"
    assert run.parts[0].hypervisor.progress.__class__.__name__ == "Progress"


def test_for_definitions_alone_no_guest_is_looked_into(session: Any, run: Run) -> None:
    run.options = Options(definitions_only=True)
    _reporting(session.config, verbosity=1)
    assert _looked(session) == ["freeze", "deaf"]
    assert session.config.pluginmanager.getplugin("terminalreporter").showfspath is True


@pytest.mark.parametrize("why", ["collectonly", "no-items", "no-run"])
def test_without_rows_nothing_is_looked_at(session: Any, why: str) -> None:
    session.config.option.collectonly = why == "collectonly"
    if why == "no-items":
        session.items = []
    if why == "no-run":
        del session.config.stash[plugin.RUN]
    assert _looked(session) == []


def test_signals_are_ignored_also_after_a_loop_that_was_stopped(session: Any) -> None:
    hook: Any = plugin.pytest_runtestloop(session)
    next(hook)
    with pytest.raises(KeyboardInterrupt):
        hook.throw(KeyboardInterrupt())
    assert session.made[-1] == "deaf"


@pytest.mark.parametrize(
    ("options", "applied", "only_boots", "finished"),
    [
        ({}, [], True, None),
        ({"mode": "plan"}, [], True, None),
        ({"mode": "fix"}, [], False, True),
        ({"mode": "fix"}, ["a change"], False, True),
        ({"boot_stopped": True}, [], True, True),
        ({"boot_stopped": True}, ["a change"], True, False),
        ({"boot_stopped": True}, [], False, None),
    ],
)
def test_what_died_is_finished_by_who_may_change_something(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    applied: list[str],
    *,
    only_boots: bool,
    finished: bool | None,
) -> None:
    made: list[bool] = []
    monkeypatch.setattr(undo, "finish", lambda *_arguments, carries_on: made.append(carries_on))
    run.options = Options(**options)
    died: Any = SimpleNamespace(applied=applied, left_only_boots=only_boots)
    run.interrupted.append((run.parts[0], died))
    plugin._finish_interrupted(run, SimpleNamespace(line=print))  # type: ignore[arg-type]
    assert made == ([] if finished is None else [finished])


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The protocols that rows go through, as they are begun."""
    made: list[str] = []

    def held(_item: object, **more: object) -> list[object]:
        made.append(f"held {more['log']}")
        return []

    monkeypatch.setattr(plugin, "_protocol", lambda _item: made.append("short"))
    monkeypatch.setattr(plugin, "runtestprotocol", held)
    monkeypatch.setattr(plugin, "release", lambda _config: made.append("release"))
    monkeypatch.setattr(plugin, "_finished", lambda *_arguments: made.append("finished"))
    return made


def test_a_plain_row_has_the_short_protocol_and_a_line_of_its_guest(checked: Any, run: Run, steps: list[str]) -> None:
    reporter = _reporting(checked.config)
    for name in ("usepdb", "trace", "setupshow", "setuponly", "setupplan"):
        setattr(checked.config.option, name, False)
    checked.fixturenames = ["disk"]
    assert plugin.pytest_runtest_protocol(checked, None) is True
    assert steps == ["short", "finished"]
    assert reporter.written == [f"{run.parts[0].guests[0].name} "]
    assert reporter.stats == {}, "the reports of set-ups are not kept"
    checked.config.option.setupshow = True
    assert plugin.pytest_runtest_protocol(checked, None) is None, "pytest makes its own steps"
    assert steps == ["short", "finished"]


def test_a_test_of_the_project_itself_is_left_to_pytest(checked: Any, steps: list[str]) -> None:
    _reporting(checked.config)
    assert plugin.pytest_runtest_protocol(_item("no check", checked.config), None) is None
    assert plugin.pytest_runtest_protocol(_item("machine-type", _config()), None) is None
    assert steps == []


@pytest.mark.parametrize(
    ("options", "is_held"),
    [
        ({"boot_stopped": True}, True),
        ({"mode": "fix", "restart": True}, True),
        ({"mode": "fix"}, False),
        ({"mode": "plan", "restart": True}, False),
    ],
)
def test_rows_wait_for_their_guest_if_a_later_one_can_change_them(
    checked: Any, run: Run, steps: list[str], monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], *, is_held: bool
) -> None:
    _reporting(checked.config)
    run.options = Options(**options)
    visited: list[str] = []
    monkeypatch.setattr(run.parts[0].engine, "visit", lambda guest: visited.append(guest.name))
    monkeypatch.setattr(plugin, "_is_plain", lambda _item: True)
    left: list[str] = []
    monkeypatch.setattr(run, "leave", lambda guest: left.append(guest.name))
    first, second = run.parts[0].guests
    assert plugin.pytest_runtest_protocol(checked, _item("machine-type", guest=first)) is True
    assert steps == (["held False"] if is_held else ["short", "finished"])
    assert left == []
    assert plugin.pytest_runtest_protocol(checked, _item("machine-type", guest=second)) is True
    assert left == ([first.name] if is_held else [])
    assert ("release" in steps) is is_held
    assert visited == ([first.name] * 2 if run.options.boot_stopped else [])
    plugin.pytest_runtest_protocol(checked, None)
    assert left == ([first.name] * 2 if is_held else [])


def test_rows_of_no_guest_are_held_for_themselves(checked: Any, run: Run, steps: list[str]) -> None:
    _reporting(checked.config)
    run.options = Options(mode="fix", restart=True)
    job = _item("backup-job", checked.config, job=Job(run.parts[0].hypervisor, "/job", ()))
    assert plugin.pytest_runtest_protocol(job, None) is True
    assert steps == ["held False", "release"]


@pytest.mark.parametrize(("verbosity", "has_line"), [(0, True), (1, False), (-1, False)])
def test_a_guest_has_a_line_if_nothing_else_is_asked_for(
    checked: Any, run: Run, verbosity: int, *, has_line: bool
) -> None:
    reporter = _reporting(checked.config, verbosity)
    plugin._guest_line(checked)
    plugin._guest_line(_item("no check", checked.config))
    plugin._guest_line(_item("backup-job", checked.config, job=Job(run.parts[0].hypervisor, "/job", ())))
    assert reporter.written == ([f"{run.parts[0].guests[0].name} ", "backups "] if has_line else [])


def test_a_guest_that_cannot_start_begins_with_the_row_that_revives_it(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    slugs = [slug for slug, one in catalogue().items() if one.revives and "guest" in one.parameters]
    guest = run.parts[0].guests[0]
    config = _config()
    config.stash[plugin.RUN] = run
    first = next(slug for slug, one in catalogue().items() if one.parameters == ("guest",) and not one.revives)
    for slug in slugs:
        items = [_item(first, guest=guest), _item(slug, guest=guest)]
        assert _kept(config, list(items)) == [(first, guest.name), (slug, guest.name)]
        with monkeypatch.context() as patch:
            patch.setattr(plugin, "_cannot_start", lambda _guest: True)
            assert _kept(config, list(items)) == [(slug, guest.name), (first, guest.name)]
    assert slugs


# Finishing ------------------------------------------------------------------------------------


@pytest.fixture
def order(run: Run, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The steps of the end of a run, as they are made."""
    made: list[str] = []
    one = run.parts[0].engine
    monkeypatch.setattr(one, "leave_all", lambda: made.append("leave"))
    monkeypatch.setattr(one, "look_after", lambda: made.append("look after"))
    monkeypatch.setattr(run, "measure", lambda guests, after: made.append(f"count {len(set(guests))} {after}"))
    run.recorded = True
    return made


@pytest.mark.parametrize(
    ("options", "stopped", "counted"),
    [
        ({}, False, True),
        ({}, True, False),
        ({"mode": "fix"}, True, True),
        ({"definitions_only": True}, False, False),
    ],
)
def test_bytes_are_counted_once_more_unless_the_run_was_stopped(
    run: Run, order: list[str], options: dict[str, Any], *, stopped: bool, counted: bool
) -> None:
    run.options = Options(**options)
    run.parts[0].storage["web", "vda"] = SimpleNamespace()  # type: ignore[assignment]
    plugin._wind_up(run, stopped=stopped)
    assert order == ["leave", "look after", *["count 2 True"] * counted]
    run.recorded = False
    order.clear()
    plugin._wind_up(run, stopped=False)
    assert order == ["leave"], "what was started is shut down also if nothing is recorded"


def test_why_a_run_changed_nothing_more_is_told_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "close", lambda: ["no record"])
    run.parts.append(run.parts[0])
    assert plugin._close(run) == ["no record"]
    run.parts[0].engine.stopped = "the journal cannot be written"
    told, other = plugin._close(run)
    assert told.startswith("the journal cannot be written")
    assert other == "no record"


@pytest.mark.parametrize(
    ("is_written", "status", "expected"), [(True, 0, 0), (False, 0, 1), (False, 2, 2), (True, 1, 1)]
)
def test_a_run_without_its_record_has_not_passed(run: Run, status: int, expected: int, *, is_written: bool) -> None:
    config = _config()
    config.stash[plugin.TROUBLES] = ["before"]
    config.stash[plugin.PAGES] = SimpleNamespace(finish=lambda: ["page"])
    session: Any = SimpleNamespace(config=config, exitstatus=status)
    run.parts[0].is_written = is_written
    plugin._finish_pages(session, run)
    assert session.exitstatus == expected
    assert config.stash[plugin.TROUBLES] == ["before", "page"]


def _held(config: Any, run: Run) -> Callable[[], list[str]]:
    """One row that was held back, and what was logged of it."""
    logged: list[str] = []
    hook = SimpleNamespace(
        pytest_runtest_logstart=lambda **_more: logged.append("start"),
        pytest_runtest_logreport=lambda report: logged.append(str(dict(report.user_properties).get("verdict"))),
        pytest_runtest_logfinish=lambda **_more: logged.append("finish"),
    )
    reporter = SimpleNamespace(verbosity=0, write_ensure_prefix=lambda *words: logged.append(words[0]))
    config.pluginmanager = SimpleNamespace(getplugin={"terminalreporter": reporter}.get)
    item = _item("disk-discard", config, disk=Disk(run.parts[0].guests[0], "vda"))
    item.ihook = hook
    plugin.pytest_pyfunc_call(item)
    config.stash[plugin.HELD].append((item, [_report("setup"), _report("call")]))
    item.stash[plugin.RESULT].take(Judgement(Verdict.ERROR, "changed since"))
    return lambda: logged


def test_rows_that_were_held_back_are_reported_as_they_are_by_then(checked: Any, run: Run) -> None:
    logged = _held(checked.config, run)
    plugin.release(checked.config)
    assert logged() == [f"{run.parts[0].guests[0].name} ", "start", "None", "error", "finish"]
    plugin.release(checked.config)
    assert len(logged()) == 5


@pytest.mark.parametrize("status", [pytest.ExitCode.INTERRUPTED, pytest.ExitCode.OK])
def test_a_run_that_was_stopped_says_so_in_its_record(
    checked: Any, run: Run, order: list[str], monkeypatch: pytest.MonkeyPatch, status: pytest.ExitCode
) -> None:
    monkeypatch.setattr(run, "close", list)
    checked.config.stash[plugin.SIGNALS] = {}
    checked.config.stash[plugin.TROUBLES] = []
    session: Any = SimpleNamespace(config=checked.config, shouldstop=False, shouldfail=False)
    plugin._finish_run(session, run, status)
    assert run.cut_short is (status is pytest.ExitCode.INTERRUPTED)
    assert order[:2] == ["leave", "look after"]

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run.parts[0].engine, "leave_all", interrupted)
    plugin._finish_run(session, run, status)
    assert run.cut_short
    assert len(checked.config.stash[plugin.TROUBLES]) == 1
