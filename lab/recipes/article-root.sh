# Runs inside the new root file system, before it becomes a disk: makes it a guest as they were in 2013.
# Everything named /dev/vda here is the point: it is what a change of the disk's bus breaks.

printf '%s\n' reclaim-lab >/etc/hostname
printf '127.0.0.1\tlocalhost reclaim-lab\n' >/etc/hosts
passwd --lock root

cat >/etc/fstab <<'FSTAB'
# /etc/fstab: static file system information.
#
# <file system>	<mount point>	<type>	<options>		<dump>	<pass>
# / was on /dev/vda1 during installation
/dev/vda1	/		ext4	errors=remount-ro	0	1
tmpfs		/tmp		tmpfs	nosuid,nodev,size=64m	0	0
#/dev/vda5	none		swap	sw			0	0
FSTAB

cat >/etc/default/grub <<'GRUB'
# If you change this file, run 'update-grub' afterwards to update
# /boot/grub/grub.cfg.

GRUB_DEFAULT=0
GRUB_TIMEOUT=0
GRUB_DISTRIBUTOR=Debian
GRUB_CMDLINE_LINUX_DEFAULT="quiet"
# Where the host is busy the emulated timer is late: Linux would take it for broken, and panic.
GRUB_CMDLINE_LINUX="console=ttyS0 no_timer_check"

# Uncomment if you don't want GRUB to pass "root=UUID=xxx" parameter to Linux
GRUB_DISABLE_LINUX_UUID=true
GRUB_DISABLE_OS_PROBER=true
GRUB_DISABLE_RECOVERY=true
GRUB_TERMINAL=console
GRUB
echo 'grub-pc grub-pc/install_devices multiselect /dev/vda' | debconf-set-selections

# What the demo is about: nobody trims.
systemctl disable fstrim.timer

# Nothing may write to the disk by itself: the tests count blocks.
mkdir -p /etc/systemd/journald.conf.d
printf '[Journal]\nStorage=volatile\nRuntimeMaxUse=8M\n' >/etc/systemd/journald.conf.d/lab.conf
# Under emulation each of these costs seconds of a boot.
systemctl mask \
	apt-daily.timer apt-daily-upgrade.timer apt-daily.service apt-daily-upgrade.service \
	dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service systemd-pstore.service \
	systemd-tmpfiles-clean.timer systemd-binfmt.service systemd-timesyncd.service \
	systemd-update-utmp.service systemd-update-utmp-runlevel.service \
	dev-hugepages.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
	modprobe@drm.service modprobe@efi_pstore.service modprobe@configfs.service modprobe@fuse.service \
	getty@tty1.service

for initrd in /boot/initrd.img-*; do
	lsinitramfs "$initrd" >/tmp/initrd.list
	for module in virtio_blk virtio_scsi sd_mod virtio_pci; do
		cat /tmp/initrd.list /lib/modules/*/modules.builtin | grep -q "/$module\.ko" || {
			echo "$initrd has no $module" >&2
			exit 1
		}
	done
done
rm -f /tmp/initrd.list
