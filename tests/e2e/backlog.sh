#!/bin/bash
# Commands by the thousand while the log stands still.
exec python3 "$(dirname "$0")/backlog.py" sqlite
