#!/bin/bash
scp /var/lib/libvirt/images/web.qcow2 nas:/pool/
