"""Another content of one file, on this machine or by a shell elsewhere."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from typing import ClassVar

from reclaim.base.errors import (
    ChangedSince,
    ChangeFailed,
    NotAssessable,
    ProbeError,
    ReclaimError,
)
from reclaim.base.masked import diff_files
from reclaim.base.text import last_words
from reclaim.changes.change import Place
from reclaim.changes.in_guest import expect_devices, run
from reclaim.files import localfile
from reclaim.processes import shell_script

#: one argument of a process holds 128 KiB on Linux (MAX_ARG_STRLEN); base64 takes a third of it
MAX_FILE_BYTES = 90_000


@dataclass(frozen=True)
class FileChange:
    """Another content for one file of a guest or of the hypervisor; `before` or `after` is None if there is no file.

    `verify` is a command that is given the new file's path before it counts, and must not find more
    errors than in the old one. `then` is run afterwards; if it fails the file is put back.
    `devices` are those that `before` boots from: if they are gone it must not come back.
    `like` is the content of another file that a new one is made from.
    """

    kind: ClassVar[str] = "file"
    place: str
    path: str
    before: str | None
    after: str | None
    verify: str | None = None
    then: str | None = None
    devices: list[str] = field(default_factory=list)
    like: str | None = field(default=None, compare=False)

    @property
    def target(self) -> str:
        return f"{self.path} in {self.place}"

    @property
    def diff(self) -> str:
        text = diff_files(
            _shown(self.before), _shown(self.after), self.path, _shown(self.like)
        )
        return f"{text}\nthen: {self.then}" if self.then else text

    def apply(self, place: Place) -> dict[str, str]:
        self._write(place, self.before, self.after, self.verify)
        if self.then:
            try:
                run(place, self.then)
            except (ChangeFailed, ProbeError) as exc:  # it failed, or its end is lost
                self._put_back(place, exc)
                raise ChangeFailed(f"{exc}; {self.path} is as it was") from exc
        return {}

    def _put_back(self, place: Place, failed: ReclaimError) -> None:
        """Write the old content after `then` *failed*. Raises ProbeError if it cannot: the new content stands."""
        try:
            self._write(place, self.after, self.before, None)
        except (ChangeFailed, ProbeError) as exc:
            raise ProbeError(
                f"{failed}; reclaim could not put {self.path} back: {exc}"
            ) from exc

    def undo(self, place: Place, outcome: dict[str, str]) -> str:
        if not self._is_back(place):
            expect_devices(place, self.devices)
            self._write_back(place)
        if _is_here(place):
            localfile.sweep(
                self.path,
                *(
                    None if text is None else _bytes(text)
                    for text in (self.before, self.after)
                ),
            )
        if self.then:
            try:
                run(place, self.then)
            except (ChangeFailed, ProbeError) as exc:
                raise ChangeFailed(f"{self.path} is as it was, but {exc}") from exc
        return f"{self.path} is as it was"

    def _write_back(self, place: Place) -> None:
        try:
            self._write(place, self.after, self.before, None)
        except ChangeFailed as exc:
            if not any(reason in str(exc) for reason in _ANOTHER):
                raise
            now = self._content(place)
            raise ChangedSince(
                f"{self.place}: {self.path} has changed since that run; reclaim left it as it is",
                "" if now is None else diff_files(_shown(self.after), now, self.path),
            ) from exc

    def _content(self, place: Place) -> str | None:
        """Return the content of the file as it is now, None if it cannot be read."""
        if _is_here(place):
            try:
                return localfile.read(self.path, MAX_FILE_BYTES).decode(
                    "utf-8", errors="replace"
                )
            except (ProbeError, NotAssessable):
                return None
        result = place.shell.run("head -c %s < %s", str(MAX_FILE_BYTES), self.path)
        return str(result.stdout) if result.rc == 0 else None

    def _is_back(self, place: Place) -> bool:
        """True if the file has its old content already: a run may have died before it wrote."""
        if _is_here(place):
            return localfile.holds(
                self.path, None if self.before is None else _bytes(self.before)
            )
        if self.before is None:
            return bool(place.shell.run("test ! -e %s", self.path).rc == 0)
        result = place.shell.run("sha256sum < %s", self.path)
        return bool(
            result.rc == 0 and result.stdout.split()[:1] == [_digest(self.before)]
        )

    def _write(
        self, place: Place, expected: str | None, wanted: str | None, verify: str | None
    ) -> None:
        if _is_here(place) and not verify:
            contents = [
                None if text is None else _bytes(text) for text in (expected, wanted)
            ]
            try:
                localfile.sweep(
                    self.path, *contents
                )  # what a run that died at this very edit left is in the way
                localfile.write(self.path, *contents)
            except ChangeFailed as exc:
                raise ChangeFailed(f"{self.place}: {self.path}: {exc}") from exc
            return
        content = _bytes(wanted or "")
        if len(content) > MAX_FILE_BYTES:
            raise ChangeFailed(
                f"{self.place}: {self.path} is too large to be written this way"
            )
        result = place.shell.run(
            shell_script.command(4),
            _WRITE,
            self.path,
            "absent" if expected is None else _digest(expected),
            "-" if wanted is None else "+" + base64.b64encode(content).decode(),
            verify or "",
        )
        if result.rc != 0:
            raise ChangeFailed(
                f"{self.place}: {self.path}: {last_words(result.stderr, result.stdout)}"
            )


#: how it is said that the file is not what it was to be
_ANOTHER = ("has changed since it was read", "exists by now")
# Beside, synced, renamed: a crash leaves the old file or the new one. The old file's owner, mode,
# xattrs and label come along with the copy; a symbolic link is followed to the file it means.
# A shell looks a name up each time, and in between others may let it mean another file: so nothing
# is edited in a folder that others may write in, nor below one (as sudoedit(8) does not).
_WRITE = (
    shell_script.HEAD
    + r"""
path=$1 expected=$2 content=$3 verify=$4
fail() { printf '%s\n' "$1" >&2; [ -n "${new:-}" ] && rm -f -- "$new"; exit 1; }
me=$(id -u)
expect_own() {
    folder=$(cd -P -- "$1" 2>/dev/null && pwd -P) || fail 'its folder cannot be looked into'
    while :; do
        found=$(stat -c '%u %a' -- "$folder") || fail "$folder cannot be looked at"
        case "${found%% *} ${found#* }" in
        "0 "[1357]??? | "$me "[1357]???) ;;
        *[2367]? | *[2367]) fail "others may write in $folder (mode ${found#* }): nothing is edited there" ;;
        "0 "* | "$me "*) ;;
        *) fail "the user ${found%% *} may write in $folder: nothing is edited there" ;;
        esac
        [ "$folder" = / ] && return
        folder=$(dirname -- "$folder")
    done
}
links=0
expect_own "$(dirname -- "$path")"
while [ -L "$path" ]; do
    [ $((links += 1)) -le 40 ] || fail 'too many symbolic links'
    target=$(readlink -- "$path") || fail 'the symbolic link cannot be read'
    case $target in /*) path=$target ;; *) path=$(dirname -- "$path")/$target ;; esac
    expect_own "$(dirname -- "$path")"
done
if [ -e "$path" ]; then
    # in a folder like /tmp its owner may rename it
    owner=$(stat -c %u -- "$path")
    case $(stat -c %a -- "$(dirname -- "$path")") in
    [1357]???) [ "$owner" = 0 ] || [ "$owner" = "$me" ] || fail "it is the user $owner's: nothing is edited there" ;;
    esac
fi
if [ "$expected" = absent ]; then
    [ -e "$path" ] && fail 'the file exists by now; nothing was changed'
else
    sum=$(sha256sum <"$path") || fail 'the file cannot be read'
    [ "${sum%% *}" = "$expected" ] || fail 'the file has changed since it was read; nothing was changed'
fi
if [ "$content" = - ]; then
    rm -f -- "$path" && sync
    exit
fi
trap '[ -n "${new:-}" ] && rm -f -- "$new"' HUP INT TERM
made=$(mktemp -- "$(dirname -- "$path")/.reclaim.XXXXXX" 2>&1) || fail "no file can be made beside it: ${made##*: }"
new=$made
if [ "$expected" = absent ]; then
    chmod 0644 "$new"
else
    said=$(cp -a -- "$path" "$new" 2>&1) || fail "the file cannot be copied: ${said##*: }"
fi
said=$(printf '%s' "${content#+}" | base64 -d 2>&1 >"$new") || fail "the new content cannot be written: ${said##*: }"
[ "$(wc -c <"$new")" -gt 0 ] || [ "$content" = + ] || fail 'there is no room for the new content'
if [ -n "$verify" ]; then
    errors() { $verify "$1" 2>&1 | grep -c '\[E\]'; }
    if ! said=$($verify "$new" 2>&1) && [ "$(errors "$new")" -gt "$(errors "$path")" ]; then
        fail "$verify: $(printf '%s' "$said" | tr '\n' ' ')"
    fi
fi
sync -- "$new" || fail 'the new content cannot be synced'
mv -f -- "$new" "$path" || fail 'the new file cannot be put in place'
sync -- "$(dirname -- "$path")" || sync
"""
)


def _is_here(place: Place) -> bool:
    """True for the hypervisor if reclaim runs on it. A guest and another machine are reached by a shell alone."""
    return bool(getattr(place, "is_local", False))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", errors="surrogateescape")


def _digest(text: str) -> str:
    return hashlib.sha256(_bytes(text)).hexdigest()


def _shown(text: str | None) -> str:
    return (
        (text or "")
        .encode("utf-8", errors="surrogateescape")
        .decode("utf-8", errors="replace")
    )
