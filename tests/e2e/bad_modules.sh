#!/bin/bash
# Modules that are none are refused.
exec python3 "$(dirname "$0")/bad_modules.py" sqlite
