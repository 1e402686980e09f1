#!/bin/bash
dd if=/dev/vgvm/mail of=/backup/mail.mbr bs=512 count=1
rsync -aS /var/lib/libvirt/images/db.img /backup/
