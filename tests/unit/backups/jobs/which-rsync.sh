#!/bin/bash
r=$(which rsync)
$r -a /var/lib/libvirt/images/ /backup/
