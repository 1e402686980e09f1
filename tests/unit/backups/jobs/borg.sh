#!/bin/bash
virsh snapshot-create-as web still --disk-only --no-metadata
borg create /backup/borg::'{now}' /var/lib/libvirt/images
virsh blockcommit web vda --active --pivot
