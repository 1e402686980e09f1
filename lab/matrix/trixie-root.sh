# Runs inside the root of a Debian from 13 on: systemd puts /tmp into memory itself (tmp.mount).
sed -i '/^tmpfs/d' /etc/fstab
