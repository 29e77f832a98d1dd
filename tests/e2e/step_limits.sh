#!/bin/bash
# Limits on steps that run in a worker.
exec python3 "$(dirname "$0")/step_limits.py" sqlite
