#!/bin/bash
set -o pipefail
lvcreate -L 8G -s -n mail_snap vgvm/mail
zstd -3 < /dev/vgvm/mail_snap > /backup/mail.zst
lvremove -y vgvm/mail_snap
