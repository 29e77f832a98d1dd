#!/bin/bash
# One manifest, its worker killed 20 times; on one file.
exec python3 "$(dirname "$0")/kill_manifest.py" sqlite
