# Runs as the first process of a host's namespaces (network, mount, UTS, PID, IPC): makes an overlay the root of the host
# $1, with the folder $2 as its lower layer and the upper one in $3. Then it runs the script $4 there, with the arguments
# that are left.
name=$1
lower=$2
folder=$3
script=$4
shift 4

mkdir -p "$folder/upper" "$folder/work" "$folder/root"
root=$folder/root
mount -t overlay -o "lowerdir=$lower,upperdir=$folder/upper,workdir=$folder/work" overlay "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys"
mount -t tmpfs -o mode=755,nosuid,noexec tmpfs "$root/run"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/tmp"
# no disk, no loop device, no /dev/kvm: nothing in there leads to this machine's own
mount -t tmpfs -o mode=755,nosuid,noexec tmpfs "$root/dev"
while read -r device minor; do
    mknod -m 666 "$root/dev/$device" c 1 "$minor"
done <<END
null 3
zero 5
full 7
random 8
urandom 9
END
mknod -m 666 "$root/dev/tty" c 5 0
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666,mode=620,nosuid,noexec devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/dev/shm"
ln -s /proc/self/fd "$root/dev/fd"
for number in 0:stdin 1:stdout 2:stderr; do
    ln -s "/proc/self/fd/${number%:*}" "$root/dev/${number#*:}"
done

cd "$root"
pivot_root . .
umount -l .
cd /
hostname "$name"
mkdir -p /run/sshd /run/lock
# it can make no device either, and touch neither clock nor kernel
exec setpriv --bounding-set -mknod,-sys_module,-sys_rawio,-sys_time,-sys_boot,-syslog sh -eu -c "$script" sh "$@"
