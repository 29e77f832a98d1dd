#!/bin/bash
# A job whose code was changed under it.
exec python3 "$(dirname "$0")/diverged.py" sqlite
