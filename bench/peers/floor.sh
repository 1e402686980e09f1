# The commands of reclaim's facts script (reclaim/inside/facts.sh), as a person types them for this one guest: nothing
# is decided, limited, marked or parsed, and no other distribution is thought of. It is the floor that audits are
# measured against; the playbook and the testinfra suite beside it read the same.
cat /etc/os-release /proc/cmdline /etc/fstab /proc/swaps
uname -sr
cat /etc/default/grub /boot/grub/grub.cfg /etc/initramfs-tools/modules /etc/initramfs-tools/initramfs.conf \
    /etc/initramfs-tools/update-initramfs.conf
grep -lsE '^[[:space:]]*(blacklist|install)[[:space:]]' /etc/modprobe.d/*.conf /lib/modprobe.d/*.conf
grep -rlsE '/dev/([vsh]d[a-z]|disk/by-(path|id))' /etc
grep -hE 'devnode|wwid|/dev/[vsh]d' /etc/udev/rules.d/*.rules
df -Pk /boot
lsblk --json --bytes --output \
    NAME,KNAME,TYPE,FSTYPE,UUID,LABEL,PARTUUID,PARTLABEL,SIZE,RO,SERIAL,DISC-MAX,DISC-GRAN,PKNAME,PATH
findmnt --json --bytes --list --output TARGET,SOURCE,FSTYPE,OPTIONS,UUID,FSROOT,SIZE,USED
find /dev -type l -printf '%p\t%l\n'
readlink -f /sys/block/*/device
grep -H . /sys/class/block/*/dev /sys/class/block/*/start
for initrd in /boot/initrd.img-*; do
    stat -c '%i:%s:%Y:%Z' "$initrd"
    lsinitramfs "$initrd" | grep -E 'virtio_scsi|sd_mod|virtio_pci|virtio_blk|devexists|(^|/)init$'
done
grep -hE 'virtio_scsi|sd_mod|virtio_pci|virtio_blk' /lib/modules/*/modules.builtin /lib/modules/*/modules.dep
grep -A9 -E 'Name: grub-(pc|efi)/install_devices' /var/cache/debconf/config.dat
ip -j address
systemctl show fstrim.timer fstrim.service
systemctl is-system-running
systemctl list-units --plain --no-legend --no-pager --state=active,failed
grep -lsrE 'fstrim|zpool +trim' /etc/crontab /etc/cron.d /etc/cron.daily /etc/cron.weekly /etc/cron.monthly /etc/cron.hourly
command -v update-grub update-initramfs findmnt fstrim dracut debconf-communicate
