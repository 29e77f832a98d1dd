#!/bin/bash
# Remote steps: jobs in C, steps in Python.
. "$(dirname "$0")/../e2e/lib_python.sh"
exec "$python" "$(dirname "$0")/../e2e/errands.py"
