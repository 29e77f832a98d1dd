#!/bin/bash
# One manifest, its worker killed 20 times; on a real Kafka.
exec python3 "$(dirname "$0")/../e2e/kill_manifest.py" kafka
