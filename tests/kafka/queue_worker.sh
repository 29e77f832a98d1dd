#!/bin/bash
# perdure worker --queue: steps in C, against the same contract.
. "$(dirname "$0")/../e2e/lib_python.sh"
exec "$python" "$(dirname "$0")/../e2e/queue_worker.py"
