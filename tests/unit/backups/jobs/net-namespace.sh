#!/bin/bash
ip netns exec backup rsync -a /var/lib/libvirt/images/db.img nas:/pool/
