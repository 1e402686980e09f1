# Runs as the first process of the plain disk of Debian 13, with its other disks beside it: what takes a kernel.
DRACUT=/dev/vdc EXTLINUX=/dev/vdd BOOT=/dev/vde UKI=/dev/vdf THIN=/dev/vdg
export DM_DISABLE_UDEV=1
modprobe -a dm_mod dm_thin_pool vfat nls_ascii nls_cp437

mkswap --quiet /dev/vda2
update-grub
grep -q 'root=/dev/vda1 ' /boot/grub/grub.cfg

# dracut: the kernel's and the image's names are the same
mkswap --quiet ${DRACUT}2
mount ${DRACUT}1 /mnt
cp /etc/default/grub /mnt/etc/default/grub
cp /boot/grub/grub.cfg /mnt/boot/grub/grub.cfg
umount /mnt

# extlinux: with its own master boot record
mkswap --quiet ${EXTLINUX}2
mount ${EXTLINUX}1 /mnt
for folder in dev proc sys; do mount --rbind /$folder /mnt/$folder; done
dd if=/mnt/usr/lib/syslinux/mbr/mbr.bin of=$EXTLINUX bs=440 count=1 conv=notrunc
chroot /mnt extlinux --install /boot/extlinux
umount -R /mnt

# systemd-boot: as kernel-install has it. Without /etc/kernel/cmdline it takes /proc/cmdline.
with_esp() {
	mount "$1"2 /mnt
	for folder in dev proc sys; do mount --rbind /$folder /mnt/$folder; done
	chroot /mnt mkfs.vfat -F 32 -n ESP "$1"1
	mkdir -p /mnt/boot/efi
	mount "$1"1 /mnt/boot/efi
	cat >/mnt/etc/fstab <<-'FSTAB'
		# <file system>	<mount point>	<type>	<options>	<dump>	<pass>
		/dev/vda2	/	ext4	errors=remount-ro	0	1
		/dev/vda1	/boot/efi	vfat	umask=0077	0	1
	FSTAB
	echo 'root=/dev/vda2 ro quiet console=ttyS0 no_timer_check' >/mnt/etc/kernel/cmdline
	export SYSTEMD_ESP_PATH=/boot/efi SYSTEMD_RELAX_ESP_CHECKS=1
	chroot /mnt bootctl install --no-variables
	chroot /mnt kernel-install --verbose add "$RELEASE" "/boot/vmlinuz-$RELEASE"
	echo 'timeout 0' >/mnt/boot/efi/loader/loader.conf
}
with_esp $BOOT
grep -q 'root=/dev/vda2 ' /mnt/boot/efi/loader/entries/*.conf
rm /mnt/etc/kernel/cmdline
umount -R /mnt
with_esp $UKI
ls /mnt/boot/efi/EFI/Linux/*.efi
umount -R /mnt

# LVM: a thin volume as a data disk
quick='activation { udev_sync=0 udev_rules=0 } backup { backup=0 archive=0 }'
pvcreate --config "$quick" ${THIN}1
vgcreate --config "$quick" --physicalextentsize 4m data ${THIN}1
lvcreate --config "$quick" --type thin --size 256m --poolmetadatasize 4m --virtualsize 240m --name srv --thinpool pool data
vgmknodes
mkfs.ext4 -q /dev/mapper/data-srv
vgchange --config "$quick" --activate n data
