#!/bin/bash
# Remote steps end to end: the owner in C, step workers in Python, a real Kafka.
. "$(dirname "$0")/../e2e/lib_python.sh"
exec "$python" "$(dirname "$0")/../e2e/remote_steps.py"
