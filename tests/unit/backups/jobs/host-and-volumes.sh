#!/bin/bash
rsync -aAXH --exclude=/var/lib/libvirt/images/ --exclude=/srv --exclude=/proc / nas:/pool/host/
