#!/bin/bash
# No broker, no namespace: exit codes, bounded times, messages.
exec python3 "$(dirname "$0")/../e2e/broker_gone.py" kafka
