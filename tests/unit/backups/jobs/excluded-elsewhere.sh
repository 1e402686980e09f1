#!/bin/bash
rsync -a --exclude-from=/etc/not-copied / nas:/pool/host/
