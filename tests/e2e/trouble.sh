#!/bin/bash
# Steps and jobs that hang, crash and overflow.
exec python3 "$(dirname "$0")/trouble.py" sqlite
