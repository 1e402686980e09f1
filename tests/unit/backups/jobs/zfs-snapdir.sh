#!/bin/sh
zfs snapshot tank/vm@nightly
rsync -aS /srv/vm/.zfs/snapshot/nightly/ /backup/vm/
zfs destroy tank/vm@nightly
