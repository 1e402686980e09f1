#!/bin/sh
virsh destroy db
pigz < /var/lib/libvirt/images/db.img > /backup/db.img.gz
