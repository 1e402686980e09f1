#!/bin/bash
s=/dev/vgvm/mail-s
lvcreate -s -n mail-s -L 2G /dev/vgvm/mail
dd bs=4M if=$s of=/backup/mail.img
lvremove -f $s
