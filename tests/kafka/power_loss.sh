#!/bin/bash
# A lone broker loses the tail of its journal: noticed, and done again.
exec python3 "$(dirname "$0")/../e2e/power_loss.py" kafka
