#!/bin/bash
# Exit codes 6 and 7.
exec python3 "$(dirname "$0")/../e2e/worker_exits.py" kafka
