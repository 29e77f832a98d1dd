#!/bin/bash
# 20,000 short jobs in a file that forgets: it and the worker stay small.
exec python3 "$(dirname "$0")/retention.py" sqlite
