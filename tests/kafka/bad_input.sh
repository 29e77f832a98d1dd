#!/bin/bash
# What a user may do wrong is refused and named.
exec python3 "$(dirname "$0")/../e2e/bad_input.py" kafka
