# Read by the guest's /bin/sh in one go. Each line it prints is: name, a space, base64 of what a
# command printed followed by the command's exit status in three digits. Nothing is written.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL
cap=262144

say() {
    name=$1
    shift
    printf '%s ' "$name"
    { "$@" 2>/dev/null | head -c $cap; } | base64 | tr -d '\n'
    printf '\n'
}
# the pipe in say hides the exit status: append it
with_status() {
    "$@"
    printf '%03d' $?
}
probe() {
    name=$1
    shift
    say "$name" with_status "$@"
}

files() {
    # each existing file as: its path, its size, its bytes
    for file; do
        if [ -f "$file" ]; then
            printf '%s\n%s\n' "$file" "$(wc -c <"$file")"
            cat "$file"
            printf '\n'
        fi
    done
}

kernels() {
    for modules in /lib/modules/*/; do
        kernel=${modules#/lib/modules/}
        kernel=${kernel%/}
        [ -e "/boot/vmlinuz-$kernel" ] || continue
        printf 'kernel %s\n' "$kernel"
        for module in virtio_scsi sd_mod virtio_pci; do
            if grep -q "/$module\.ko" "$modules/modules.builtin" 2>/dev/null; then
                printf 'builtin %s\n' "$module"
            fi
        done
        if grep -q '/virtio_scsi\.ko' "$modules/modules.builtin" 2>/dev/null &&
            grep -q '/sd_mod\.ko' "$modules/modules.builtin" 2>/dev/null; then
            continue
        fi
        initrd=/boot/initrd.img-$kernel
        stamp=$(stat -L -c '%i:%s:%Y' "$initrd" 2>/dev/null)
        printf 'stamp %s\n' "$stamp"
        if [ ! -e "$initrd" ]; then
            printf 'no-initramfs\n'
        elif [ -n "$stamp" ] && case " ${known:-} " in *" $stamp "*) ;; *) false ;; esac; then
            printf 'same\n'
        elif ! command -v lsinitramfs >/dev/null 2>&1; then
            printf 'unreadable lsinitramfs is not installed\n'
        elif list=$(lsinitramfs "$(readlink -f "$initrd")" 2>/dev/null) && [ -n "$list" ]; then
            # it says nothing and succeeds where it could not read the image
            for module in virtio_scsi sd_mod virtio_pci; do
                case $list in
                *"/$module.ko"*) printf 'initramfs %s\n' "$module" ;;
                esac
            done
        else
            printf 'unreadable lsinitramfs failed on %s\n' "$initrd"
        fi
    done
}

links() {
    find /dev/disk /dev/mapper -type l -printf '%p\t%l\n'
}

sysfs() {
    for block in /sys/block/*; do
        [ -e "$block/device" ] && printf '%s\t%s\n' "${block##*/}" "$(readlink -f "$block/device")"
    done
    true
}

debconf() {
    awk 'BEGIN { RS = "" } /(^|\n)Name: grub-pc\/install_devices(\n|$)/' /var/cache/debconf/config.dat
}

cron() {
    grep -ls fstrim /etc/crontab /etc/cron.d/* /etc/cron.daily/* /etc/cron.weekly/* /etc/cron.hourly/* \
        /var/spool/cron/* /var/spool/cron/crontabs/* /etc/periodic/*/*
    true
}

tools() {
    for tool in systemctl update-grub update-initramfs findmnt fstrim debconf-communicate; do
        command -v $tool >/dev/null 2>&1 && printf '%s\n' $tool
    done
    true
}

# statfs on a dead network mount never returns
bounded() {
    if command -v timeout >/dev/null 2>&1; then timeout 15 "$@"; else "$@"; fi
}

probe os cat /etc/os-release
probe kernel uname -r
probe boot_id cat /proc/sys/kernel/random/boot_id
probe cmdline cat /proc/cmdline
probe fstab cat /etc/fstab
probe swaps cat /proc/swaps
probe boot_files files /etc/default/grub /etc/default/grub.d/*.cfg /boot/grub/grub.cfg /etc/grub.d/40_custom \
    /etc/initramfs-tools/conf.d/resume /etc/initramfs-tools/modules /etc/crypttab /etc/kernel/cmdline
probe lsblk bounded lsblk --json --bytes --output \
    NAME,KNAME,PATH,TYPE,FSTYPE,UUID,LABEL,PARTUUID,PARTLABEL,SIZE,RO,SERIAL,DISC-MAX,DISC-GRAN,PKNAME
probe findmnt bounded findmnt --json --bytes --list --output TARGET,SOURCE,FSTYPE,OPTIONS,UUID,MAJ:MIN,FSROOT,SIZE,USED
probe links links
probe sysfs sysfs
probe kernels kernels
probe debconf debconf
probe addresses ip -j address
probe timer systemctl show fstrim.timer -p LoadState -p ActiveState -p UnitFileState
probe service systemctl show fstrim.service -p LoadState -p Result -p ExecMainStatus -p ExecMainStartTimestamp
probe failed systemctl list-units --failed --plain --no-legend --no-pager
probe cron cron
probe tools tools
printf 'end\n'
