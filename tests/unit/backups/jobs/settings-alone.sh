#!/bin/bash
rsync -a --delete /etc /root nas:/pool/
