#!/bin/bash
# Attempts of steps completed from outside.
exec python3 "$(dirname "$0")/outside.py"
