#!/bin/bash
screen -dmS nightly rsync -a /var/lib/libvirt/images/ /backup/
