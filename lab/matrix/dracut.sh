# Runs inside the root once dracut is there: an image for the hardware of its first boot, without virtio-scsi.
# In a chroot dracut sees the hardware of another machine, so the drivers are named for this image alone.
kernel=$(basename /lib/modules/*)
mkdir -p /etc/dracut.conf.d
printf 'hostonly="yes"\nhostonly_cmdline="no"\n' >/etc/dracut.conf.d/hostonly.conf
dracut --force --no-hostonly-default-device --add-drivers 'virtio_blk ext4' \
	--omit-drivers 'virtio_scsi sd_mod' "/boot/initrd.img-$kernel" "$kernel"
lsinitrd "/boot/initrd.img-$kernel" >/tmp/list
grep -q '/virtio_blk\.ko' /tmp/list
if grep -E '/(virtio_scsi|sd_mod)\.ko' /tmp/list /lib/modules/*/modules.builtin; then exit 1; fi
rm -f /tmp/list
