"""What each command does: the programs that copy, snapshot, stop guests. Nothing is run."""

from __future__ import annotations

import fnmatch
import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

from reclaim.base import masked
from reclaim.jobs import rsync, streams, virsh
from reclaim.jobs.calls import Call, Script, Unread
from reclaim.jobs.harmless import HARMLESS, NOT_JUDGED
from reclaim.jobs.steps import (
    Copy,
    Hold,
    NotUnderstood,
    Release,
    Snapshot,
    Step,
    Steps,
    Wait,
    Wrong,
)
from reclaim.jobs.words import UNKNOWN, absolute, is_sure, shown
from reclaim.jobs.wrappers import SHELLS, WRAPPERS

#: which units start and stop all guests
_ALL_GUESTS = re.compile(r"libvirt-guests(?:\.service|\.sh)?$")
_COPYING_UNIT = re.compile(
    r"back|copy|copies|sync|snap|borg|restic|btrbk|clone|mirror|dump|archiv",
    re.IGNORECASE,
)


def steps_of(script: Script) -> Steps:
    """The steps of a job in the order in which they run."""
    found = Steps()
    unread = deque(sorted(script.unread, key=lambda one: one.index))
    pipes = streams.pipes(script.calls)
    taken: set[int] = set()
    for index, call in enumerate(script.calls):
        while unread and unread[0].index <= index:
            found.all.append(_not_understood(unread.popleft()))
        if id(call) in taken:
            continue
        stream = streams.read(pipes.get(call.pipe) or [call], call)
        if stream is not None:
            copy, used = stream
            taken.update(map(id, used))
            found.all.append(copy)
            if call.name != "dd" or call in used:
                continue
        _add(found, call)
    found.all += map(_not_understood, unread)
    return found


def _not_understood(unread: Unread) -> NotUnderstood:
    return NotUnderstood(unread.text, unread.branch)


def _add(found: Steps, call: Call) -> None:
    if call.name == "cp" and any(
        _is_option(text, "l", "--link") for text in call.texts
    ):
        found.links_generations = True
        found.all += _linked(call, _operands(call, "-t --target-directory -S --suffix"))
        return
    for step in _steps(call):
        if call.host and isinstance(step, Copy):
            text = f"{call.where}: it runs on {call.host}: {step.tool} there is not judged: audit that machine"
            found.all.append(NotUnderstood(text, call.branch, may_hold=False))
        elif call.host and isinstance(step, Hold):
            doubt = (
                step.doubt
                or f"whether {call.where} stops a guest of this machine is not known: it runs on {call.host}"
            )
            found.all.append(replace(step, doubt=doubt))
        elif call.host and isinstance(step, Release):
            continue
        else:
            found.all.append(step)


def is_known(name: str) -> bool:
    """Is it a program that is judged, or known to copy nothing?"""
    return name in _JUDGES or name in HARMLESS or name in NOT_JUDGED or name in WRAPPERS or name in SHELLS or bool(
        rsync.is_called_so(name) or streams.is_filter(name) or re.match(r"python|perl|ruby|php", name)
    )  # fmt: skip


def _steps(call: Call) -> Iterator[Step]:
    if not is_sure(call.words[0].text):
        text = f"{call.where}: which program {shown(call.words[0].text)} is shows only when it runs"
        yield NotUnderstood(f"{text}{_with_words(call)}", call.branch)
        return
    name = call.name
    judge = _JUDGES.get(name) or (_rsync if rsync.is_called_so(name) else None)
    if judge is not None:
        yield from judge(call)
    elif _ALL_GUESTS.search(call.words[0].text):
        yield from _unit(call, call.texts[:1], [name])
    elif name in NOT_JUDGED:
        yield NotUnderstood(
            f"{call.where}: it runs {name}: {NOT_JUDGED[name]}", call.branch
        )
    elif language := re.match(r"python|perl|ruby|php|node|lua", name):
        yield from _other_language(call, language[0])
    elif name not in HARMLESS and not streams.is_filter(name) and name:
        on = f" on {call.host}" if call.host else ""
        text = f"{call.where}: it runs {shown(call.words[0].text)}{on}: what that does is not known"
        yield NotUnderstood(text + _with_words(call), call.branch)


def _with_words(call: Call) -> str:
    """The words of the command that are known to hold no secret."""
    return f" ({masked.words(shown(' '.join(call.texts)))[:60]})" if call.texts else ""


def _other_language(call: Call, language: str) -> Iterator[Step]:
    script = next((text for text in call.texts if not text.startswith("-")), "")
    is_filter = any(text in ("-c", "-e", "-ne", "-pe", "-lane") for text in call.texts)
    if is_filter and not re.search(
        r"rsync|copy|shutil|qemu|system|subprocess|exec", " ".join(call.texts)
    ):
        return
    name = {"php": "PHP"}.get(language, language.capitalize())
    yield NotUnderstood(
        f"{call.where}: it runs {shown(script)[:80]}, a program in {name}: reclaim reads shell",
        call.branch,
    )


# Words ----------------------------------------------------------------------------------------


def _is_option(text: str, short: str, long: str) -> bool:
    """Is it *long*, or a bundle of letters with *short* in it?"""
    if text.startswith("--"):
        return text.partition("=")[0] == long
    return text.startswith("-") and short in text[1:]


def _operands(call: Call, valued: str = "") -> list[str]:
    """The words that are no options; *valued* are the options that take the next word."""
    found: list[str] = []
    rest = list(call.texts)
    takes = valued.split()
    while rest:
        text = rest.pop(0)
        if text == "--":
            return found + rest
        if text.startswith("-") and len(text) > 1:
            if text in takes and rest:
                rest.pop(0)
        else:
            found.append(text)
    return found


def _paths(call: Call, texts: list[str]) -> tuple[str, ...]:
    """As absolute paths; one with a host before it stays."""
    return tuple(
        text if rsync.is_remote(text) else absolute(text, call.folder) for text in texts
    )


def _value(texts: list[str], *names: str) -> str | None:
    for number, text in enumerate(texts):
        for name in names:
            if text == name and number + 1 < len(texts):
                return texts[number + 1]
            if text.startswith(f"{name}=") or (
                len(name) == 2 and text.startswith(name) and len(text) > 2
            ):
                return text[len(name) :].removeprefix("=")
    return None


def _put_together(call: Call) -> bool:
    """May some of the words be options that nobody sees here?"""
    return any(word.may_be_options for word in call.words[1:])


# Copies ---------------------------------------------------------------------------------------


def _rsync(call: Call) -> Iterator[Step]:
    line = rsync.read(call.words)
    if (
        line.has("dry-run")
        or line.has("list-only")
        or (not line.target and not line.doubtful)
    ):
        return
    sources = _paths(call, [word.text for word in line.sources])
    target = "".join(_paths(call, [line.target.text] if line.target else []))
    yield Copy(
        call, "rsync", sources, target, rsync=line, reads_devices=line.has("copy-devices"),
        one_filesystem=line.has("one-file-system"), largest=line.largest, skips=line.leaves_out,
    )  # fmt: skip


def _cp(call: Call) -> Iterator[Step]:
    texts = call.texts
    if "--attributes-only" in texts:
        return
    into = _value(
        [one for one in texts if one.startswith(("-t", "--t"))] and texts,
        "-t",
        "--target-directory",
    )
    operands = _operands(call, "-t --target-directory -S --suffix")
    sources, target = (
        (operands, into) if into else (operands[:-1], "".join(operands[-1:]))
    )
    keeps_nodes = any(_is_option(text, letter, long) for text in texts for letter, long in (
        ("a", "--archive"), ("R", "--recursive"), ("r", "--recursive"), ("d", "--no-dereference"),
        ("P", "--no-dereference")))  # fmt: skip
    target = "".join(_paths(call, [target]))
    wrong = []
    if "--sparse=never" in texts:
        wrong.append(
            Wrong("cp --sparse=never writes every zero", "drop --sparse=never")
        )
    elif (
        any(map(rsync.is_device, sources))
        and not keeps_nodes
        and "--sparse=always" not in texts
        and not rsync.is_device(target)
    ):
        wrong.append(
            Wrong(
                "cp of a device writes every zero",
                "add --sparse=always if the copy is a file",
            )
        )
    store = (
        "its options are put together when it runs"
        if _put_together(call) and len(operands) < 3
        else ""
    )
    yield Copy(
        call, "cp", _paths(call, sources), target, tuple(wrong), "cp keeps the holes that the image has", store,
        reads_devices=not keeps_nodes, one_filesystem=any(_is_option(text, "x", "--one-file-system") for text in texts),
        at_once=bool({"--reflink", "--reflink=always"} & set(texts)),
    )  # fmt: skip


_TAR_VALUED = "fCTXbgKNVHILF"


def _tar(call: Call) -> Iterator[Step]:
    folder, sources, letters, long = call.folder, [], "", []
    target, excluded, listed = "", [], False
    rest = list(call.texts)
    if rest and re.fullmatch(r"[A-Za-z]+", rest[0]):
        rest[0] = f"-{rest[0]}"
        bundle = rest[0]
        values = [letter for letter in bundle if letter in _TAR_VALUED]
        given = [
            value
            for pair in zip(values, rest[1:], strict=False)
            for value in (f"-{pair[0]}", pair[1])
        ]
        rest = [
            f"-{re.sub(f'[{_TAR_VALUED}-]', '', bundle)}",
            *given,
            *rest[1 + len(values) :],
        ]
    while rest:
        text = rest.pop(0)
        if text.startswith("--"):
            name, separator, value = text.partition("=")
            if name in _TAR_LONG and not separator and rest:
                value = rest.pop(0)
            long.append(name)
            option = _TAR_LONG.get(name, "")
        elif text.startswith("-") and len(text) > 1:
            bundle = text[1:]
            at = next(
                (
                    number
                    for number, letter in enumerate(bundle)
                    if letter in _TAR_VALUED
                ),
                None,
            )
            letters += bundle if at is None else bundle[: at + 1]
            if at is None:
                continue
            option, value = bundle[at], bundle[at + 1 :]
            if not value and rest:
                value = rest.pop(0)
        else:
            sources.append(absolute(text, folder))
            continue
        if option == "C":
            folder = absolute(value, folder)
        elif option == "f":
            target = value
        elif option == "x":
            excluded.append(value)
        elif option in ("T", "X"):
            listed = True
            sources += [UNKNOWN] if option == "T" else []
    if not (
        {"--create", "--append", "--update"} & set(long) or set("cru") & set(letters)
    ):
        return
    wrong = () if "--sparse" in long or "S" in letters else (
        Wrong("tar without --sparse stores every zero of a sparse image", "add --sparse"),
    )  # fmt: skip
    store = (
        "its options are put together when it runs"
        if _put_together(call) and wrong
        else ""
    )
    yield Copy(
        call, "tar", tuple(sources), "".join(_paths(call, [target])) if target and target != "-" else "", wrong,
        "tar --sparse", store, one_filesystem="--one-file-system" in long, skips=_exclusions(excluded, listed=listed),
    )  # fmt: skip


_TAR_LONG = {
    "--file": "f", "--directory": "C", "--exclude": "x", "--exclude-from": "X", "--files-from": "T",
    "--listed-incremental": "", "--newer": "", "--transform": "", "--use-compress-program": "", "--rsh-command": "",
    "--blocking-factor": "", "--owner": "", "--group": "", "--mode": "", "--mtime": "", "--label": "", "--format": "",
    "--exclude-tag": "", "--level": "", "--warning": "", "--checkpoint-action": "",
}  # fmt: skip


def _exclusions(
    patterns: list[str], *, listed: bool
) -> Callable[[str, str], bool | None]:
    def skips(source: str, path: str) -> bool | None:
        if any(
            is_sure(one) and _tar_excludes(one.rstrip("/"), path) for one in patterns
        ):
            return True
        return None if listed or not all(map(is_sure, patterns)) else False

    return skips


def _tar_excludes(pattern: str, path: str) -> bool:
    """By tar's manual, "Controlling Pattern-Matching": any run of names in the path may match, and * a slash too."""
    names = path.split("/")
    runs = (
        "/".join(names[start:end])
        for end in range(1, len(names) + 1)
        for start in range(end)
    )
    return any(fnmatch.fnmatchcase(run, pattern) for run in runs)


def _dd(call: Call) -> Iterator[Step]:
    values = dict(text.partition("=")[::2] for text in call.texts)
    if "if" not in values and call.stdin is None:
        return
    source = values.get("if") or (call.stdin.text if call.stdin else UNKNOWN)
    target = values.get("of") or (call.stdout.text if call.stdout else "")
    if target == "/dev/null" or streams.is_a_part(call):
        return
    yield dd_copy(
        call,
        _paths(call, [source]),
        absolute(target, call.folder) if target else "",
        values.get("conv", ""),
    )


def dd_copy(call: Call, sources: tuple[str, ...], target: str, conv: str) -> Copy:
    """A device has no holes: on one dd's `sparse` would leave what was there before."""
    words = conv.split(",")
    sparse = "sparse" in words
    good, store = "dd conv=sparse", ""
    wrong: tuple[Wrong, ...] = ()
    if rsync.is_device(target):
        good = "dd onto a device, which has no holes"
        if sparse:
            text = "dd conv=sparse onto a device leaves there what was there before where the image has zeros"
            wrong = (Wrong(text, "drop conv=sparse"),)
    elif sparse and "notrunc" in words:
        wrong = (Wrong(streams.SEEKS_OVER, "drop notrunc, and write to a new file"),)
    elif not target or target.startswith(UNKNOWN) or not is_sure(target[:1]):
        store = (
            ""
            if sparse
            else "whether it writes a file, and every zero into it, shows only when it runs"
        )
    elif not sparse and target != "/dev/null":
        wrong = (
            Wrong(
                "dd without conv=sparse writes every zero",
                "add conv=sparse, and write to a new file",
            ),
        )
    return Copy(call, "dd", sources, target, wrong, good, store, reads_devices=True)


def _qemu_img(call: Call) -> Iterator[Step]:
    texts = call.texts
    if not texts or texts[0] != "convert":
        if texts[:1] == ["dd"]:
            yield NotUnderstood(
                f"{call.where}: qemu-img dd: whether it leaves zeros out is not judged",
                call.branch,
            )
        return
    valued = "-f -F -O -o -S -B -b -m -r -T -t -l --object --image-opts --source-format --target-format --options"
    operands = _operands(call, valued)[1:]
    target = "".join(_paths(call, operands[-1:]))
    wrong = []
    if ("-S", "0") in pairwise(texts) or "-S0" in texts:
        wrong.append(Wrong("qemu-img convert -S 0 allocates every zero", "drop -S 0"))
    options = ",".join(
        value for one, value in pairwise(texts) if one in ("-o", "--options")
    )
    options += ",".join(
        text[2:] for text in texts if text.startswith("-o") and len(text) > 2
    )
    filled = re.search(r"preallocation=(full|falloc)", options)
    if filled and not rsync.is_device(target):
        text = f"qemu-img convert -o preallocation={filled[1]} allocates the whole copy"
        wrong.append(Wrong(text, f"drop preallocation={filled[1]}"))
    shares = "-U" in texts or "--force-share" in texts
    good = "qemu-img convert leaves zeros out" + (
        "" if shares else ", and a running guest locks it out"
    )
    store = "its options are put together when it runs" if _put_together(call) else ""
    yield Copy(
        call, "qemu-img convert" + (" -U" if shares else ""), _paths(call, operands[:-1]), target, tuple(wrong), good,
        store, reads_devices=True, locks=not shares,
    )  # fmt: skip


def _virt_sparsify(call: Call) -> Iterator[Step]:
    operands = _operands(
        call,
        "--convert --format --option -o --tmp --compress-level --key --ignore --zero",
    )
    if "--in-place" in call.texts or len(operands) < 2:
        return
    yield Copy(call, "virt-sparsify", _paths(call, operands[:-1]), "".join(_paths(call, operands[-1:])),
               good="virt-sparsify leaves zeros out", reads_devices=True)  # fmt: skip


def _virt_clone(call: Call) -> Iterator[Step]:
    guest = _value(call.texts, "-o", "--original") or UNKNOWN
    target = _value(call.texts, "-f", "--file") or ""
    wrong = (Wrong("virt-clone --nonsparse writes every zero", "drop --nonsparse"),)
    yield Copy(call, "virt-clone", (), target, wrong if "--nonsparse" in call.texts else (),
               "virt-clone leaves zeros out, and wants the guest to be off", locks=True, of_guest=guest)  # fmt: skip


def _virtnbdbackup(call: Call) -> Iterator[Step]:
    texts = call.texts
    wrong: tuple[Wrong, ...] = ()
    if (_value(texts, "-t", "--type") or "") == "raw":
        text = "virtnbdbackup --type raw writes the whole disk; its own type, stream, holds data alone"
        wrong = (Wrong(text, "drop --type raw"),)
    guest = _value(texts, "-d", "--domain") or UNKNOWN
    yield Copy(call, "virtnbdbackup", (), wrong=wrong, good="virtnbdbackup: the stream holds data alone",
               at_once=True, of_guest=guest)  # fmt: skip


def _scp(call: Call) -> Iterator[Step]:
    operands = _operands(call, "-P -i -l -c -F -o -J -S -D -X")
    wrong = (
        Wrong(
            "scp writes every zero: the copy is as large as the disk",
            "use rsync --sparse in its place",
        ),
    )
    yield Copy(
        call,
        "scp",
        _paths(call, operands[:-1]),
        "".join(_paths(call, operands[-1:])),
        wrong,
    )


def _mv(call: Call) -> Iterator[Step]:
    operands = _operands(call, "-t -S --suffix")
    paths = _paths(call, operands)
    for source in paths[:-1]:
        yield Snapshot(call, source, paths[-1])
    yield Copy(
        call, "mv", paths[:-1], "".join(paths[-1:]), store="it moves the image itself"
    )


def _store(
    name: str, command: str, restore: str, valued: str = "", skip: int = 0
) -> Callable[[Call], Iterator[Step]]:
    """A store that keeps each content once: zeros take nothing in it, and the restore decides about holes."""

    def judge(call: Call) -> Iterator[Step]:
        texts = call.texts
        if command and command not in texts:
            return
        operands = [one for one in _operands(call, valued) if one != command][skip:]
        listed = any(text.startswith(("-e", "--exclude", "--pattern", "--iexclude", "--filter", "--include", "-x"))
                     for text in texts)  # fmt: skip
        yield Copy(call, name, _paths(call, operands), store=restore, reads_devices="--read-special" in texts,
                   one_filesystem=bool({"-x", "--one-file-system"} & set(texts)),
                   skips=_exclusions([], listed=listed))  # fmt: skip

    return judge


def _once(name: str, restore: str) -> str:
    return (
        f"{name} keeps each content once, so zeros take nothing there; "
        f"whether a restore is sparse is the restore's to say: {restore}"
    )


def _rclone(call: Call) -> Iterator[Step]:
    texts = call.texts
    if not {"copy", "sync", "move", "copyto", "moveto", "bisync"} & set(texts[:3]):
        return
    operands = _operands(call, "--config --transfers --bwlimit --log-file --exclude --include --filter --max-age "
                         "--checkers --log-level --backup-dir --suffix")[1:]  # fmt: skip
    yield Copy(
        call,
        "rclone",
        _paths(call, operands[:1]),
        "",
        store="how rclone's far end keeps zeros is not judged",
    )


def _uploads(call: Call) -> Iterator[Step]:
    """curl and the like, where they send a file."""
    sent = [text for text in (_value(call.texts, "-T", "--upload-file"),) if text]
    sent += [
        text.partition("@")[2]
        for text in call.texts
        if "=@" in text or text.startswith("@")
    ]
    if sent:
        yield Copy(
            call,
            call.name,
            _paths(call, sent),
            store="how the far end keeps it is not judged",
        )


def _far(call: Call) -> Iterator[Step]:
    operands = _operands(call)
    yield Copy(
        call,
        call.name,
        _paths(call, operands),
        store="how the far end keeps zeros is not judged",
    )


def _archive(call: Call) -> Iterator[Step]:
    operands = _operands(call)
    words = operands[2:] if call.name.startswith("7z") else operands[1:]
    if call.name.startswith("7z") and operands[:1] not in (["a"], ["u"]):
        return
    yield Copy(
        call,
        call.name,
        _paths(call, words),
        store=streams.COMPRESSED,
        reads_devices=True,
    )


# Snapshots ------------------------------------------------------------------------------------


def _lvcreate(call: Call) -> Iterator[Step]:
    texts = call.texts
    if not any(
        text in ("-s", "--snapshot") or re.fullmatch(r"-s\w+", text) for text in texts
    ):
        return
    valued = "-L -l -n -c -p -k -I -i -r -t -T -V --size --extents --name --chunksize --permission --thinpool --type"
    operands = _operands(call, valued)
    name = _value(texts, "-n", "--name") or ""
    origin = operands[-1].removeprefix("/dev/") if operands else ""
    group = (
        origin.removeprefix("mapper/").partition("/")[0]
        if "/" in origin
        else name.partition("/")[0]
    )
    if not origin or not name:
        yield NotUnderstood(
            f"{call.where}: lvcreate: which volume it is a snapshot of is not known",
            call.branch,
        )
        return
    short = name.rpartition("/")[2]
    yield Snapshot(call, f"/dev/{origin}", f"/dev/{group}/{short}")


def _mount(call: Call) -> Iterator[Step]:
    operands = _operands(call, "-o -t --options --types -O -L -U")
    if "--bind" in call.texts or "--rbind" in call.texts or len(operands) == 2:
        if len(operands) == 2:
            yield _other_name(call, operands)


def _other_name(call: Call, operands: list[str]) -> Snapshot:
    """The second is another name of the first."""
    origin, path = _paths(call, operands)
    return Snapshot(call, origin, path, still=False)


def _ln(call: Call) -> Iterator[Step]:
    """Links: to their folder they are given, or by the name itself."""
    yield from _linked(call, _operands(call, "-S --suffix"))


def _linked(call: Call, operands: list[str]) -> Iterator[Step]:
    if len(operands) < 2:
        return
    *origins, path = operands
    for origin in origins:
        yield _other_name(
            call,
            [origin, f"{path.rstrip('/')}/{origin.rstrip('/').rpartition('/')[2]}"],
        )
    if len(origins) == 1:
        yield _other_name(call, [origins[0], path])


def _qemu_nbd(call: Call) -> Iterator[Step]:
    """`qemu-nbd --connect=DEVICE IMAGE`: the device holds what the image holds."""
    device = _value(call.texts, "-c", "--connect")
    operands = _operands(
        call, "-c --connect -f --format -o -P -b -p -x -t -B --cache --aio --discard"
    )
    if device and operands:
        yield _other_name(call, [operands[-1], device])


def _losetup(call: Call) -> Iterator[Step]:
    operands = _operands(
        call, "-o --offset --sizelimit -b --sector-size -j --associated -d --detach"
    )
    if len(operands) == 2:
        yield _other_name(call, operands[::-1])


def _btrfs(call: Call) -> Iterator[Step]:
    operands = _operands(call, "-p -c -f -i")
    if operands[:2] in (
        ["subvolume", "snapshot"],
        ["sub", "snap"],
        ["subvolume", "snap"],
        ["sub", "snapshot"],
    ):
        paths = _paths(call, operands[2:4])
        if len(paths) == 2:
            yield Snapshot(call, paths[0], paths[1])
            yield Snapshot(
                call,
                paths[0],
                f"{paths[1].rstrip('/')}/{paths[0].rstrip('/').rpartition('/')[2]}",
            )
    elif operands[:1] == ["send"]:
        text = "btrfs send sends a snapshot; whether a hole stays one at the far end is not judged"
        yield Copy(
            call, "btrfs send", _paths(call, operands[1:]), store=text, at_once=True
        )


def _zfs(call: Call) -> Iterator[Step]:
    if call.texts[:1] == ["send"]:
        text = (
            "zfs send sends a snapshot as it is; whether images lie on it is not known"
        )
        yield Copy(call, "zfs send", (UNKNOWN,), store=text, at_once=True)


# Guests that are stopped ----------------------------------------------------------------------


def _systemctl(call: Call) -> Iterator[Step]:
    operands = _operands(call, "-H -M -p -t --host --machine")
    yield from _unit(call, operands[:1], operands[1:])


def _service(call: Call) -> Iterator[Step]:
    operands = _operands(call)
    yield from _unit(call, operands[1:2], operands[:1])


def _unit(call: Call, action: list[str], units: list[str]) -> Iterator[Step]:
    if any(_ALL_GUESTS.search(unit) for unit in units):
        if action == ["stop"]:
            yield Hold(call, (), "run")
        elif action and action[0] in ("start", "restart"):
            yield Release(call, (), ("run",))
        return
    for unit in units:
        if (
            action
            and action[0] in ("start", "restart")
            and (_COPYING_UNIT.search(unit) or not is_sure(unit))
        ):
            yield NotUnderstood(
                f"{call.where}: it starts {shown(unit)}: declare that as the job",
                call.branch,
            )


def _freeze(call: Call) -> Iterator[Step]:
    """fsfreeze(8), xfs_freeze(8): the host's filesystem, at a mount point."""
    paths = _paths(call, _operands(call))
    if {"-f", "--freeze"} & set(call.texts) and paths:
        yield Hold(call, (), "frozen", path=paths[-1])
    elif {"-u", "--unfreeze"} & set(call.texts):
        yield Release(call, (), ("frozen",))


def _poweroff(call: Call) -> Iterator[Step]:
    """On another machine: that may be the guest."""
    if call.host:
        doubt = f"whether {call.host} is the guest that is shut down there is not known"
        yield Hold(call, (), "run", doubt, path="/")


def _kill(call: Call) -> Iterator[Step]:
    """A signal can stop QEMU as it can any process."""
    signals = {text.lstrip("-").upper().removeprefix("SIG") for text in call.texts}
    if signals & {"STOP", "TSTP", "19"}:
        yield Hold(
            call,
            (),
            "run",
            f"whether what {call.where} stops are the guests is not known",
        )
    elif signals & {"CONT", "18"}:
        yield Release(call, (), ("run",))


def _wait(call: Call) -> Iterator[Step]:
    yield Wait(call)


_JUDGES: dict[str, Callable[[Call], Iterator[Step]]] = {
    "rsync": _rsync,
    "cp": _cp,
    "tar": _tar,
    "gtar": _tar,
    "dd": _dd,
    "qemu-img": _qemu_img,
    "virt-sparsify": _virt_sparsify,
    "virt-clone": _virt_clone,
    "virtnbdbackup": _virtnbdbackup,
    "virsh": virsh.steps,
    "scp": _scp,
    "mv": _mv,
    "borg": _store("borg", "create", _once("borg", "borg extract --sparse"),
                   "-C --compression -e --exclude --comment -c --checkpoint-interval --exclude-from "
                   "--patterns-from --pattern --lock-wait --remote-path --rsh --umask --files-cache", 1),
    "restic": _store("restic", "backup", _once("restic", "restic restore --sparse (since 0.15)"),
                     "-r --repo -p --password-file --tag --host -H -e --exclude --exclude-file --iexclude -o --option "
                     "--files-from --limit-upload --cache-dir --parent --compression"),
    "rustic": _store("rustic", "backup", _once("rustic", "rustic restore --sparse")),
    "kopia": _store("kopia", "create", _once("kopia", "kopia restore --write-sparse-files")),
    "bupstash": _store("bupstash", "put", _once("bupstash", "it writes files whole")),
    "bup": _store("bup", "save", _once("bup", "bup restore --sparse")),
    "duplicity": _store("duplicity", "", "duplicity keeps volumes of tar: how it keeps holes is not judged"),
    "duply": _store("duply", "", "it runs duplicity by a profile of its own, which is not read"),
    "rdiff-backup": _store("rdiff-backup", "", "how rdiff-backup's mirror keeps holes is not judged"),
    "proxmox-backup-client": _store("proxmox-backup-client", "backup", _once("it", "the restore writes a raw image")),
    "rclone": _rclone,
    "curl": _uploads,
    "wget": _uploads,
    **dict.fromkeys(("aws", "s3cmd", "gsutil", "mc", "az", "b2", "s5cmd", "minio"), _far),
    **dict.fromkeys(("7z", "7za", "7zr", "zip", "rar"), _archive),
    "lvcreate": _lvcreate,
    "mount": _mount,
    "ln": _ln,
    "qemu-nbd": _qemu_nbd,
    "losetup": _losetup,
    "btrfs": _btrfs,
    "zfs": _zfs,
    "systemctl": _systemctl,
    "service": _service,
    "fsfreeze": _freeze,
    "xfs_freeze": _freeze,
    "shutdown": _poweroff,
    "poweroff": _poweroff,
    "halt": _poweroff,
    "wait": _wait,
    **dict.fromkeys(("kill", "pkill", "killall"), _kill),
}  # fmt: skip
