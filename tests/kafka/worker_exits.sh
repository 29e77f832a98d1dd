#!/bin/bash
# Exit codes 6 and 7, and 2 for what the brokers do not take.
exec python3 "$(dirname "$0")/../e2e/worker_exits.py" kafka
