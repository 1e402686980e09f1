# Runs as the first process of the plain disk, with the other disks of the matrix beside it: what takes a kernel.
# The disks carry their roots already, written by mkfs where a layer will show them.
PLAIN=/dev/vda LVM=/dev/vdc MD0=/dev/vdd MD1=/dev/vde BTRFS=/dev/vdf EFI=/dev/vdg SYSV=/dev/vdh LUKS=/dev/vdi
export DM_DISABLE_UDEV=1
modprobe -a dm_mod dm_crypt raid1 btrfs vfat nls_ascii nls_cp437

mkswap --quiet ${PLAIN}2

# One menu, written by the guest's own tools; the others differ from it in what sed changes.
update-grub
grep -q 'root=/dev/vda1 ' /boot/grub/grub.cfg
menu() {
	sed "$@" /boot/grub/grub.cfg >/mnt/boot/grub/grub.cfg
	rm -f /mnt/initrd.array
	umount -R /mnt
}

# LVM: the root's blocks lie where the first extents of the first volume will be
quick='activation { udev_sync=0 udev_rules=0 } backup { backup=0 archive=0 }'
pvcreate --config "$quick" --dataalignment 1m ${LVM}2
vgcreate --config "$quick" --physicalextentsize 4m lab ${LVM}2
lvcreate --config "$quick" --zero n --wipesignatures n --size "${ROOT_MIB}m" --name root lab
lvcreate --config "$quick" --zero n --wipesignatures n --size 64m --name swap lab
vgmknodes
mkswap --quiet /dev/mapper/lab-swap
mount /dev/mapper/lab-root /mnt
mkfs.ext4 -q ${LVM}1
mkdir /tmp/boot
mount ${LVM}1 /tmp/boot
cp -a /mnt/boot/. /tmp/boot/
rm -rf /mnt/boot/*
umount /tmp/boot
mount ${LVM}1 /mnt/boot
cat >/mnt/etc/fstab <<'FSTAB'
# <file system>	<mount point>	<type>	<options>	<dump>	<pass>
/dev/mapper/lab-root	/	ext4	errors=remount-ro	0	1
/dev/vda1	/boot	ext4	defaults	0	2
/dev/mapper/lab-swap	none	swap	sw	0	0
FSTAB
id=$(blkid -o value -s UUID ${LVM}1)
menu "s,$ROOT_UUID,$id,g; s,/boot/\(vmlinuz\|initrd\),/\1,g; s,root=/dev/vda1 ,root=/dev/mapper/lab-root ,"
vgchange --config "$quick" --activate n lab

# RAID 1: both halves carry the same root already
mdadm --create /dev/md0 --run --level=1 --raid-devices=2 --metadata=1.2 --data-offset=1M --bitmap=none --assume-clean \
	--homehost=reclaim-lab --name=0 --uuid="$ARRAY" ${MD0}1 ${MD1}1
mount /dev/md0 /mnt
cat >/mnt/etc/fstab <<'FSTAB'
# <file system>	<mount point>	<type>	<options>	<dump>	<pass>
/dev/md0	/	ext4	errors=remount-ro	0	1
FSTAB
printf 'DEVICE /dev/vda1 /dev/vdb1\nARRAY /dev/md0 metadata=1.2 UUID=%s name=reclaim-lab:0\n' "$ARRAY" \
	>/mnt/etc/mdadm/mdadm.conf
mv /mnt/initrd.array /mnt/boot/initrd.img-*
menu "s,hd0\,msdos1,mduuid/$(echo "$ARRAY" | tr -d :),g; s,insmod part_msdos,insmod mdraid1x,; s,root=/dev/vda1 ,root=/dev/md0 ,"
mdadm --stop /dev/md0

# btrfs: what mkfs wrote into the top level becomes a subvolume
mkdir /tmp/top
mount ${BTRFS}1 /tmp/top
btrfs subvolume snapshot /tmp/top /tmp/top/@
find /tmp/top -mindepth 1 -maxdepth 1 ! -name @ -exec rm -rf {} +
btrfs subvolume create /tmp/top/@home
umount /tmp/top
mount -o subvol=@ ${BTRFS}1 /mnt
cat >/mnt/etc/fstab <<'FSTAB'
# <file system>	<mount point>	<type>	<options>	<dump>	<pass>
/dev/vda1	/	btrfs	subvol=@	0	0
/dev/vda1	/home	btrfs	subvol=@home	0	0
FSTAB
id=$(blkid -o value -s UUID ${BTRFS}1)
menu "s,$ROOT_UUID,$id,g; s,insmod ext2,insmod btrfs,; s,/boot/\(vmlinuz\|initrd\|grub\),/@/boot/\1,g; \
	s,root=/dev/vda1 ,root=/dev/vda1 rootflags=subvol=@ ,"

# UEFI: on the removable path, where firmware without memory looks
mkfs.vfat -F 32 -n ESP ${EFI}1
mount ${EFI}2 /mnt
mkdir -p /mnt/boot/efi
mount ${EFI}1 /mnt/boot/efi
cat >/mnt/etc/fstab <<'FSTAB'
# <file system>	<mount point>	<type>	<options>	<dump>	<pass>
/dev/vda2	/	ext4	errors=remount-ro	0	1
/dev/vda1	/boot/efi	vfat	umask=0077	0	1
FSTAB
cp /etc/default/grub /mnt/etc/default/
mkdir -p /mnt/boot/efi/EFI/BOOT
mv /mnt/bootx64.efi /mnt/boot/efi/EFI/BOOT/BOOTX64.EFI
menu "s,hd0\,msdos1,hd0\,gpt2,g; s,insmod part_msdos,insmod part_gpt,; s,root=/dev/vda1 ,root=/dev/vda2 ,"

# No systemd: its disk is laid out as the plain one
mount ${SYSV}1 /mnt
cp /etc/default/grub /mnt/etc/default/grub
menu ""

# LUKS: a data disk that opens with a key file
printf 'reclaim-lab' >/tmp/key
cryptsetup luksFormat --batch-mode --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 ${LUKS}1 /tmp/key
cryptsetup open --key-file /tmp/key ${LUKS}1 data
mkfs.ext4 -q /dev/mapper/data
cryptsetup close data
rm -rf /tmp/key /tmp/boot /tmp/top /initrd.array
