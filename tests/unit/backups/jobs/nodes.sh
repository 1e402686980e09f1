#!/bin/bash
cp -a /dev/vgvm /backup/nodes
