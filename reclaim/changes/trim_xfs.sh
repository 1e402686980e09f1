# Run by the guest's /bin/sh: trims each XFS again, by halves of its allocation groups. $@: mount points.
# It prints the mount points that could not be trimmed so.

number() {
    case $1 in '' | *[!0-9]* | ????????????*) return 1 ;; esac
}

# $1: a mount point; then the number of its groups, their blocks, and the bytes of a block
by_halves() {
    for given in "$2" "$3" "$4"; do
        number "$given" || return 1
    done
    # each takes a moment; a filesystem that was grown from a very small one has thousands
    [ "$2" -le 1024 ] || return 1
    size=$(($3 * $4))
    half=$(($3 / 2 * $4))
    start=0
    group=0
    while [ $group -lt "$2" ]; do
        fstrim -o $start -l $half "$1" && fstrim -o $((start + half)) -l $((size - half)) "$1" || return 1
        start=$((start + size))
        group=$((group + 1))
    done
}

for mount; do
    # xfs_info(8): "… agcount=4, agsize=65536 blks", and "data = bsize=4096 …"
    geometry=$(xfs_info "$mount" | sed -n \
        -e 's/.*[ ,]agcount=\([0-9]*\), agsize=\([0-9]*\) blks.*/\1 \2/p' -e 's/^data .*[ =]bsize=\([0-9]*\).*/\1/p')
    by_halves "$mount" $geometry >/dev/null || printf '%s\n' "$mount"
done 2>/dev/null
