#!/bin/sh
/opt/acme/bin/vmguard --all --to /backup
