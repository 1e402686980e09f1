# Runs as the first process of a plain disk that has no others beside it: what takes a kernel.
mkswap /dev/vda2
update-grub
grep -q 'root=/dev/vda1 ' /boot/grub/grub.cfg
