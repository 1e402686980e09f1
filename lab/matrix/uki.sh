# Runs inside the root once ukify is there: kernel-install makes unified kernel images.
rm -f /etc/initramfs-tools/conf.d/small
sed -i '/^virtio_pci$/d; /^virtio_blk$/d; /^ext4$/d' /etc/initramfs-tools/modules
update-initramfs -u -k all
printf 'layout=uki\nuki_generator=ukify\n' >/etc/kernel/install.conf
