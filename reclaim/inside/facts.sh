# Read by the guest's /bin/sh in one go. Each section it prints is: a line with $mark and a name, what a command
# printed, followed by the command's exit status in three digits, and the end of a line. Nothing is written.
# The caller sets mark to a word that no file of the guest can hold, since it is new each time. A process costs 15 ms
# under emulation, so whatever the shell can do by itself it does.
mark=${mark:-reclaim-section}
cap=262144
line='
'
empty=$line$line

with_status() {
    "$@"
    printf '%03d' $?
}
probe() {
    printf '%s %s\n' "$mark" "$1"
    shift
    # the pipe hides the exit status: it is appended before
    with_status "$@" 2>/dev/null | head -c $cap
    printf '\n'
}
# a section that is one file
file() {
    printf '%s %s\n' "$mark" "$1"
    head -c $cap "$2" 2>/dev/null
    printf '%03d\n' $?
}
# a section that is the text $3 with the status $2
text() {
    printf '%s %s\n%.262144s%03d\n' "$mark" "$1" "$3" "$2"
}
# a section of a command that prints little, and no binary data
short() {
    name=$1
    shift
    printed=$("$@" 2>/dev/null)
    text "$name" $? "$printed${printed:+$line}"
}
# a section for what is not here: nothing, and the status 0
none() {
    printf '%s %s\n000\n' "$mark" "$1"
}
any() {
    for file; do [ -e "$file" ] && return; done
    return 1
}

files() {
    # those that exist: their number, the path and the size of each, then the bytes of all
    given=$#
    for file; do [ -f "$file" ] && set -- "$@" "$file"; done
    shift "$given"
    printf '%s\n' $#
    [ $# -eq 0 ] && return
    sizes=$(stat -L -c %s "$@") || sizes=$(for file; do wc -c <"$file"; done)
    for file; do
        printf '%s\n%s\n' "$file" "${sizes%%"$line"*}"
        sizes=${sizes#*"$line"}
    done
    cat "$@"
}

keeping_out() {
    # the files of modprobe.d(5) that name a driver which a disk on virtio-scsi needs
    grep -lsE '^[[:space:]]*(blacklist|install)[[:space:]]+(virtio[_-](scsi|pci)|sd[_-]mod)([[:space:]]|$)' \
        /etc/modprobe.d/*.conf /run/modprobe.d/*.conf /usr/local/lib/modprobe.d/*.conf /lib/modprobe.d/*.conf
}

images() {
    # the kernel images of release $1, one a line: where Debian, RHEL, SUSE, Gentoo, Arch and Alpine put it, every
    # copy that kernel-install(8) made of it, whatever its entry token, and the unified images it may be inside
    base=
    [ -r "/lib/modules/$1/pkgbase" ] && read -r base <"/lib/modules/$1/pkgbase"
    for file in "/boot/vmlinuz-$1" "/boot/vmlinux-$1" "/boot/Image-$1" "/boot/kernel-$1" \
        "/boot/bzImage-$1" "/boot/vmlinuz-${base:-$1}" "/boot/vmlinuz-${1##*-}"; do
        [ -e "$file" ] && printf '%s\n' "$file" && break
    done
    for file in /boot/*/"$1"/linux /efi/*/"$1"/linux /boot/efi/*/"$1"/linux; do
        [ -e "$file" ] && printf '%s\n' "$file"
    done
    true
}

initramfs_of() {
    # the initramfs that belongs to the image $2 of release $1; nothing if there is none
    case $2 in
    */linux) set -- "${2%linux}initrd" "${2%linux}initrd.img" "${2%linux}"initrd* "${2%linux}"initramfs* ;;
    *) set -- "/boot/initrd.img-$1" "/boot/initramfs-$1.img" "/boot/initrd-$1" \
        "/boot/initramfs-${2##*/vmlinuz-}.img" "/boot/initramfs-${2##*/vmlinuz-}" ;;
    esac
    for file; do
        [ -e "$file" ] && printf '%s' "$file" && return
    done
}

listing() {
    # the paths in an initramfs, told by the tools of those who made it; two of them open unified images
    case $1 in
    *.efi) command -v objcopy >/dev/null 2>&1 || return 127 ;;
    *) command -v lsinitramfs >/dev/null 2>&1 && { lsinitramfs "$1" 2>/dev/null; return; } ;;
    esac
    if command -v lsinitrd >/dev/null 2>&1; then
        lsinitrd "$1"
    elif command -v lsinitcpio >/dev/null 2>&1; then
        lsinitcpio "$1"
    elif [ "${1%.efi}" = "$1" ] && command -v mkinitfs >/dev/null 2>&1 && command -v cpio >/dev/null 2>&1; then
        { gzip -dc "$1" 2>/dev/null || zstd -dc "$1" 2>/dev/null || xz -dc "$1"; } | cpio -t
    else
        return 127
    fi 2>/dev/null
}

lacking() {
    # which of these the kernel does not even have as modules
    for module; do
        [ -r "$modules/modules.dep" ] && ! grep -q "/$module\.ko" "$modules/modules.dep" &&
            printf 'lacking %s\n' "$module"
    done
    true
}

kernels() {
    seen=' '
    for modules in /lib/modules/*/; do
        kernel=${modules#/lib/modules/}
        kernel=${kernel%/}
        builtin=$(grep -oE '/(virtio_scsi|sd_mod|virtio_pci|virtio_blk)\.ko' "$modules/modules.builtin" 2>/dev/null)
        listed=
        # a release may have several images, and any of them may be the one that boots
        images=$(images "$kernel")
        images="$images
$(within "$kernel" "$images")"
        IFS='
'
        for image in $images; do
            unset IFS
            image "$kernel" "$image"
        done
        unset IFS
    done
    strays
}

image() {
    # what the kernel image $2 of release $1 has, and whether that is known: it may be inside a unified image
    printf 'kernel %s\n' "$1"
    initrd=
    case $2 in
    'maybe '*) printf 'unreadable it may be inside %s\n' "${2#maybe }" && return ;;
    *.efi) initrd=$2 ;;
    *) seen="$seen$2 " initrd=$(initramfs_of "$1" "$2") ;;
    esac
    missing=
    for module in virtio_scsi sd_mod virtio_pci virtio_blk; do
        case $builtin in
        *"/$module.ko"*) printf 'builtin %s\n' "$module" ;;
        *) missing="$missing $module" ;;
        esac
    done
    case $initrd in
    '') ;;
    *.efi) printf 'unified %s\n' "$initrd" ;;
    *)
        printf 'path %s\n' "$initrd"
        [ "${initrd%/*}" = /boot ] || printf 'free %s\n' "$(df -Pk "${initrd%/*}" 2>/dev/null | awk 'END { print $4 }')"
        ;;
    esac
    [ -z "$missing" ] && return
    [ -z "$initrd" ] && printf 'stamp \nno-initramfs\n' && lacking $missing && return
    stamp=$(stat -L -c '%i:%s:%Y:%Z' "$initrd" 2>/dev/null)
    printf 'stamp %s\n' "$stamp"
    case " ${known:-} " in
    *" ${stamp:-none} "*) printf 'same\n' && return ;;
    esac
    # a copy of the one that was listed has the same in it
    if [ -z "$listed" ] || ! cmp -s "$listed" "$initrd"; then
        listed=$initrd
        list=$(listing "$(readlink -f "$initrd")")
        status=$?
    fi
    # a tool may say little and succeed where it could not read the image: each has an /init
    if [ $status -eq 127 ]; then
        printf 'unreadable nothing is installed that lists %s\n' "$initrd"
    elif printf '%s\n' "$list" | grep -qE '(^|[ /])init( -> .*)?$'; then
        for module in $missing; do
            case $list in
            *"/$module.ko"*) printf 'initramfs %s\n' "$module" ;;
            *) lacking "$module" ;;
            esac
        done
        # dracut's hooks and units that wait for a device (wait_for_dev in its dracut-dev-lib.sh)
        printf '%s\n' "$list" |
            sed -nE 's/^.*\/devexists-([^ /]+)\.sh( .*)?$/waits \1/p; s/^.*\.wants\/(dev-[^ /]+)\.device( .*)?$/wants \1/p'
    else
        printf 'unreadable %s cannot be listed\n' "$initrd"
    fi
}

strays() {
    # kernel images without a folder of modules, which is what was built into them; a rescue image is a copy
    for image in /boot/vmlinuz* /boot/vmlinux* /boot/Image* /boot/kernel-* /boot/bzImage*; do
        [ -f "$image" ] && [ ! -L "$image" ] || continue
        case $seen$image in
        *" $image "* | *-rescue-*) continue ;;
        esac
        release=${image##*/}
        release=${release#*-}
        printf 'kernel %s\nstray %s\n' "$release" "${image##*/}"
        if [ -r "/boot/config-$release" ]; then
            for option in SCSI_VIRTIO:virtio_scsi BLK_DEV_SD:sd_mod VIRTIO_PCI:virtio_pci VIRTIO_BLK:virtio_blk; do
                found=lacking
                grep -qx "CONFIG_${option%:*}=y" "/boot/config-$release" && found=builtin
                printf '%s %s\n' $found "${option#*:}"
            done
        else
            printf 'unreadable %s has no modules in /lib/modules: what is built into it is not known\n' "$image"
        fi
    done
    true
}

# where the Boot Loader Specification has unified kernel images
unified='/efi/EFI/Linux/*.efi /boot/EFI/Linux/*.efi /boot/efi/EFI/Linux/*.efi'

number() {
    # an unsigned little-endian number of $3 bytes at offset $2 of file $1, 0 where the file ends before
    set -- "$(od -An -v -t"u$3" -j"$2" -N"$3" "$1" | tr -d ' ')"
    printf '%s' "${1:-0}"
}

context() {
    # the SELinux domain this runs in, and whether that may write where the fixes would (it may where it is permissive)
    tr '\0' '\n' </proc/self/attr/current
    printf '\n'
    [ -w /etc ] && printf 'writable\n'
    true
}

section() {
    # the bytes of section $2 of the PE image $1
    header=$(number "$1" 60 4)
    sections=$(number "$1" $((header + 6)) 2)
    at=$((header + 24 + $(number "$1" $((header + 20)) 2)))
    while [ "$sections" -gt 0 ] && [ "$sections" -lt 100 ]; do
        if [ "$(tail -c +$((at + 1)) "$1" | head -c 8 | tr -d '\0')" = "$2" ]; then
            tail -c +$(($(number "$1" $((at + 20)) 4) + 1)) "$1" |
                head -c "$(number "$1" $((at + 8)) 4)" | head -c 4096
            return
        fi
        at=$((at + 40))
        sections=$((sections - 1))
    done
}

unified() {
    # each unified kernel image and the command line built into it
    for file in $unified; do
        [ -r "$file" ] || continue
        printf '%s\t%s\n' "$file" "$(section "$file" .cmdline | tr '\0\n\t' '   ')"
    done 2>/dev/null
    true
}

within() {
    # the unified kernel images of release $1, one a line; if it has none, nor images of its own ($2), one that
    # does not say its release, marked as such
    maybe='' inside=$2
    for file in $unified; do
        [ -e "$file" ] || continue
        release=$(section "$file" .uname 2>/dev/null | tr -d '\0\n')
        [ "$release" = "$1" ] && inside=$file && printf '%s\n' "$file"
        [ -z "$release$maybe" ] && maybe=$file
    done
    [ -z "$inside" ] && [ -n "$maybe" ] && printf 'maybe %s\n' "$maybe"
    true
}

links() {
    # not /dev/char, /dev/block: they are many, and no name that anybody writes down
    set -- /dev \( -path '/dev/char' -o -path '/dev/block' -o -path '/dev/input' -o -path '/dev/snd' -o -path '/dev/fd' \
        -o -path '/dev/shm' -o -path '/dev/pts' \) -prune -o -type l -path '/dev/*/*'
    find "$@" -printf '%p\t%l\n' && return
    find "$@" -print | while read -r link; do printf '%s\t%s\n' "$link" "$(readlink "$link")"; done # busybox
}

thin() {
    # what each thin pool does with discards (dm-thin in Linux: Documentation/admin-guide/device-mapper/thin-provisioning)
    bounded dmsetup status --target thin-pool
}

btrfs() {
    # the members of each btrfs that is mounted
    for member in /sys/fs/btrfs/*-*/devices/*; do
        [ -e "$member" ] || continue
        uuid=${member#/sys/fs/btrfs/}
        printf '%s\t%s\n' "${uuid%%/*}" "${member##*/}"
    done
    true
}

sysfs() {
    for block in /sys/block/*; do
        [ -e "$block/device" ] && printf '%s\t%s\n' "${block##*/}" "$(cd -P "$block/device" && pwd -P)"
    done
    true
}

layout() {
    # where each layer lies: a partition's start in sectors, a device's number, the device mapper's tables
    for file in /sys/class/block/*/dev; do
        [ -r "$file" ] && read -r number <"$file" || continue
        device=${file%/dev}
        name=${device##*/} start=
        [ -r "$device/dm/name" ] && read -r name <"$device/dm/name"
        [ -r "$device/start" ] && read -r start <"$device/start"
        printf 'device %s %s %s\n' "$number" "${start:--}" "$name"
    done
    if any /sys/class/block/dm-* && command -v dmsetup >/dev/null 2>&1; then
        bounded dmsetup table | while IFS= read -r line; do printf 'table %s\n' "$line"; done
    fi
    true
}

debconf() {
    awk 'BEGIN { RS = "" } /(^|\n)Name: grub-(pc|efi)\/install_devices(\n|$)/ { print $0 "\n" }' /var/cache/debconf/config.dat
}

passed_over() {
    # Debian's run-parts(8) runs no script with a dot in its name; others do
    run-parts --version | grep -q Debian && ! run-parts --test "${1%/*}" | grep -qxF "$1"
}

cron() {
    # the lines of cron's files that trim, as file, tab, line; scripts that are not run are none
    printf '%s\n' "$jobs" | while read -r file; do
        case $file in
        '') continue ;;
        */cron.hourly/* | */cron.daily/* | */cron.weekly/* | */cron.monthly/* | */periodic/*)
            [ -x "$file" ] && ! passed_over "$file" || continue
            ;;
        esac
        grep -E 'fstrim|zpool +trim' "$file" | grep -v '^[[:space:]]*#' |
            while IFS= read -r line; do printf '%s\t%s\n' "$file" "$line"; done
    done
    true
}

trimming() {
    grep -lsE 'fstrim|zpool +trim' /etc/crontab /etc/cron.d/* /etc/cron.daily/* /etc/cron.weekly/* /etc/cron.hourly/* \
        /etc/cron.monthly/* /var/spool/cron/* /var/spool/cron/crontabs/* /etc/crontabs/* /etc/periodic/*/*
}

needs_cron() {
    # util-linux brings the timer also where there is no systemd to run it
    [ -n "$jobs" ] || [ ! -d /run/systemd/system ] ||
        ! any /lib/systemd/system/fstrim.timer /usr/lib/systemd/system/fstrim.timer
}

daemons() {
    cat /proc/[0-9]*/comm | grep -xE 'cron|crond|anacron|fcron|dcron|bcron-sched' | sort -u
    true
}

systemd() {
    # has it started everything? And the units that are active or failed, one a line
    printf '%s\n' "$(systemctl is-system-running)"
    systemctl list-units --plain --no-legend --no-pager --state=active,failed
}

zfs() {
    bounded zpool get -H -o name,value autotrim
}

tools() {
    # where something else is init (sd_booted(3)), systemctl does nothing
    [ -d /run/systemd/system ] && command -v systemctl >/dev/null 2>&1 && printf 'systemctl\n'
    for tool in update-grub grub-mkconfig grub2-mkconfig update-initramfs mkinitramfs dracut mkinitcpio mkinitfs \
        kernel-install findmnt fstrim zpool debconf-communicate; do
        command -v $tool >/dev/null 2>&1 && printf '%s\n' $tool
    done
    examples=/usr/share/doc/util-linux/examples
    [ -f $examples/fstrim.timer ] && [ -f $examples/fstrim.service ] && printf 'fstrim-examples\n'
    for folder in /etc/cron.weekly /etc/periodic/weekly; do
        [ -d $folder ] && printf '%s\n' $folder
    done
    true
}

lvm_names() {
    # lvm.conf(5), those above it (lvmlocal.conf, lvm_TAG.conf), and the devices that lvmdevices(8) ties LVM to
    grep -sHvE '^[[:space:]]*(#|$)' /etc/lvm/lvm.conf /etc/lvm/lvmlocal.conf /etc/lvm/lvm_*.conf /dev/null
    # the default that this build of LVM has, as its own lvm.conf comments on it
    grep -sHE '^[[:space:]]*#[[:space:]]*use_devicesfile[[:space:]]*=' /etc/lvm/lvm.conf
    grep -sHE '^[[:space:]]*IDTYPE=' /etc/lvm/devices/*.devices /dev/null
    true
}

# what runs beside the boot and may be told a device by its bus; links are followed
beside='/etc/multipath.conf /etc/multipath/conf.d/*.conf /etc/auto.* /etc/auto.master.d/* /etc/integritytab
    /etc/veritytab /etc/conf.d/dmcrypt /etc/rc.local /etc/rc.d/rc.local /etc/local.d/*.start /etc/init.d/*
    /etc/crontab /etc/cron.*/* /var/spool/cron/* /var/spool/cron/crontabs/* /etc/crontabs/*
    /etc/systemd/*.conf /etc/systemd/*.conf.d/*.conf /etc/systemd/system/*.* /etc/systemd/system/*.d/*.conf
    /etc/kdump.conf /etc/smartd.conf /etc/hdparm.conf /boot/grub*/device.map
    /etc/cloud/cloud.cfg /etc/cloud/cloud.cfg.d/*.cfg /etc/collectd.conf /etc/collectd/*.conf /etc/telegraf/*.conf
    /etc/telegraf/telegraf.d/*.conf /etc/sysfs.conf /etc/sysfs.d/*.conf /etc/tuned/*/*.conf
    /etc/drbd.conf /etc/drbd.d/* /var/lib/linstor.d/*.res /var/lib/drbd.d/*.res /etc/tgt/*.conf /etc/tgt/conf.d/*
    /etc/target/*.json /etc/target/*.lio /etc/rtslib-fb-target/*.json /etc/nvmet/config.json
    /etc/scst.conf /etc/scst/*.conf /etc/iet/*.conf /etc/ietd.conf /etc/nbd-server/config /etc/nbd-server/conf.d/*
    /etc/vblade.conf /etc/vblade.conf.d/* /etc/trafficserver/* /usr/local/etc/trafficserver/*
    /opt/ts/etc/trafficserver/* /etc/ceph/*.conf /etc/ceph/osd/*.json
    /etc/sysconfig/oracleasm* /etc/sysconfig/rawdevices /etc/sysconfig/sbd /etc/default/sbd /etc/sysconfig/docker-storage*
    /etc/oracleafd.conf /etc/vdoconf.yml /etc/my.cnf /etc/my.cnf.d/*.cnf /etc/mysql/*.cnf /etc/mysql/*.d/*.cnf
    /etc/aerospike/*.conf /etc/squid/*.conf /etc/tmpfiles.d/*.conf /etc/ldev.conf /etc/writeboosttab
    /etc/zfs/vdev_id.conf /var/lib/pacemaker/cib/cib.xml /etc/cluster/cluster.conf /etc/ha.d/haresources
    /etc/libvirt/qemu/*.xml /etc/libvirt/storage/*.xml /etc/xen/*.cfg /var/lib/lxc/*/config
    /etc/docker/daemon.json /etc/bacula/*.conf /etc/bareos/*/*/*.conf /etc/security/pam_mount.conf.xml
    /var/mmfs/etc/nsddevices'
rules() {
    # each rule of udev's on one line
    set --
    for file in /etc/udev/rules.d/*.rules /run/udev/rules.d/*.rules /usr/local/lib/udev/rules.d/*.rules; do
        [ -r "$file" ] && set -- "$@" "$file"
    done
    [ $# -eq 0 ] || awk '
        FNR == 1 { held = "" }
        sub(/\\\r?$/, "") { held = held $0; next }
        { line = held $0; held = "" }
        line !~ /^[ \t]*(#|\r?$)/ { print FILENAME ":" line }' "$@"
}
linked() {
    # names of devices that are names of files, or what links lead to: of units, and of an OSD of Ceph
    for file in /etc/systemd/system/dev-*.device.* /etc/systemd/system/*.wants/*@* /etc/systemd/system/*.requires/*@*; do
        [ -e "$file" ] || [ -L "$file" ] && printf '%s:%s\n' "$file" "${file##*/}"
    done
    for file in /var/lib/ceph/osd/*/block* /var/lib/ceph/osd/*/journal /var/lib/ceph/*/osd.*/block*; do
        [ -L "$file" ] && printf '%s:%s\n' "$file" "$(readlink "$file")"
    done
}
named() {
    rules || return
    grep -sHE "$naming" $beside /dev/null
    grep -sHE '/dev/' /etc/drbd.conf /etc/drbd.d/* /var/lib/linstor.d/*.res /var/lib/drbd.d/*.res /dev/null
    linked
    true
}
disk='(x?vd|[sh]d)[a-z]'
naming="/dev/$disk|/dev/disk/by-(path|id)/|devnode|wwid|dev-$disk|dev-disk-by.x2d(path|id)|:[0-9]+[KMGkmg]?(new)?raw"
naming="$naming|SCANEXCLUDE|^[[:space:]]*DEVS=|[\"'[:space:],=/:]$disk[0-9]*([]\"'[:space:],/:;]|\$)"
others() {
    # the rest of /etc, but for what is read elsewhere, what is a copy, and what knows names by patterns
    find /etc -xdev \( -path /etc/lvm -o -path /etc/udev -o -path /etc/selinux -o -path /etc/apparmor.d -o -path /etc/grub.d \
        -o -path /etc/ssl -o -name '.*' -o -name '*~' -o -name '*.bak' -o -name '*.old' -o -name '*.orig' -o -name '*.save' \
        -o -name '*.dpkg-*' -o -name '*.rpm*' -o -name '*.ucf-*' -o -name 'fstab*' -o -name 'mtab' -o -name 'crypttab*' \
        -o -name 'mdadm.conf' -o -name 'blkid.tab*' -o -name 'grub*' \) -prune \
        -o -type f -size -512 -exec grep -sHE "/dev/$disk|/dev/disk/by-(path|id)/" {} +
}
named_anywhere() {
    if command -v awk >/dev/null 2>&1; then
        { named; others; } | awk '!seen[$0]++'
    else # nor is it needed, unless there are rules
        named && { others || true; }
    fi
}

# lsblk has no column PATH before util-linux 2.33, and no JSON before 2.27
columns=NAME,KNAME,TYPE,FSTYPE,UUID,LABEL,PARTUUID,PARTLABEL,SIZE,RO,SERIAL,DISC-MAX,DISC-GRAN,PKNAME
block_devices() {
    bounded lsblk --json --bytes --output $columns,PATH ||
        bounded lsblk --json --bytes --output $columns || bounded lsblk --pairs --bytes --output $columns
}

mounts() {
    # containers' mounts are no layers, and hundreds of them would not fit
    set -- TARGET,SOURCE,FSTYPE,OPTIONS,UUID,FSROOT nooverlay,nsfs
    bounded findmnt --json --bytes --list --types "$2" --output "$1,SIZE,USED" ||
        bounded findmnt --json --list --types "$2" --output "$1" || bounded findmnt --pairs --types "$2" --output "$1"
}

os_release() {
    # os-release(5): the second file stands in for the first; systems older than both (RHEL 6) have no name
    cat /etc/os-release || cat /usr/lib/os-release || true
}

# statfs on a dead network mount never returns
bounded() {
    if command -v timeout >/dev/null 2>&1; then timeout 15 "$@"; else "$@"; fi
}

short os os_release
short kernel uname -sr
if any /sys/fs/selinux/enforce; then short context context; else none context; fi
file cmdline /proc/cmdline
# none: a root that the kernel is told of, or systemd-gpt-auto-generator(8) finds
if any /etc/fstab || [ -L /etc/fstab ]; then file fstab /etc/fstab; else none fstab; fi
file swaps /proc/swaps
probe boot_files files /etc/default/grub /etc/default/grub.d/*.cfg /boot/grub/grub.cfg /boot/grub2/grub.cfg \
    /boot/efi/EFI/*/grub.cfg /boot/grub/custom.cfg /boot/grub2/custom.cfg /boot/grub2/user.cfg \
    /boot/grub/grubenv /boot/grub2/grubenv /etc/default/grub_installdevice \
    $(grep -lsE '^[[:space:]]*linux(16|efi)?[[:space:]].*/dev/' /etc/grub.d/*) \
    /boot/loader/entries/*.conf /boot/efi/loader/entries/*.conf /efi/loader/entries/*.conf \
    /etc/kernel/cmdline /usr/lib/kernel/cmdline /etc/cmdline.d/*.conf \
    /boot/extlinux.conf /boot/extlinux/extlinux.conf /boot/syslinux/syslinux.cfg /etc/update-extlinux.conf \
    /etc/default/u-boot \
    /boot/grub/menu.lst /boot/grub/grub.conf /etc/lilo.conf /etc/zipl.conf /boot/limine.conf /boot/limine.cfg \
    /boot/efi/EFI/refind/refind.conf /boot/refind_linux.conf \
    /etc/initramfs-tools/conf.d/* /etc/initramfs-tools/modules /etc/initramfs-tools/initramfs.conf \
    /etc/initramfs-tools/update-initramfs.conf \
    /etc/dracut.conf /etc/dracut.conf.d/*.conf /etc/mkinitcpio.conf /etc/mkinitcpio.conf.d/*.conf \
    /etc/mkinitcpio.d/*.preset \
    /etc/mkinitfs/mkinitfs.conf \
    $(keeping_out) \
    /etc/crypttab /etc/crypttab.initramfs /etc/mdadm/mdadm.conf /etc/mdadm.conf
set -- /etc/systemd/system/*.mount /etc/systemd/system/*.swap /etc/systemd/system/*.mount.d/*.conf \
    /etc/systemd/system/*.swap.d/*.conf
if any "$@"; then probe units files "$@"; else none units; fi
if any $unified; then probe unified unified; else none unified; fi
if any /etc/lvm; then probe lvm lvm_names; else none lvm; fi
probe named named_anywhere
short boot_free df -Pk /boot
probe lsblk block_devices
probe findmnt mounts
probe links links
short sysfs sysfs
short layout layout
if any /sys/block/dm-* && command -v dmsetup >/dev/null 2>&1; then short thin thin; else none thin; fi
if any /sys/fs/btrfs/*/devices; then short btrfs btrfs; else none btrfs; fi
probe kernels kernels
short debconf debconf
probe addresses ip -j address
# both units at once: systemctl prints an empty line between them
shown=$(systemctl show fstrim.timer fstrim.service -p LoadState -p ActiveState -p SubState -p UnitFileState -p Result \
    -p ExecStart -p ExecMainStatus -p ExecMainStartTimestamp -p ProtectSystem -p ProtectHome -p FragmentPath \
    -p DropInPaths -p Unit -p ConditionResult -p ConditionTimestamp 2>/dev/null)
status=$?
text timer $status "${shown%%"$empty"*}"
text service $status "${shown#*"$empty"}"
if any /run/systemd/system; then short systemd systemd; else none systemd; fi
jobs=$(trimming)
if [ -n "$jobs" ]; then probe cron cron; else none cron; fi
if needs_cron; then short daemons daemons; else none daemons; fi
if command -v zpool >/dev/null 2>&1; then
    short zfs zfs
    probe vdevs bounded zpool list -vHP
else
    none zfs
    none vdevs
fi
short tools tools
printf '%s end\n' "$mark"
