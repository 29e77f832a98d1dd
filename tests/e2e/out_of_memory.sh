#!/bin/bash
# The kernel kills a worker for want of memory.
exec python3 "$(dirname "$0")/out_of_memory.py" sqlite
