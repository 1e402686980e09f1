#!/bin/bash
rsync -aM--sparse /var/lib/libvirt/images/db.img nas:/pool/
