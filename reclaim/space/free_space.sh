# Run by the guest's /bin/sh: the free extents of mounted filesystems, from each filesystem's own map. Nothing is written.
# $1: the smallest extent to be listed, in bytes; then for each filesystem its type, its device and its mount point.
# For each it prints "filesystem"; a start and a length on the device for each extent, in bytes; "small" and the bytes of
# all that are smaller; "more" and the bytes of those that are too many to be listed; and "end", if it was read whole.
least=$1
shift
cap=$((40000 / ($# / 3 + 1)))

bounded() {
    if command -v timeout >/dev/null 2>&1; then timeout 20 "$@"; else "$@"; fi
}
whole() {
    # the output of a command, and a line by which awk knows that all of it came
    bounded "$@" 2>/dev/null && printf 'whole\n'
}
common='
    function free(start, bytes) {
        if (bytes <= 0) return
        if (bytes < least) small += bytes
        else if (count++ < cap) printf "%.0f %.0f\n", start, bytes
        else more += bytes
    }
    function done() { printf "small %.0f\nmore %.0f\nend\n", small, more }
'

of_ext() {
    # dumpe2fs(8): each group has a line "  Free blocks: 1-7, 9, 12-15"
    whole dumpe2fs "$1" | awk -v least="$least" -v cap="$cap" "$common"'
        /^Block size:/ { size = $3 }
        /^  Free blocks: [0-9]/ {
            sub(/^  Free blocks: /, "")
            pieces = split($0, piece, ", ")
            for (i = 1; i <= pieces; i++) {
                ends = split(piece[i], end, "-")
                free(end[1] * size, (end[ends] - end[1] + 1) * size)
            }
        }
        /^whole$/ && size { done() }'
}

of_xfs() {
    # xfs_io(8), fsmap -m: EXT,MAJOR,MINOR,PSTART,PEND,OWNER,… in sectors of 512 bytes; special_0:1 is free space
    whole xfs_io -r -c 'fsmap -d -m' "$2" | awk -F, -v least="$least" -v cap="$cap" "$common"'
        /^EXT,/ { known = 1 }
        $6 == "special_0:1" { free($4 * 512, ($5 - $4 + 1) * 512) }
        /^whole$/ && known { done() }'
}

of_btrfs() {
    # the trees as they lie on the device: what the kernel wrote since, its cache for programs does not have
    blockdev --flushbufs "$1" 2>/dev/null
    set -- "$1" "$(bounded btrfs inspect-internal dump-super "$1" 2>/dev/null |
        awk '$1 == "nodesize" { node = $2 } $1 == "dev_item.devid" { id = $2 } END { print node, id }')"
    for tree in chunk extent dev; do
        printf 'next-tree %s\n' $tree
        whole btrfs inspect-internal dump-tree -t $tree "$1"
    done | awk -v least="$least" -v cap="$cap" -v node="${2% *}" -v id="${2#* }" "$common"'
        # two of the copies of the super block are in chunks, and no extents: 64 KiB at 64 MiB and at 256 GiB
        function place(start, end, copy) {
            for (copy = 67108864; copy < 274877906945; copy *= 4096)
                if (start < copy + 65536 && end > copy) {
                    if (copy > start) free(start, copy - start)
                    start = copy + 65536
                }
            free(start, end - start)
        }
        # the part of the address space from start to end, which one chunk has, on this device
        function unused(start, end, stripe) {
            for (stripe = 1; stripe <= stripes[now]; stripe++)
                place(offset[now, stripe] + start - first[now], offset[now, stripe] + end - first[now])
        }
        function until(address) {
            while (now <= chunks && last[now] <= address) {
                if (position < last[now]) unused(position, last[now])
                position = first[++now]
            }
        }
        $1 == "next-tree" { tree = $2; next }
        /^whole$/ { trees++; next }
        tree == "chunk" && $5 == "CHUNK_ITEM" { chunks++; first[chunks] = $6 + 0; next }
        tree == "chunk" && $1 == "length" && chunks {
            last[chunks] = first[chunks] + $2
            if ($0 ~ /RAID(0|10|5|6)/) torn = 1
        }
        tree == "chunk" && $1 == "stripe" && $4 == id { offset[chunks, ++stripes[chunks]] = $6 + 0 }
        tree == "chunk" && $1 == "devid" && $2 == id && $3 == "total_bytes" { total = $4 }
        tree == "extent" && ($5 == "EXTENT_ITEM" || $5 == "METADATA_ITEM") {
            if (!now) { now = 1; position = first[1] }
            start = substr($4, 2) + 0
            until(start)
            if (start > position) unused(position, start)
            position = start + ($5 == "EXTENT_ITEM" ? $6 : node)
        }
        tree == "dev" && $5 == "DEV_EXTENT" && substr($4, 2) == id {
            # no trim reaches the first MiB
            if (!seen) { seen = 1; between = 1048576 }
            if ($6 + 0 > between) free(between, $6 - between)
            starts = $6 + 0
        }
        tree == "dev" && $3 == "chunk_offset" && $5 == "length" { between = starts + $6 }
        END {
            if (trees < 3 || torn || !total || !now || !seen) exit
            until(last[chunks])
            if (total > between) free(between, total - between)
            done()
        }'
}

while [ $# -ge 3 ]; do
    printf 'filesystem\n'
    if command -v awk >/dev/null 2>&1; then
        case $1 in
        ext[34]) of_ext "$2" ;;
        xfs) of_xfs "$2" "$3" ;;
        btrfs) of_btrfs "$2" ;;
        esac
    fi
    shift 3
done
