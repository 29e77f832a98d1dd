#!/bin/bash
# A small memory budget.
exec python3 "$(dirname "$0")/../e2e/memory.py" kafka
