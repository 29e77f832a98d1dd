#!/bin/bash
# The health file that a container's check looks at.
exec python3 "$(dirname "$0")/worker_exits.py" sqlite
