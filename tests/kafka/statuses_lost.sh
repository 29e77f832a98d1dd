#!/bin/bash
# Statuses that the brokers do not take before the worker dies.
exec python3 "$(dirname "$0")/../e2e/statuses_lost.py" kafka
