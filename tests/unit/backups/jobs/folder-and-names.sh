#!/bin/bash
cd /var/lib/libvirt/images || exit 1
rsync -a web.qcow2 db.img nas:/pool/
