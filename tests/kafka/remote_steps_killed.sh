#!/bin/bash
# Remote steps while owners and step workers are killed.
. "$(dirname "$0")/../e2e/lib_python.sh"
exec "$python" "$(dirname "$0")/../e2e/remote_steps_killed.py"
