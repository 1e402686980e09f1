#!/bin/bash
opts=(-a --delete)
[ -t 1 ] && opts+=(--progress)
rsync "${opts[@]}" /var/lib/libvirt/images/db.img /backup/
