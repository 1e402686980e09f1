# Runs inside the root file system that the guests of the matrix share, after article-root.sh: what their storage needs.
rm -f /etc/machine-id
systemd-machine-id-setup

# Under emulation each of these costs seconds of a boot.
systemctl mask \
	mdmonitor.service mdcheck_start.timer mdcheck_continue.timer mdmonitor-oneshot.timer lvm2-monitor.service \
	systemd-user-sessions.service systemd-random-seed.service systemd-fsck-root.service \
	systemd-journal-flush.service modprobe@dm_mod.service modprobe@loop.service

# The initramfs of an old installation that lists its drivers.
kernel=$(basename /lib/modules/*)
cp -a /etc/initramfs-tools /tmp/small
echo MODULES=list >/tmp/small/conf.d/small
printf '%s\n' virtio_pci virtio_blk ext4 >>/tmp/small/modules
mkinitramfs -d /tmp/small -o /initrd.small "$kernel"
lsinitramfs /initrd.small >/tmp/list
grep -q '/virtio_blk\.ko' /tmp/list
if grep -E '/(virtio_scsi|sd_mod|scsi_[a-z_]*)\.ko' /tmp/list /lib/modules/*/modules.builtin; then exit 1; fi
rm -rf /tmp/small /tmp/list

# What grub-install copies, and the images it makes: to run it in each guest takes ten times as long under emulation.
mkdir -p /boot/grub/fonts /cores
cp -a /usr/lib/grub/i386-pc /boot/grub/
cp /usr/share/grub/unicode.pf2 /boot/grub/fonts/
cp /usr/lib/grub/i386-pc/boot.img /cores/
core() {
	name=$1 prefix=$2
	shift 2
	grub-mkimage -O i386-pc -o "/cores/$name.img" -p "$prefix" biosdisk part_msdos "$@"
}
core plain '(hd0,msdos1)/boot/grub' ext2
core apart '(hd0,msdos1)/grub' ext2
core raid "(mduuid/$(echo "$ARRAY" | tr -d :))/boot/grub" mdraid1x diskfilter ext2
core btrfs '(hd0,msdos1)/@/boot/grub' btrfs
