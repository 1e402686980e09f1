#!/bin/bash
tar -czpf /backup/host.tgz --one-file-system --exclude=/var/lib/libvirt --exclude=/srv /
