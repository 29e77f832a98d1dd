#!/bin/bash
# Sixteen clients start the same id: one run.
exec python3 "$(dirname "$0")/duplicate_starts.py" sqlite
