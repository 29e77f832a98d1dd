#!/bin/bash
# A disk that fills up: nothing acknowledged is lost.
exec python3 "$(dirname "$0")/disk_full.py" sqlite
