#!/bin/sh
rsync -aS --whole-file /var/lib/libvirt/images/db.img nas:/pool/
