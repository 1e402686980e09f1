# Runs in the new guest as its first process: what only the guest itself can do with its own disk.
grub-install --target=i386-pc /dev/vda
update-grub
# Without an id systemd takes the next boot for the first one, and presets would switch fstrim.timer on again.
systemd-machine-id-setup
grep -q 'root=/dev/vda1 ' /boot/grub/grub.cfg
