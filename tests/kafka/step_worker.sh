#!/bin/bash
# The Python step worker against its contract, with no owner: the test writes tasks and reads reports.
. "$(dirname "$0")/../e2e/lib_python.sh"
exec "$python" "$(dirname "$0")/../e2e/step_worker.py"
