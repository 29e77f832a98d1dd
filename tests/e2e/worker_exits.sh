#!/bin/bash
# The health file that a container's check looks at; a worker at rest, and one that is stopped before it serves.
exec python3 "$(dirname "$0")/worker_exits.py" sqlite
