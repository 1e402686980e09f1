#!/bin/bash
device=$(losetup --find --show --read-only /var/lib/libvirt/images/db.img)
dd if="$device" of=/backup/db.img bs=4M
