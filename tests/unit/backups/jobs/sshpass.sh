#!/bin/bash
sshpass -e rsync -az /var/lib/libvirt/images/ backup@nas:/pool/
