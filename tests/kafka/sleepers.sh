#!/bin/bash
# Sleeping jobs, and a restart.
exec python3 "$(dirname "$0")/../e2e/sleepers.py" kafka
