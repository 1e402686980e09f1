#!/bin/sh
zstd -T0 -o /backup/web.qcow2.zst /var/lib/libvirt/images/web.qcow2
