#!/bin/sh
rsync -a --inplace --compress /var/lib/libvirt/images/db.img nas:/pool/
