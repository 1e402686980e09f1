# Run by the guest's /bin/sh, as: sh -c THIS reclaim VERB MOUNT …
# The canary is a file that is deleted while it is open: whatever ends those who hold it, the kernel frees it.
umask 077
verb=$1 mount=$2 token=${3:-}

fail() {
    printf '%s\n' "$*" | tr '\n' ' ' >&2
    exit 1
}

# busybox may have no -f
settle() {
    sync -f -- "$mount" 2>/dev/null || sync
}

# fstrim's exit status, and its words
trim() {
    said=$(fstrim -v "$mount" 2>&1)
    printf 'trim %s %s\n' $? "$(printf '%s' "$said" | tr '\n' ' ')"
}

is_canary() {
    case $(readlink "/proc/$1/fd/3" 2>/dev/null) in
    *"/$token (deleted)") return 0 ;;
    esac
    return 1
}

tidy() {
    [ -n "${folder:-}" ] || return
    cd /
    rm -f -- "$folder/$token"
    rmdir -- "$folder"
}

prepare() {
    settle
    trim
    df -Pk -- "$mount" | tail -n 1
}

plant() {
    mebibytes=$1 seconds=$2
    trap tidy EXIT
    trap 'exit 1' HUP INT TERM
    made=$(mktemp -d -- "$mount/.reclaim-XXXXXX" 2>&1) || fail "$made"
    folder=$made
    cd -P -- "$folder" || fail "$folder: cannot be entered"
    # who may write in the mount point may have put a link there: a folder that is ours, closed and empty is what we made
    [ "$(stat -c '%u %a %d' .)" = "$(id -u) 700 $(stat -c %d -- "$mount")" ] && [ -z "$(ls -A)" ] ||
        fail "$folder: another folder has taken its place"
    set -C
    exec 3>"$token"
    tidy
    folder=
    said=$(dd if=/dev/urandom bs=1048576 count="$mebibytes" conv=fsync 2>&1 >&3) || fail "$said"
    [ "$(stat -L -c %s "/proc/$$/fd/3")" -eq $((mebibytes * 1048576)) ] || fail "$said"
    settle
    # it holds the file until it is dug out, and no longer than this
    if command -v setsid >/dev/null 2>&1; then
        setsid sleep "$seconds" 3>&3 </dev/null >/dev/null 2>&1 &
    else
        sleep "$seconds" 3>&3 </dev/null >/dev/null 2>&1 &
    fi
    printf 'planted %s\n' $!
}

dig() {
    holder=$1
    is_canary "$holder" || fail 'the canary was gone before its time'
    # XFS frees the blocks of a deleted file when it finds the time, those of a truncated one at once
    : >"/proc/$holder/fd/3"
    kill "$holder"
    # what it held is freed on its way to being a zombie
    while read -r state <"/proc/$holder/stat"; do
        case $state in *') Z '* | *') X '*) break ;; esac
        sleep 0.05 2>/dev/null || sleep 1
    done 2>/dev/null
    settle
    trim
}

# a shell that is told to end ends after what it runs, and may just be starting that: so until nobody holds it
sweep() {
    left=50
    while [ "$left" -gt 0 ]; do
        held=
        for process in /proc/[0-9]*; do
            is_canary "${process#/proc/}" && kill "${process#/proc/}" && held=yes
        done 2>/dev/null
        [ -n "$held" ] || return 0
        left=$((left - 1))
        sleep 0.1 2>/dev/null || sleep 1
    done
    fail 'it is still held'
}

[ $# -lt 3 ] || shift 3
"$verb" "$@"
