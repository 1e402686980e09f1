#!/bin/bash
btrfs subvolume snapshot -r /srv/vm /srv/.today
rsync -a /srv/.today/ /backup/vm/
