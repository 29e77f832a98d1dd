#!/bin/bash
# The checker on a log whose heads are cut away while it reads.
exec python3 "$(dirname "$0")/../e2e/verify_live.py" kafka
