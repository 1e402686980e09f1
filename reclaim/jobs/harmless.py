"""Programs that copy no image to a backup, with any options. A program that is neither here nor known could."""

#: by their names, POSIX's, coreutils', util-linux's and those that jobs call beside their copies
HARMLESS = frozenset(
    """
    : [ [[ test true false echo printf exit return break continue logger wall mail mailx sendmail mutt msmtp ssmtp
    swaks notify-send sleep date hostname hostnamectl uname whoami id who w uptime ulimit umask jobs disown kill
    killall pkill pgrep pidof ps top free vmstat iostat lsof fuser ls dir stat file find locate du df findmnt lsblk
    blkid blockdev mountpoint umount fusermount guestunmount sync rm rmdir unlink mkdir mktemp touch chmod chown
    chgrp chattr lsattr setfacl getfacl setfattr getfattr restorecon chcon basename dirname realpath readlink pwd
    cd dirs type hash which command alias unalias shopt set unset export declare local readonly typeset let expr bc
    seq sha1sum sha224sum sha256sum sha384sum sha512sum md5sum b2sum cksum sum xxhsum xxh64sum cmp diff comm sort
    uniq head tail cut tr sed awk gawk mawk grep egrep fgrep zgrep wc tac rev column paste join fold fmt nl tee od
    hexdump xxd strings iconv jq yq xmllint xpath xmlstarlet yes clear tput stty reset read mapfile getopt getopts
    getconf locale fstrim fallocate truncate kpartx partprobe partx udevadm dmsetup dmesg modprobe rmmod
    sysctl ip ifconfig ping ping6 fping nmcli ethtool host dig nslookup getent arp wakeonlan etherwake wol lvs vgs
    pvs lvdisplay vgdisplay pvdisplay lvremove lvrename lvextend lvchange lvresize vgchange vgscan pvscan lvscan
    lvconvert lvreduce pvresize vgextend smartctl hdparm sdparm hd-idle sg_start mdadm cryptsetup zpool sanoid
    snapper timeshift-list e2fsck fsck xfs_repair tune2fs resize2fs xfs_info swapon swapoff logrotate flock lockfile
    lockfile-create lockfile-remove dotlockfile apt apt-get dpkg rpm dnf yum zypper pacman pip git svn crontab
    timedatectl journalctl loginctl nft iptables ufw firewall-cmd gpg-agent ssh-add ssh-agent ssh-keygen ssh-keyscan
    ssh-copy-id virt-df virt-filesystems virt-inspector virt-ls virt-cat virt-log virt-alignment-scan
    virt-host-validate virt-xml virt-install virt-diff guestmount osinfo-query virtnbdrestore virtnbdmap
    nbdinfo setsebool getenforce aa-status telegram-send pushover ntfy apprise healthchecks nagios send_nsca
    zabbix_sender gotify exec eval trap shift wait times caller enable bind history fc builtin bg fg select time
    suspend logout renice ionice chrt cpupower dumpe2fs debugfs filefrag compsize duperemove bees
    """.split()  # noqa: SIM905
)

#: programs that keep or send what they are given in ways that nobody judges here: what to do instead
NOT_JUDGED = {
    **dict.fromkeys(("docker", "podman", "nerdctl", "lxc-attach", "lxc", "systemd-nspawn", "machinectl", "kubectl"),
                    "it runs in a container: declare the job that runs in it"),
    **dict.fromkeys(("borgmatic",), "declare its configuration, /etc/borgmatic/config.yaml, as the job"),
    **dict.fromkeys(("btrbk",), "declare its configuration, /etc/btrbk/btrbk.conf, as the job"),
    **dict.fromkeys(("rsnapshot",), "declare its configuration, /etc/rsnapshot.conf, as the job"),
    **dict.fromkeys(("dirvish", "dirvish-runall"), "declare its configuration, master.conf of dirvish, as the job"),
    **dict.fromkeys(("syncoid", "znapzend", "zrepl", "pyznap", "snap-sync", "buttersink", "zfs_autobackup",
                     "zfs-autobackup"), "it sends snapshots of its own: reclaim does not judge their content"),
    **dict.fromkeys(("make", "gmake", "just", "ninja"), "reclaim does not read the commands of its rules"),
    **dict.fromkeys(("ansible", "ansible-playbook"), "it is Ansible: reclaim reads shell"),
    **dict.fromkeys(("at", "batch"), "the command that it is given runs later: declare that as the job"),
    **dict.fromkeys(("guestfish", "virt-copy-out", "virt-tar-out", "virt-v2v", "virt-make-fs", "virt-p2v"),
                    "reclaim does not judge the files that it writes"),
    **dict.fromkeys(("cpio", "pax", "dump", "xfsdump", "partclone", "partimage", "fsarchiver", "ddrescue", "dcfldd",
                     "install", "sftp", "lftp", "ncftpput", "ftp", "smbclient", "socat", "nc", "ncat", "netcat",
                     "bsdtar", "star", "dar", "unison", "csync2", "lsyncd", "rdiff", "zsync", "fpsync", "udpcast",
                     "nbdcopy", "bbcp", "croc", "vzdump", "virt-backup", "virt-backup.pl", "virt-bak", "backup-vm"),
                    "reclaim does not judge whether it keeps the holes of an image"),
}  # fmt: skip
