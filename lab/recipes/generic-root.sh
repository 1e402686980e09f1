# Runs inside the new root file system. The kernel for every machine has thousands of drivers: with those that the truth
# matrix needs its initramfs is a tenth as large, and under emulation that is most of a boot.
echo MODULES=list >/etc/initramfs-tools/conf.d/few
printf '%s\n' virtio_pci virtio_blk virtio_scsi sym53c8xx ahci sd_mod ext4 >>/etc/initramfs-tools/modules
update-initramfs -u -k all
