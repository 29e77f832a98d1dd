#!/bin/bash
# Limits on steps that run in a worker.
exec python3 "$(dirname "$0")/../e2e/step_limits.py" kafka
