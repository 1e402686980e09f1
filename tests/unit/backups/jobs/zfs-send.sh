#!/bin/sh
zfs snapshot tank/vm@$(date +%F)
zfs send -i tank/vm@last tank/vm@$(date +%F) | ssh nas zfs receive -F pool/vm
