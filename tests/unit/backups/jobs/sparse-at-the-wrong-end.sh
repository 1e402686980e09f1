#!/bin/bash
rsync -a -M--sparse /var/lib/libvirt/images/db.img /backup/
