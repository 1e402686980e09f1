#!/bin/bash
how=(-a)
mapfile -t how < /etc/how
rsync "${how[@]}" /var/lib/libvirt/images/db.img /backup/
