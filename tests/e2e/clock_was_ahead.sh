#!/bin/bash
# An embedded log whose newest records are from the future.
exec python3 "$(dirname "$0")/clock_was_ahead.py"
