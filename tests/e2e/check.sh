#!/bin/bash
# perdure check on a file.
exec python3 "$(dirname "$0")/check.py"
