#!/bin/bash
# What a user may do wrong is refused and named.
exec python3 "$(dirname "$0")/bad_input.py" sqlite
