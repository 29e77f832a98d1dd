#!/bin/bash
# Sleeping jobs, and a restart.
exec python3 "$(dirname "$0")/sleepers.py" sqlite
