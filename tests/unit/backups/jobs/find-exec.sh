#!/bin/bash
find /var/lib/libvirt/images -name '*.qcow2' -mtime -2 -exec cp {} /backup/ ';'
