#!/bin/bash
rsync -a /var/lib/libvirt/images/ $1
