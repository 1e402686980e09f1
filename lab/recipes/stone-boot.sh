# Runs as the first process of a copy of the article guest: makes it one that no virtio-scsi controller can boot,
# and whose administrator cannot rebuild the initramfs, as after a vendor's package was removed badly.
cat >/etc/initramfs-tools/conf.d/small <<'CONF'
MODULES=list
CONF
cat >>/etc/initramfs-tools/modules <<'LIST'
virtio_pci
virtio_blk
ext4
LIST
update-initramfs -u -k all

for initrd in /boot/initrd.img-*; do
	lsinitramfs "$initrd" >/tmp/initrd.list
	grep -q '/virtio_blk\.ko' /tmp/initrd.list
	if grep -E '/(virtio_scsi|sd_mod|scsi_[a-z_]*)\.ko' /tmp/initrd.list; then exit 1; fi
done
rm -f /tmp/initrd.list
if grep -E '/(virtio_scsi|sd_mod)\.ko' /lib/modules/*/modules.builtin; then exit 1; fi

cat >/etc/initramfs-tools/hooks/storvendor <<'HOOK'
#!/bin/sh
case "$1" in
prereqs) exit 0 ;;
esac
echo "E: storvendor: cannot copy /opt/storvendor/lib/libsv.so.2: No such file or directory" >&2
exit 1
HOOK
chmod 755 /etc/initramfs-tools/hooks/storvendor

sha256sum /boot/initrd.img-* >/tmp/initrd.sums
if update-initramfs -u -k all; then
	echo 'update-initramfs was to fail' >&2
	exit 1
fi
sha256sum --check /tmp/initrd.sums
rm -f /tmp/initrd.sums
