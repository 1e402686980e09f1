#!/bin/bash
virtnbdbackup -d web -l auto -o /backup/web
