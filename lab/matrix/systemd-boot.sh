# Runs inside the root once systemd-boot is there: an initramfs that lists its drivers, and virtio-scsi is not among them.
rm -rf /boot/extlinux
echo MODULES=list >/etc/initramfs-tools/conf.d/small
printf '%s\n' virtio_pci virtio_blk ext4 >>/etc/initramfs-tools/modules
update-initramfs -u -k all
