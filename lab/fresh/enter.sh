# Runs in mount and PID namespaces of its own: makes the folder $1 the root of a machine, and runs the rest of the
# arguments there. $2 has a line `FOLDER PLACE` for each folder that is kept from one machine to the next.
root=$1
kept=$2
shift 2

mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
# a fresh machine has no libvirt of ours
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mkdir -m 1777 "$root/run/lock"
# of the size that a small machine with /tmp in its memory has
mount -t tmpfs -o mode=1777,size=2g tmpfs "$root/tmp"
if [ -e "$root/dev/kvm" ]; then
    # access(2) refuses to write to a file on a read-only filesystem, of root too. libvirtd that may open the device and
    # cannot use it asks QEMU anew at each definition.
    mkdir "$root/run/no-kvm"
    mount -t tmpfs -o mode=755 tmpfs "$root/run/no-kvm"
    : >"$root/run/no-kvm/kvm"
    chmod 666 "$root/run/no-kvm/kvm"
    mount -o remount,ro "$root/run/no-kvm"
    mount --bind "$root/run/no-kvm/kvm" "$root/dev/kvm"
    umount -l "$root/run/no-kvm"
    rmdir "$root/run/no-kvm"
fi
while read -r folder place; do
    mkdir -p "$root$place"
    mount --bind "$folder" "$root$place"
done <"$kept"

cd "$root"
pivot_root . .
umount -l .
# as a service manager has it, among themselves: libvirt 11.3 hands the file that hides /dev/kvm to QEMU that way
mount --make-rshared /
cd /root
# no exec: the first process of a PID namespace has to wait for orphans, which the shell does
"$@" || exit
