# Runs inside the root once extlinux has taken the place of GRUB.
kernel=$(basename /lib/modules/*)
rm -rf /boot/grub /etc/default/grub /etc/dracut.conf.d
mkdir -p /boot/extlinux
cat >/boot/extlinux/extlinux.conf <<CONF
SERIAL 0
DEFAULT debian
PROMPT 0
TIMEOUT 1

LABEL debian
	LINUX /boot/vmlinuz-$kernel
	INITRD /boot/initrd.img-$kernel
	APPEND root=/dev/vda1 ro quiet console=ttyS0 no_timer_check
CONF
