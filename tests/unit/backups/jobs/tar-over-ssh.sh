#!/bin/sh
tar -C /var/lib/libvirt/images -cf - db.img | ssh nas 'tar -xf - -C /pool/vm'
