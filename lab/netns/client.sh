# Runs as the first process of the client's namespaces (network, mount, PID, IPC): $1 is the range of the hosts, $2 the
# limit of the memory that the files of all hosts may take. Its first line of output is `ready`, or an error.
range=$1
size=$2

ip link set lo up
ip route add unreachable "$range"
mount -t proc proc /proc
# nothing of this machine that listens on a socket, nor its names of namespaces
mount -t tmpfs -o mode=755,size="$size" tmpfs /run
mkdir -p /run/hosts /run/netns /run/lock
mkdir -m 1777 /run/tmp
mkdir -m 700 /run/home /run/home/.ssh
# its libvirt, with its guests and its settings, does not exist for the client, nor do its settings of ssh
for place in /etc/libvirt /var/lib/libvirt /var/log/libvirt /var/cache/libvirt /etc/ssh /etc/ansible; do
    [ ! -d "$place" ] || mount -t tmpfs -o mode=755 tmpfs "$place"
done
# ssh looks up the home in passwd, whatever HOME is
sed 's|^\(root:[^:]*:0:[^:]*:[^:]*:\)[^:]*:|\1/run/home:|' /etc/passwd >/run/passwd
mount --bind /run/passwd /etc/passwd
printf '127.0.0.1 localhost\n' >/run/names
mount --bind /run/names /etc/hosts
echo ready
exec </dev/null >/dev/null 2>&1
# orphans are reaped by the kernel if their parent does not want to hear of them
trap '' CHLD
exec sleep infinity
