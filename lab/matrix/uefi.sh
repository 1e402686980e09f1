# Runs inside the root once grub-pc has made room for grub-efi-amd64: what its grub-install would make of it.
cp -a /usr/lib/grub/x86_64-efi /boot/grub/
printf 'search.fs_uuid %s root\nset prefix=($root)/boot/grub\n' "$ROOT_UUID" >/load.cfg
grub-mkimage -O x86_64-efi -o /bootx64.efi -p /boot/grub -c /load.cfg \
	part_gpt ext2 search_fs_uuid normal configfile linux echo test gzio
rm -rf /load.cfg /boot/grub/i386-pc
