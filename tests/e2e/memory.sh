#!/bin/bash
# A small memory budget.
exec python3 "$(dirname "$0")/memory.py" sqlite
