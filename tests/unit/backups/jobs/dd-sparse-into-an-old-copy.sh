#!/bin/bash
dd if=/var/lib/libvirt/images/db.img of=/backup/db.img bs=1M conv=notrunc,sparse
