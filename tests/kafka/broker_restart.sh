#!/bin/bash
# Brokers killed and restarted under load: nothing acknowledged is lost.
exec python3 "$(dirname "$0")/../e2e/broker_restart.py" kafka
