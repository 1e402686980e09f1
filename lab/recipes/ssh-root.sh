# Runs inside the new root file system after article-root.sh: a guest with a network, whose user comes in by ssh.
useradd --create-home --shell /bin/bash admin
printf 'admin ALL=(ALL) NOPASSWD: ALL\n' >/etc/sudoers.d/admin
chmod 440 /etc/sudoers.d/admin
install -d -m 700 -o admin -g admin /home/admin/.ssh
install -m 600 -o admin -g admin /root/lab.pub /home/admin/.ssh/authorized_keys
rm /root/lab.pub
# As many do, and what must not get into what is read: a greeting from a file that ssh's shells read as well.
sed -i '1i echo "Welcome to reclaim-lab"' /home/admin/.bashrc
printf 'Authorized users only.\n' >/etc/issue.net
printf 'Banner /etc/issue.net\nPasswordAuthentication no\nUseDNS no\n' >/etc/ssh/sshd_config.d/lab.conf

printf '[Match]\nType=ether\n[Network]\nDHCP=ipv4\n' >/etc/systemd/network/lab.network
systemctl enable systemd-networkd ssh
