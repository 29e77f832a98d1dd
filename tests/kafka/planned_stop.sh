#!/bin/bash
# SIGTERM and SIGUSR1 of a busy worker: steps end, the membership stays or goes.
exec python3 "$(dirname "$0")/../e2e/planned_stop.py" kafka
