#!/bin/bash
# Two workers on one file: the second is refused.
exec python3 "$(dirname "$0")/two_workers.py" sqlite
