#!/bin/bash
tee /backup/db.img < /var/lib/libvirt/images/db.img > /dev/null
