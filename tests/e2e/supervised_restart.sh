#!/bin/bash
# kill -9 of a supervised worker, and of its supervisor.
exec python3 "$(dirname "$0")/supervised_restart.py" sqlite
