#!/bin/bash
dd if=/var/lib/libvirt/images/db.img bs=1M | ssh nas 'dd of=/pool/db.img conv=sparse,notrunc'
