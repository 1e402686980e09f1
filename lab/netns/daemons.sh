# The first process of a host, in its root: its link is there, without an address at the first start. $1 is its address, $2 the range of
# all hosts.
ip link set lo up
ip address replace "$1" dev eth0
ip link set eth0 up
ip route replace unreachable "$2"
virtlogd --daemon
libvirtd --daemon
exec /usr/sbin/sshd -D -E /var/log/sshd.log
