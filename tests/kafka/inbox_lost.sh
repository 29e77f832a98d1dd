#!/bin/bash
# Rule 16: an inbox that lost commands nobody has taken is refused.
exec python3 "$(dirname "$0")/../e2e/inbox_lost.py"
