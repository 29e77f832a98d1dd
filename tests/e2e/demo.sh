#!/bin/bash
# The demo, as a terminal shows it.
exec python3 "$(dirname "$0")/demo.py" sqlite
