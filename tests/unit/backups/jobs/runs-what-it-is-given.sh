#!/bin/bash
run() { logger "$*"; "$@"; }
run rsync -a /var/lib/libvirt/images/ /backup/
