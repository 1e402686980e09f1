# Runs in the new guest as its first process: what a well-kept guest has and the article's has not.
uuid=$(blkid -s UUID -o value /dev/vda1)
sed -i "s|^/dev/vda1[[:space:]]|UUID=$uuid |" /etc/fstab
sed -i '/GRUB_DISABLE_LINUX_UUID/d' /etc/default/grub
echo 'grub-pc grub-pc/install_devices multiselect' | debconf-set-selections
systemctl enable fstrim.timer
grub-install --target=i386-pc /dev/vda
update-grub
systemd-machine-id-setup
grep -q "root=UUID=$uuid " /boot/grub/grub.cfg

# a way to a disk on each bus that the truth matrix has
for initrd in /boot/initrd.img-*; do
	lsinitramfs "$initrd" >/tmp/initrd.list
	for module in virtio_blk virtio_scsi sym53c8xx ahci; do
		grep -q "/$module\.ko" /tmp/initrd.list
	done
done
rm -f /tmp/initrd.list
# for who boots it with a kernel from outside
e2label /dev/vda1 generic
